"""YAML by the core schema of version 1.2: NO (Norway) is text, and 09:00 is text too.

JSON is YAML, too.
"""

from __future__ import annotations

import re
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tracker.errors import UserError
from tracker.importing.files import unpacked

_SCALARS = (
    ("tag:yaml.org,2002:null", r"~|null|Null|NULL|", "~nN\0"),
    ("tag:yaml.org,2002:bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("tag:yaml.org,2002:int", r"[-+]?[0-9]+", "-+0123456789"),
    ("tag:yaml.org,2002:float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789"),
)
_MOST_DIGITS = 100

# JSON writes a character beyond U+FFFF as two escapes (RFC 8259, section 7). YAML needs one escape, and
# refuses surrogates.
_STRING = re.compile(rb'"(?:[^"\\\n]|\\.)*"')
_PAIR = re.compile(rb"((?<!\\)(?:\\\\)*)\\u(d[89ab][0-9a-f]{2})\\u(d[c-f][0-9a-f]{2})", re.IGNORECASE)


class Mapping(dict[str, Any]):
    """An object with the number of its first line."""

    line: int


class _Loader(yaml.CSafeLoader):  # type: ignore[misc]
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - as PyYAML has it

    def mapping(self, node: yaml.MappingNode) -> Mapping:
        mapping = Mapping()
        mapping.line = node.start_mark.line + 1
        for key_node, value_node in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str) or key in mapping:
                why = "is there twice" if key in mapping else "is not text"
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} {why}", key_node.start_mark)
            mapping[key] = self.construct_object(value_node, deep=True)
        return mapping

    def whole_number(self, node: yaml.ScalarNode) -> int:
        number = int(node.value) if len(node.value) <= _MOST_DIGITS else 1 << 64  # 010 is ten, not eight
        if not -(1 << 63) <= number < 1 << 63:
            raise yaml.constructor.ConstructorError(None, None, "a number is too large", node.start_mark)
        return number


for _tag, _pattern, _first in _SCALARS:
    _Loader.add_implicit_resolver(
        _tag, re.compile(f"^(?:{_pattern})$"), list(_first.replace("\0", "")) + [""] * ("\0" in _first)
    )
_Loader.add_constructor("tag:yaml.org,2002:map", _Loader.mapping)
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.whole_number)


LARGEST = 64 << 20
"""Most bytes of a file, and most characters of it with every alias expanded."""
MOST_VALUES = 1_000_000
"""Most values of a file, with every alias expanded: a value takes half a kilobyte while it is read."""


def read(path: Path) -> Any:
    """The parsed content of a file.

    Raises:
        UserError: it is not YAML, or is too large (500 bytes of aliases can be).
    """
    try:
        with path.open("rb") as file:
            packed = BytesIO(file.read(LARGEST + 1))  # it may be a pipe
        with unpacked(path, packed, "strict") as text:
            content = text.read(LARGEST + 1).encode()
        if b"\\u" in content:
            content = _STRING.sub(_with_pairs_joined, content)
        _check_size(path, content)
        return yaml.load(content, _Loader)  # noqa: S506 - it is a safe loader
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        why = " ".join(str(error).split()).replace('in "<byte string>", ', "at ")
        raise UserError(f"{path}: {why}") from None


def _with_pairs_joined(string: re.Match[bytes]) -> bytes:
    """A quoted string, with surrogate pairs replaced by their characters."""
    return _PAIR.sub(_joined, string[0]) if b"\\u" in string[0] else string[0]


def _joined(pair: re.Match[bytes]) -> bytes:
    code_units = bytes.fromhex((pair[2] + pair[3]).decode())
    return pair[1] + code_units.decode("utf-16-be").encode()


def too_large(path: Path) -> UserError:
    """The error of a catalogue file beyond MOST_VALUES or LARGEST."""
    return UserError(
        f"{path} has more than {MOST_VALUES:,} values or {LARGEST >> 20} MiB: split it into several files"
    )


def _check_size(path: Path, content: bytes) -> None:
    size = _Size(0, len(content))
    if size.is_allowed:
        size = _size(content)
    if not size.is_allowed:
        raise too_large(path)


class _Size(NamedTuple):
    """The size with each alias expanded."""

    values: int
    characters: int

    @property
    def is_allowed(self) -> bool:
        return self.values <= MOST_VALUES and self.characters <= LARGEST

    def plus(self, values: int, characters: int) -> _Size:
        return _Size(self.values + values, self.characters + characters)


def _size(content: bytes) -> _Size:
    """The size of a document, or of its beginning if it is too large."""
    size = _Size(0, 0)
    anchored: dict[str | None, _Size] = {}
    around: list[
        tuple[str | None, _Size]
    ] = []  # anchors of collections that are incomplete, and the size before them
    for event in yaml.parse(content, yaml.CSafeLoader):
        if isinstance(event, yaml.AliasEvent):
            size = size.plus(
                *anchored.get(event.anchor, (1, 0))
            )  # a collection inside itself is refused later
        elif isinstance(event, yaml.ScalarEvent):
            size = size.plus(1, len(event.value))
            anchored[event.anchor] = _Size(1, len(event.value))
        elif isinstance(event, yaml.CollectionStartEvent):
            around.append((event.anchor, size))
            size = size.plus(1, 0)
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = around.pop()
            anchored[anchor] = size.plus(-before.values, -before.characters)
        if not size.is_allowed:
            break
    return size
