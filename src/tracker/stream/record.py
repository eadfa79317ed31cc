"""The entries of the stream, one a click: `encode` next to `decode`."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
from socket import AF_INET6, inet_pton
from typing import Any, Final, NamedTuple
from zlib import crc32

import orjson

from tracker.domain.click_fields import ADV_SUBS, AFF_SUBS, STORED
from tracker.domain.click_id import is_click_hash, millis_of
from tracker.domain.model import (
    Click,
    ClickRow,
    Counter,
    Device,
    Geo,
    Link,
    Outcome,
    Outcomes,
    Reason,
    Status,
    Visitor,
    fast,
)

VERSIONS: Final[tuple[int, ...]] = (1, 2)
"""The versions of records that workers of this release read: the former one, and the new one.

A record's version is its first byte. A worker sends records of other versions to the dead letters.
Version 2 may have no device: the worker reads it from the visitor's User-Agent and client hints.
"""
OLDEST, NEWEST = VERSIONS[0], VERSIONS[-1]
FIRST_WITHOUT_DEVICE = 2

_WITH_DEVICE: Final = b"\x01"
_WITHOUT_DEVICE: Final = b"\x02"
ANSWER_BYTES = 17
"""Length of the script's answer for one click, which it stores beside the record."""

UNKNOWN_LIVE = b"4"
"""The outcome's number of a live click without room to remember its visitor."""

_MEANINGS = {  # of the outcomes' numbers, see record_clicks.lua: place in Outcomes, is_late, is_unknown
    ord("0"): (0, False, False),
    ord("1"): (1, False, False),
    ord("2"): (2, False, False),
    ord("3"): (0, True, False),
    ord(UNKNOWN_LIVE): (0, False, True),
    ord("5"): (0, True, True),
}
OUTCOME_PLACES = bytes(_MEANINGS.get(number, (number,))[0] for number in range(256))
"""For bytes.translate: outcomes' numbers to their places in Outcomes."""

_NO_HASH = bytes(16)
_HASH_BEGINS, _HASH_ENDS = 3, 35  # in a record: after the version, a bracket and a quotation mark
_STORED_OF_LINK: Final = Link._fields.index("deep_link")  # what follows only steers the redirect
_LAST_MILLIS = 253_402_300_799_999  # the end of the year 9999, the last one of Python's dates
_CONTROL: Final = struct.Struct(">cIQ16s")
_FORMER: Final = struct.Struct(">cIQ")
_CONTROL_ENDS: Final = _CONTROL.size
_MILLIS_BEGIN: Final = _CONTROL_ENDS - 16  # in a control: its hash begins with them
_MILLIS_END: Final = _CONTROL_ENDS - 10
_NETWORK_AT: Final = 25  # in the control's word: above the window
_NETWORKS: Final = 127  # numbers of networks, from 1 on
_TAKES: Final = b"U"
_TAKES_UNLESS_DUPLICATE: Final = b"D"
_LOOKS: Final = b"L"
_ACCEPTED: Final = Status.ACCEPTED
_MASK: Final = (1 << 64) - 1
_OFFER_SPREAD: Final = 0x9E3779B97F4A7C15
_AFFILIATE_SPREAD: Final = 0xC2B2AE3D27D4EB4F

COPY: Final = b"c"
"""A field of entries that take the place of a lost server's entry, whose click may be in the table."""

Entry = tuple[bytes, bytes]
"""A click on its way to the stream: its control for the script, and its record."""


class Undecodable(ValueError):  # noqa: N818 - describes the entry
    """An entry of the stream that cannot be read. The message says why."""


class Decision(NamedTuple):
    """The stream's decision on one click."""

    outcome: int  # place in Outcomes
    first_hash: str | None  # of the visitor's first click in the window
    is_late: bool = False  # a spooled click, which was answered with its first outcome
    is_unknown: bool = False  # no room to remember the visitor: the answer is the first outcome


def encode(click: Click, outcomes: Outcomes) -> Entry:
    """The entry of a click. Its record has the lowest version that can hold the click.

    It is positional and mirrored by `decode`: change both and VERSIONS together.
    """
    unique, duplicate, capped = outcomes
    hash_, affiliate = click.hash, click.affiliate
    device = click.device[:] if isinstance(click.device, Device) else None
    record = orjson.dumps(
        (
            hash_,
            click.bot_reason,
            click.is_test,
            click.visitor_key,
            affiliate.id,
            affiliate.group_id,
            click.link[:_STORED_OF_LINK],
            click.visitor[:],  # as a plain tuple: orjson takes no other
            device,
            click.geo[:],
            [unique[:]] if unique is duplicate is capped else [outcome[:] for outcome in outcomes],
        )
    )
    return _control(click, outcomes), (_WITHOUT_DEVICE if device is None else _WITH_DEVICE) + record


