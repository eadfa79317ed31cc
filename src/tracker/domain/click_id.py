"""Click hashes: UUIDv7 (RFC 9562, section 5.7) as 32 lowercase hex digits, and the time they carry.

A hash sorts by its millisecond, so a time range is a hash range. The clicks table is partitioned, filtered
and paged by it.
"""

from __future__ import annotations

import os
from hashlib import sha256
from time import time_ns
from typing import Final

HASH_LENGTH: Final = 32
ZERO_HASH = "0" * HASH_LENGTH
"""The hash in answers to HEAD requests and previews."""

_MAX_MILLIS = (1 << 48) - 1
_TAILS = 1024  # hashes for which random bytes are read together
_TAIL_LENGTH: Final = 16
_WITH_VARIANT = bytes(byte & 0x3F | 0x80 for byte in range(256))
_SEQUENCES: Final = [f"{sequence:03x}" for sequence in range(0x1000)]


class Mint:
    """Mints the hashes of one process. They increase strictly, even if the clock steps back.

    Bits after the version: 12 bits count within the millisecond, 62 bits are random (RFC 9562, method 1 of
    section 6.2). Random bytes are read from the kernel for a thousand hashes at a time.
    """

    def __init__(self) -> None:
        self._begin(0)
        self._random = ""
        self._taken = 0

    def hash(self) -> str:
        millis = time_ns() // 1_000_000
        if millis > self._millis:
            self._begin(millis)
        elif self._sequence == 0xFFF:
            self._begin(
                self._millis + 1
            )  # a full millisecond, or a clock that stepped back: continue with the next millisecond
        else:
            self._sequence += 1
        if self._taken == len(self._random):
            self._random, self._taken = _random_tails(), 0
        tail = self._random[self._taken : self._taken + _TAIL_LENGTH]
        self._taken += _TAIL_LENGTH
        return self._head + _SEQUENCES[self._sequence] + tail

    def now(self) -> int:
        """Unix milliseconds: later hashes are not below it."""
        millis = time_ns() // 1_000_000
        if millis > self._millis:
            self._begin(millis)
        return self._millis

    def _begin(self, millis: int) -> None:
        self._millis = millis
        self._head = millis.to_bytes(6).hex() + "7"  # 7: the version
        self._sequence = 0


def _random_tails(hashes: int = _TAILS) -> str:
    """The last 64 bits of some hashes: the variant (binary 10) and 62 random bits each."""
    tails = bytearray(os.urandom(hashes * 8))
    tails[::8] = tails[::8].translate(_WITH_VARIANT)
    return tails.hex()


def hash_at(millis: int, sequence: int = 0) -> str:
    """A new hash for another moment than now.

    Within one millisecond, a higher sequence (12 bits) sorts later.
    """
    return f"{first_hash_at(millis)[:12]}7{sequence:03x}{_random_tails(1)}"


def hash_for(millis: int, name: str) -> str:
    """A deterministic hash made from a time and a name."""
    digest = sha256(name.encode()).hexdigest()
    variant = "89ab"[int(digest[3], 16) & 3]
    return f"{first_hash_at(millis)[:12]}7{digest[:3]}{variant}{digest[4:19]}"


def legacy_hash(millis: int, source: str, legacy_id: str) -> str:
    """The hash of a click that an earlier tracker had under another id."""
    return hash_for(millis, f"{source}\0{legacy_id}")


def is_legacy_hash(hash_: str, source: str, legacy_id: str) -> bool:
    """Whether a hash was made from an earlier tracker's id."""
    return hash_ == legacy_hash(millis_of(hash_), source, legacy_id)


def millis_of(hash_: str) -> int:
    """Unix milliseconds at which a hash was minted."""
    return int(hash_[:12], 16)


def minute_of(hash_: str) -> int:
    """The Unix minute in which a hash was minted. The ledger counts by it."""
    return millis_of(hash_) // 60_000


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
    if len(text) != HASH_LENGTH or text[12] != "7" or text[16] not in "89ab":
        return False
    try:
        return bytes.fromhex(text).hex() == text
    except ValueError:
        return False
