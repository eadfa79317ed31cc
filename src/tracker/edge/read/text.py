"""Crops texts that strangers sent."""

from __future__ import annotations

from tracker.domain.normalise import cut

_OFTEN_SEEN = 512  # bytes of a header value that many browsers send. Longer ones are not worth remembering
_REMEMBERED = 8192  # values
_CONTROLS = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0)])


def crop(text: str, limit: int) -> str:
    """The text without control characters (C0, DEL, C1: Unicode category Cc), cut to `limit` characters."""
    if not text.isprintable():
        text = text.translate(_CONTROLS)
    return text if len(text) <= limit else cut(text, limit)


def read(value: bytes, limit: int) -> str:
    """Header bytes as cropped text: UTF-8, with U+FFFD for other bytes."""
    text = value.strip(b" \t").decode("utf-8", "replace")  # not part of the value (RFC 9110, section 5.5)
    return text if len(text) <= limit and text.isprintable() else crop(text, limit)


class Texts(dict[bytes, str]):
    """A cache of one header's values as text, by their bytes: `texts[value]`.

    A known value costs a plain look-up, which is less than the call of an lru_cache.
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
