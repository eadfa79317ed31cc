"""Cursors: opaque places in a list, bound to its filters and its order."""

from __future__ import annotations

import binascii
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import sha256
from typing import NamedTuple

_VERSION = "1"
_PLACE = re.compile(rf"{_VERSION}\.([0-9a-f]{{32}})\.([1-9][0-9]{{0,12}})\.(0|[1-9][0-9]{{0,17}}|)")
_DIGEST_LENGTH = 16
_LONGEST_CURSOR = 256


class Cursor(NamedTuple):
    """Where a walk through a list goes on."""

    last_hash: str  # of the page before
    number: int  # of the page it leads to
    total: int | None  # as counted for the first page, where counting again would be slow


def write_cursor(cursor: Cursor, filters: tuple[object, ...], *, newest_first: bool) -> str:
    total = "" if cursor.total is None else str(cursor.total)
    return _bound(
        f"{_VERSION}.{cursor.last_hash}.{cursor.number}.{total}", filters, newest_first=newest_first
    )


def read_cursor(text: str, filters: tuple[object, ...], *, newest_first: bool) -> Cursor:
    """Read back what `write_cursor` wrote for the same filters and order.

    The digest is not a signature. A forged place only skips to it in a list that the client may read anyway.

    Raises:
        ValueError: it was not written for these, or was changed.
    """
    place = _PLACE.fullmatch(_decoded(text).rpartition(".")[0])
    if place is None or text != _bound(place[0], filters, newest_first=newest_first):
        raise ValueError("belongs to other filters or another order, or was changed")
    last_hash, number, total = place.groups()
    return Cursor(last_hash, int(number), int(total) if total else None)


def _decoded(text: str) -> str:
    if len(text) > _LONGEST_CURSOR:
        return ""
    try:
        return urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode("ascii")
    except (binascii.Error, ValueError):
        return ""


def _bound(place: str, filters: tuple[object, ...], *, newest_first: bool) -> str:
    digest = sha256(f"{place}|{filters}|{newest_first}".encode()).hexdigest()[:_DIGEST_LENGTH]
    return urlsafe_b64encode(f"{place}.{digest}".encode()).decode().rstrip("=")