def _control(click: Click, outcomes: Outcomes) -> bytes:
    """A click's control for record_clicks.lua, whose head describes its layout."""
    offer = click.offer
    fingerprint = of_offer = click.visitor_key ^ offer.id * _OFFER_SPREAD
    if offer.unique_per_affiliate:
        fingerprint ^= click.affiliate.id * _AFFILIATE_SPREAD
    if outcomes.unique.status is not _ACCEPTED or click.bot_reason is not None or click.is_test:
        kind = _LOOKS
    else:
        kind = _TAKES if outcomes.duplicate.status is _ACCEPTED else _TAKES_UNLESS_DUPLICATE
    word = network_number(click.visitor.ip) << _NETWORK_AT | offer.unique_window
    control = _CONTROL.pack(kind, word, fingerprint & _MASK, bytes.fromhex(click.hash))
    if offer.former_uniqueness:
        control += _former_places(click, of_offer)
    if not click.counters or kind is _LOOKS:
        return control
    return control + _packed(click.counters)


def _former_places(click: Click, of_offer: int) -> bytes:
    """Where settings of before the offer was changed may remember the visitor."""
    of_affiliate = of_offer ^ click.affiliate.id * _AFFILIATE_SPREAD
    return b"".join(
        [
            _FORMER.pack(b"f", window, (of_affiliate if per_affiliate else of_offer) & _MASK)
            for window, per_affiliate, until in click.offer.former_uniqueness
            if click.millis < until
        ]
    )


@lru_cache(65_536)
def network_number(ip: str) -> int:
    """The number of an address' network (IPv4: /24, IPv6: /48), 1 to 127. 0 without an address.

    Networks share numbers. A site gets at most a /48 of IPv6 (RFC 6177).
    """
    if not ip:
        return 0
    network = inet_pton(AF_INET6, ip)[:6] if ":" in ip else ip.rpartition(".")[0].encode()
    return crc32(network) % _NETWORKS + 1


@lru_cache(maxsize=8192)
def _packed(counters: tuple[Counter, ...]) -> bytes:
    return b"".join(map(_item, counters))


def _item(counter: Counter) -> bytes:
    name = counter.name.encode()
    return b"%c%b%b%c%b" % (
        b"u" if counter.uniques_only else b"c",
        counter.limit.to_bytes(6, "big"),
        counter.expires.to_bytes(6, "big"),
        len(name),
        name,
    )


def decode(fields: dict[bytes, bytes]) -> ClickRow:
    """The row of an entry.

    Raises:
        Undecodable: not a record of a version this writer reads, or one that is damaged.
    """
    try:
        answer, record = fields[b"a"], fields[b"r"]
        return _row(read_answer(answer), _parts(record))
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        if isinstance(error, Undecodable):
            raise
        raise Undecodable(f"{type(error).__name__}: {error}") from error


def in_oldest(record: bytes) -> bytes:
    """A record in the oldest version, which every worker reads. One that cannot be read stays as it is."""
    if record[:1] != _WITHOUT_DEVICE:
        return record
    try:
        return _WITH_DEVICE + orjson.dumps(_parts(record))
    except (AttributeError, KeyError, IndexError, TypeError, ValueError):
        return record


def _parts(record: bytes) -> list[Any]:
    version = record[:1]
    if version not in (_WITH_DEVICE, _WITHOUT_DEVICE):
        raise Undecodable(f"record version {version!r} is unknown")
    parts: list[Any] = orjson.loads(record[1:])
    if version == _WITHOUT_DEVICE and parts[_DEVICE_AT] is None:
        visitor = parts[_VISITOR_AT]
        parts[_DEVICE_AT] = _device_reader()(visitor[_USER_AGENT], visitor[_CLIENT_HINTS])[:]
    return parts


@cache
def _device_reader() -> Callable[[str, str], Device]:
    # Imported here: most commands that load this module read no device.
    from tracker import device

    return device.read


