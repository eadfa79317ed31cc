"""Texts as pictures that a telephone reads."""

from __future__ import annotations

import segno


def picture(text: str) -> str:
    """A text as a QR code: an SVG as a data: address.

    Raises:
        ValueError: the text is longer than about 2300 bytes.
    """
    return str(segno.make(text, error="m").svg_data_uri(scale=5, border=3, dark="#000", light="#fff"))
