"""Crops what a stranger sent."""

from __future__ import annotations

from tracker.domain.normalise import cut

_OFTEN_SEEN = 512  # bytes of a header that browsers send alike; what is longer is not worth remembering
_REMEMBERED = 8192  # values
_CONTROLS = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0)])


def crop(text: str, limit: int) -> str:
    """Without control characters (C0, DEL, C1: Unicode category Cc) and cut to `limit` characters."""
    if not text.isprintable():
        text = text.translate(_CONTROLS)
    return text if len(text) <= limit else cut(text, limit)


def read(value: bytes, limit: int) -> str:
    """Header bytes as text: UTF-8, U+FFFD for what is none, cropped."""
    text = value.strip(b" \t").decode("utf-8", "replace")  # no part of the value (RFC 9110, section 5.5)
    return text if len(text) <= limit and text.isprintable() else crop(text, limit)


class Texts(dict[bytes, str]):
    """Values of one header as text, by their bytes: `texts[value]`. It remembers what browsers send alike.

    A plain look-up where a value is known, which is less than the call of an lru_cache.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit

    def __missing__(self, value: bytes) -> str:
        text = read(value, self._limit)
        if len(value) <= _OFTEN_SEEN:
            if len(self) >= _REMEMBERED:
                self.clear()
            self[value] = text
        return text
