"""Crops texts that strangers sent."""

from __future__ import annotations

from functools import partial

from tracker.domain.normalise import CONTROLS, cut
from tracker.edge.read.remembered import Remembered

_OFTEN_SEEN = 512  # bytes of a header value that many browsers send. Longer ones are not worth remembering
_REMEMBERED = 8192  # values


def crop(text: str, limit: int) -> str:
    """The text without control characters (C0, DEL, C1: Unicode category Cc), cut to `limit` characters."""
    if not text.isprintable():
        text = text.translate(CONTROLS)
    return text if len(text) <= limit else cut(text, limit)


def read(value: bytes, limit: int) -> str:
    """Header bytes as cropped text: UTF-8, with U+FFFD for other bytes."""
    text = value.strip(b" \t").decode("utf-8", "replace")  # not part of the value (RFC 9110, section 5.5)
    return text if len(text) <= limit and text.isprintable() else crop(text, limit)


def texts(limit: int) -> Remembered[bytes, str]:
    """One header's values as text, by their bytes: see `read`."""
    return Remembered(partial(read, limit=limit), _REMEMBERED, _OFTEN_SEEN)
