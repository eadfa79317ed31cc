"""Crops what a stranger sent."""

from __future__ import annotations

from functools import lru_cache

_CONTROLS = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0)])


def crop(text: str, limit: int) -> str:
    """Without control characters (C0, DEL, C1: Unicode category Cc) and cut to `limit` characters."""
    if not text.isprintable():
        text = text.translate(_CONTROLS)
    return text if len(text) <= limit else text[:limit]


@lru_cache(8192)  # most headers are seen again; at worst some megabytes
def read(value: bytes, limit: int) -> str:
    """Header bytes as text: UTF-8, U+FFFD for what is none, cropped."""
    text = value.decode("utf-8", "replace")
    return text if len(text) <= limit and text.isprintable() else crop(text, limit)
