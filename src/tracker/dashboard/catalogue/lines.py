"""Lists and objects as lines of text: one value a line, and `name = value`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from tracker.domain.normalise import trim

_BETWEEN = " = "
_PLAIN = re.compile(r"[^\s=\".{}\[\]](?:[^=\"\r\n]*[^\s=\"])?")
_READS_AS_JSON = re.compile(r"-?[0-9]|true$|false$|null$|[\"{\[]")


def listed(text: str) -> list[str]:
    """The lines of a text that are not empty."""
    return [line for line in map(trim, _lines(text)) if line]


def written(pairs: Mapping[str, Any]) -> str:
    """An object as lines. What is inside another object has both names: `status.lead = pending`."""
    return "\n".join(_written(pairs, ()))


def read(text: str) -> dict[str, Any]:
    """The object that lines say.

    Raises:
        ValueError: a line has no " = ", or names a value twice.
    """
    found: dict[str, Any] = {}
    for line in listed(text):
        *outer, name, value = _parts(line)
        inside = found
        for each in outer:
            inside = inside.setdefault(each, {})
            if not isinstance(inside, dict):
                raise ValueError(f"has a value and parts of one name: {each[:50]!r}")
        if name in inside:
            raise ValueError(f"has {name[:50]!r} twice")
        inside[name] = value
    return found


def _written(pairs: Mapping[str, Any], names: tuple[str, ...]) -> Iterator[str]:
    for name, value in pairs.items():
        path = (*names, name)
        if isinstance(value, Mapping) and value:
            yield from _written(value, path)
        else:
            yield ".".join(map(_name, path)) + _BETWEEN + _value(value)


def _name(name: str) -> str:
    return name if _is_plain(name) and "." not in name else json.dumps(name)


def _value(value: Any) -> str:
    is_plain = isinstance(value, str) and _is_plain(value) and not _READS_AS_JSON.match(value)
    return value if is_plain else json.dumps(value)


def _is_plain(text: str) -> bool:
    """Whether a text can be read without quotes."""
    return _PLAIN.fullmatch(text) is not None and trim(text) == text


def _parts(line: str) -> list[Any]:
    """The names of a line, outer ones first, and its value."""
    parts: list[Any] = []
    rest = line
    while True:
        name, rest = _first(rest, line)
        parts.append(name)
        if rest.startswith("."):
            rest = rest[1:]
            continue
        return [*parts, _read_value(rest, line)]


def _first(text: str, line: str) -> tuple[str, str]:
    """The first name of a text, and what follows it."""
    if text.startswith('"'):
        name, end = _decoded(text, line)
        return str(name), text[end:]
    end = next((n for n, character in enumerate(text) if character in "=."), len(text))
    name = trim(text[:end])
    if not name:
        raise ValueError(f"has a line without a name: {line[:50]!r}")
    return name, text[end:]


def _read_value(text: str, line: str) -> Any:
    text = trim(text)
    if not text.startswith("="):
        raise ValueError(f"has a line that is not name = value: {line[:50]!r}")
    text = trim(text[1:])
    if not _READS_AS_JSON.match(text):
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


def _decoded(text: str, line: str) -> tuple[Any, int]:
    try:
        return json.JSONDecoder().raw_decode(text)
    except ValueError:
        raise ValueError(f"has a name whose quotes do not end: {line[:50]!r}") from None


def _lines(text: str) -> list[str]:
    return text.replace("\r\n", "\n").split("\n")
