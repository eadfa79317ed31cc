"""Shared by the scripts that move entries between streams and count them in the ledger."""

from __future__ import annotations

from importlib.resources import files

from tracker.domain.click_id import millis_of
from tracker.stream import keys
from tracker.stream.ledger import LEDGER_HOURS
from tracker.stream.record import hash_of

STORED, DUPLICATE = b"x", b"u"
"""Kinds of entries that leave the stream for the table."""

_MINUTE = 60_000
_UNKNOWN = 0  # the minute of an entry whose hash cannot be read


def script(name: str) -> str:
    """The text of a script of this package, with count.lua before it."""
    return "".join((files(__package__) / "lua" / file).read_text() for file in ("count.lua", name))


def first_arguments(partition: int) -> tuple[bytes, bytes]:
    """The arguments of count.lua."""
    return keys.ledger_prefix(partition), b"%d" % (LEDGER_HOURS * 3600)


def minute_of(fields: dict[bytes, bytes]) -> int:
    """The Unix minute that an entry counts for."""
    hash_ = hash_of(fields)
    return _UNKNOWN if hash_ is None else millis_of(hash_) // _MINUTE


def minute_of_sound(fields: dict[bytes, bytes]) -> int:
    """The Unix minute of an entry that has been decoded. Cheaper than minute_of."""
    return int(fields[b"r"][3:15], 16) // _MINUTE
