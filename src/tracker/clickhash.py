"""Click hashes: UUIDv7 (RFC 9562, section 5.7) as 32 lowercase hex digits, and the time they carry.

A hash sorts by its millisecond, so a time range is a hash range: the clicks table is partitioned,
filtered and paged by it.
"""

from __future__ import annotations

import os
from itertools import count
from time import time_ns

HASH_LENGTH = 32
ZERO_HASH = "0" * HASH_LENGTH
"""What HEAD and previews get in place of a hash."""

_VERSION = 0x7 << 76
_VARIANT = 0x2 << 62
_MAX_MILLIS = (1 << 48) - 1
_RANDOM_BYTES = 10 * 1024
_HEX = frozenset("0123456789abcdef")


class Mint:
    """Mints the hashes of one process: strictly increasing, also when the clock steps back.

    Bits after the version: 12 bits count within the millisecond, 62 bits are random (RFC 9562, method 1
    of section 6.2). Random bytes are drawn from the kernel a thousand hashes at a time.
    """

    def __init__(self) -> None:
        self._millis = 0
        self._sequence = 0
        self._random = b""
        self._taken = count(0, 8)

    def hash(self) -> str:
        millis = time_ns() // 1_000_000
        if millis > self._millis:
            self._millis = millis
            self._sequence = 0
        elif self._sequence == 0xFFF:
            self._millis += 1  # a full millisecond, or a clock that stepped back: run on ahead of it
            self._sequence = 0
        else:
            self._sequence += 1
        return f"{self._millis << 80 | _VERSION | self._sequence << 64 | _VARIANT | self._random_62():032x}"

    def _random_62(self) -> int:
        at = next(self._taken)
        if at >= len(self._random):
            self._random = os.urandom(_RANDOM_BYTES)
            self._taken = count(8, 8)
            at = 0
        return int.from_bytes(self._random[at : at + 8]) >> 2


def millis_of(hash_: str) -> int:
    """Unix milliseconds at which a hash was minted."""
    return int(hash_[:12], 16)


def first_hash_at(millis: int) -> str:
    """The lowest hash that a given Unix millisecond can have: the bound of a time range.

    Raises:
        ValueError: outside the 48 bits that a UUIDv7 has for its time (1970 to 10889).
    """
    if not 0 <= millis <= _MAX_MILLIS:
        raise ValueError(f"{millis} ms is outside the time a click hash can carry")
    return f"{millis:012x}".ljust(HASH_LENGTH, "0")


def is_click_hash(text: str) -> bool:
    """Whether a text is a UUIDv7 as this module writes it."""
    return len(text) == HASH_LENGTH and text[12] == "7" and text[16] in "89ab" and _HEX.issuperset(text)
