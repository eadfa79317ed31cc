"""What JSON leaves open: an object may name a field twice (RFC 8259, section 4), and parsers keep either."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any


def field_there_twice(fields: Collection[str], text: str) -> str:
    """A field that stands twice in an object; "" where none does.

    `fields` are those that a parser has found in the text. Most objects have as many `":` as fields: then
    nobody has to read the text once more.
    """
    if text.count('":') == len(fields):
        return ""
    found: list[str] = []

    def note(pairs: list[tuple[str, Any]]) -> None:
        found[:] = [name for name, _ in pairs]  # the outermost object is the last

    json.loads(text, object_pairs_hook=note)
    return twice(found)


def twice(names: Sequence[str]) -> str:
    """The first name that stands twice; "" where none does."""
    return next((name for name in names if names.count(name) > 1), "")
