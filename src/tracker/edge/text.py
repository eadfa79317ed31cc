"""Crops what a stranger sent."""

from __future__ import annotations

from functools import lru_cache

_OFTEN_SEEN = 512  # bytes of a header that browsers send alike; what is longer is not worth remembering
_CONTROLS = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0)])


def crop(text: str, limit: int) -> str:
    """Without control characters (C0, DEL, C1: Unicode category Cc) and cut to `limit` characters."""
    if not text.isprintable():
        text = text.translate(_CONTROLS)
    return text if len(text) <= limit else text[:limit]


def read(value: bytes, limit: int) -> str:
    """Header bytes as text: UTF-8, U+FFFD for what is none, cropped."""
    return _read_again(value, limit) if len(value) <= _OFTEN_SEEN else _read(value, limit)


def _read(value: bytes, limit: int) -> str:
    text = value.strip(b" \t").decode("utf-8", "replace")  # no part of the value (RFC 9110, section 5.5)
    return text if len(text) <= limit and text.isprintable() else crop(text, limit)


_read_again = lru_cache(8192)(_read)