def _row(answer: Decision, record: list[Any]) -> ClickRow:
    (
        hash_,
        bot_reason,
        is_test,
        visitor_key,
        affiliate_id,
        aff_group_id,
        link,
        visitor,
        device,
        geo,
        chosen,
    ) = record
    if not is_click_hash(hash_) or millis_of(hash_) > _LAST_MILLIS:
        raise Undecodable(f"{hash_!r} is no click hash of this age")
    place, first_hash, is_late, is_unknown = answer
    outcome = chosen[place] if len(chosen) > 1 else chosen[0]
    if is_unknown:
        outcome[_REASON] = Reason.VISITOR_UNKNOWN.value
    row = _in_columns(
        hash_,
        first_hash,
        first_hash == hash_,
        bot_reason is not None,
        bot_reason,
        is_test,
        is_late,
        affiliate_id,
        aff_group_id,
        visitor_key - (visitor_key >> 63 << 64),  # the column is signed
        link,
        visitor,
        device,
        geo,
        outcome,
    )
    return fast(ClickRow, row)


_VISITOR_AT, _DEVICE_AT = 7, 8  # in a record
_USER_AGENT, _CLIENT_HINTS = map(Visitor._fields.index, ("user_agent", "client_hints"))
_REASON = Outcome._fields.index("reason")
_QUICK = 30  # the most values of which CPython makes a tuple without a list
_OF_RECORD = (
    *("hash", "group_hash", "is_unique", "is_bot", "bot_reason", "is_test", "verdict_late"),
    *("affiliate_id", "aff_group_id", "visitor_key"),
)
_NOUNS: Mapping[str, Sequence[str]] = {
    "link": Link._fields[:_STORED_OF_LINK],
    "visitor": Visitor._fields,
    "device": Device._fields,
    "geo": Geo._fields,
    "outcome": Outcome._fields,
}


def _names(noun: str) -> str:
    """The columns of a noun's values, in their order. A value without a column gets a name of its own."""
    columns = {field.called or field.name: field.name for field in STORED if field.of == noun}
    return ", ".join(columns.get(name, f"{noun}_{name}") for name in _NOUNS[noun])


def _compiled() -> Callable[..., tuple[Any, ...]]:
    """A function of the parts of a record, which returns a row.

    It is compiled, as dataclasses are, because an itemgetter makes decoding a fifth slower. Unpacking raises
    where a part is too short or too long.
    """
    unpacked = [
        *(f"{_names(noun)} = {noun}" for noun in _NOUNS),
        f"{', '.join(AFF_SUBS)} = link_aff_subs",
        f"{', '.join(ADV_SUBS)} = link_adv_subs",
    ]
    columns = ClickRow._fields
    parts = [f"({', '.join(columns[at : at + _QUICK])},)" for at in range(0, len(columns), _QUICK)]
    source = f"""
def in_columns({", ".join((*_OF_RECORD, *_NOUNS))}):
    {"; ".join(unpacked)}
    return {" + ".join(parts)}
"""
    compiled: dict[str, Any] = {}
    exec(source, compiled)  # noqa: S102 - made of the names above only
    in_columns: Callable[..., tuple[Any, ...]] = compiled["in_columns"]
    return in_columns


_in_columns = _compiled()


def read_answer(packed: bytes) -> Decision:
    first, meaning = packed[1:ANSWER_BYTES], _MEANINGS.get(packed[0])
    if meaning is None:
        raise ValueError(f"outcome {packed[:1]!r} is unknown")
    outcome, is_late, is_unknown = meaning
    return fast(Decision, (outcome, None if first == _NO_HASH else first.hex(), is_late, is_unknown))


def millis_of_entry(entry: Entry) -> int:
    """The time of an entry's click, in Unix milliseconds."""
    return int.from_bytes(entry[0][_MILLIS_BEGIN:_MILLIS_END])


def hash_of_entry(entry: Entry) -> bytes:
    """The hash of an entry's click, in hex."""
    return entry[0][_MILLIS_BEGIN:_CONTROL_ENDS].hex().encode()


def hash_of(fields: dict[bytes, bytes]) -> str | None:
    """The hash of an entry, which is readable even in a damaged record: its place is fixed."""
    text = fields.get(b"r", b"")[_HASH_BEGINS:_HASH_ENDS].decode("ascii", "replace")
    return text if is_click_hash(text) else None
