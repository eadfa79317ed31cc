"""YAML by the core schema of its version 1.2: Norway is no falsehood, and 09:00 no number of minutes.

JSON is YAML, too.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from tracker.complaint import Complaint

_SCALARS = (
    ("tag:yaml.org,2002:null", r"~|null|Null|NULL|", "~nN\0"),
    ("tag:yaml.org,2002:bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("tag:yaml.org,2002:int", r"[-+]?[0-9]+", "-+0123456789"),
    ("tag:yaml.org,2002:float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789"),
)


class Mapping(dict[str, Any]):
    """An object that knows the line it begins on."""

    line: int


class _Loader(yaml.CSafeLoader):  # type: ignore[misc]
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - as PyYAML has it

    def mapping(self, node: yaml.MappingNode) -> Mapping:
        found = Mapping()
        found.line = node.start_mark.line + 1
        for key_node, value_node in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str) or key in found:
                why = "is there twice" if key in found else "is no text"
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} {why}", key_node.start_mark)
            found[key] = self.construct_object(value_node, deep=True)
        return found


for _tag, _pattern, _first in _SCALARS:
    _Loader.add_implicit_resolver(
        _tag, re.compile(f"^(?:{_pattern})$"), list(_first.replace("\0", "")) + [""] * ("\0" in _first)
    )
_Loader.add_constructor("tag:yaml.org,2002:map", _Loader.mapping)


def read(path: Path) -> Any:
    """What a file says.

    Raises:
        Complaint: it is no YAML.
    """
    try:
        with path.open("rb") as file:
            return yaml.load(file, _Loader)  # noqa: S506 - it is a safe one
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise Complaint(f"{path}: {' '.join(str(error).split())}") from None
