"""Checks JSON objects for repeated names, which RFC 8259 (section 4) allows and parsers treat differently."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any


def field_there_twice(fields: Collection[str], text: str) -> str:
    """A field that an object names twice, or "".

    `fields` are those that a parser has parsed from the text. Most objects have as many `":` as fields: then
    the text need not be scanned.
    """
    if text.count('":') == len(fields):
        return ""
    names: list[str] = []

    def note(pairs: list[tuple[str, Any]]) -> None:
        names[:] = [name for name, _ in pairs]  # the outermost object is the last one

    json.loads(text, object_pairs_hook=note)
    return twice(names)


def twice(names: Sequence[str]) -> str:
    """The first repeated name, or ""."""
    return next((name for name in names if names.count(name) > 1), "")
