"""The objects in files of a catalogue: YAML or JSON of all kinds, or CSV of one kind.

In YAML an offer's URLs may stand inside the offer. In CSV, and at the top of YAML, they are `offer_urls` with
a column for their offer. The kinds are those of the management API.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from pydantic import TypeAdapter

from tracker.catalogue.resource import Resource
from tracker.domain.csv_rows import Columns
from tracker.domain.model import MAX_ID
from tracker.domain.normalise import texts
from tracker.errors import UserError
from tracker.importing import yaml_file
from tracker.importing.files import RowFile
from tracker.importing.values import flag, whole

Fields = dict[str, Any]

_CSV = (".csv", ".csv.gz", ".tsv", ".tsv.gz")
_ID = {"type": "integer"}
_NAME = {"type": "string"}  # names of a referenced kind
_SPREADSHEETS = {"boolean": flag, "integer": whole(0, MAX_ID)}  # TRUE, 513.0


class Entry(NamedTuple):
    """One object of a file."""

    resource: Resource
    given: Fields
    where: str
    parent: Entry | None = None  # the object that it stands in


class Kinds:
    """Names of the kinds: `offers` and `offer_urls` everywhere, `urls` inside an offer."""

    def __init__(self, resources: Sequence[Resource]) -> None:
        self.top: dict[str, Resource] = {}
        self._within: dict[str, dict[str, Resource]] = {}
        for resource in resources:
            name = resource.path.rpartition("/")[2].replace("-", "_")
            whose = resource.table.parent_table
            if whose:
                self._within.setdefault(whose, {})[name] = resource
            self.top[f"{whose}_{name}" if whose else name] = resource

    def within(self, resource: Resource) -> Mapping[str, Resource]:
        return self._within.get(resource.table.name, {})


def read(path: Path, kinds: Kinds) -> Iterator[Entry]:
    """All objects of a file. An object comes before its nested objects.

    Raises:
        UserError: the file cannot be read, or names an unknown kind.
    """
    if path.name.lower().endswith(_CSV):
        return _csv(path, kinds)
    content = yaml_file.read(path)
    if not isinstance(content, dict):
        raise UserError(f"{path} is not an object of {', '.join(kinds.top)}")
    return _members(path, content, kinds.top, kinds, "", None)


def _members(
    path: Path,
    content: Fields,
    known: Mapping[str, Resource],
    kinds: Kinds,
    where: str,
    parent: Entry | None,
) -> Iterator[Entry]:
    for name, members in content.items():
        if name not in known:
            raise UserError(f"{path}: {where}{name} is not one of {', '.join(known)}")
        listed = members if isinstance(members, list) else [members]
        for place, member in enumerate(listed):
            position = f"{where}{name}" + (f"[{place}]" if isinstance(members, list) else "")
            if not isinstance(member, yaml_file.Mapping):
                raise UserError(f"{path}: {position} is not an object")
            yield from _member(path, member, known[name], kinds, position, parent)


def _member(
    path: Path,
    member: yaml_file.Mapping,
    resource: Resource,
    kinds: Kinds,
    where: str,
    parent: Entry | None,
) -> Iterator[Entry]:
    inner = kinds.within(resource)
    given = {name: value for name, value in member.items() if name not in inner}
    entry = Entry(resource, given, f"{path}:{member.line}: {where}", parent)
    yield entry
    content = {name: value for name, value in member.items() if name in inner}
    yield from _members(path, content, inner, kinds, f"{where}.", entry)


def _csv(path: Path, kinds: Kinds) -> Iterator[Entry]:
    kind = path.name.partition(".")[0].lower()
    resource = kinds.top.get(kind)
    if resource is None:
        raise UserError(
            f"{path}: name a CSV file after its objects, such as offers.csv: {', '.join(kinds.top)}"
        )
    facts = {name: TypeAdapter(kind).json_schema() for name, (kind, _) in resource.facts.items()}
    properties = resource.fields.model_json_schema()["properties"] | facts
    ids = {*resource.table.fixed} - {*properties}
    columns = Columns(_names(resource, properties))
    file, values = RowFile(path, columns, errors="strict"), 0
    for line in file.lines():
        values += len(line.fields)
        if values > yaml_file.MOST_VALUES or file.taken > yaml_file.LARGEST:
            raise yaml_file.too_large(path)
        if line.error:
            raise UserError(f"{path}:{line.number}: {line.error}")
        cells = {name: text for name, text in line.fields.items() if text != ""}
        given = {
            name: _value(text, _ID if name in ids else properties.get(name, _NAME))
            for name, text in cells.items()
        }
        yield Entry(resource, given, f"{path}:{line.number}")


def _names(resource: Resource, properties: Iterable[str]) -> list[str]:
    """The allowed column names of a kind."""
    table = resource.table
    refer = (table.parent, *(reference.column for reference in table.references))
    names = (*table.fixed, *properties, *refer, *(column.removesuffix("_id") for column in refer))
    return list(dict.fromkeys(filter(None, names)))


def _value(text: str, schema: Fields) -> Any:
    """A cell: its text if the field takes text, otherwise JSON, or a value as spreadsheets write it."""
    types = _types(schema)
    if "string" in types:
        return text
    for type_ in types & _SPREADSHEETS.keys():
        with suppress(ValueError):
            return _SPREADSHEETS[type_](text)
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return texts(text) if _is_of_texts(schema) and not text.startswith("[") else text


def _is_of_texts(schema: Fields) -> bool:
    return schema.get("type") == "array" and schema["items"].get("type") == "string"


def _types(schema: Fields) -> set[str]:
    options = [schema, *schema.get("anyOf", ())]
    return {option["type"] for option in options if "type" in option} | {
        type_ for option in options for type_ in _types_of_choice(option)
    }


def _types_of_choice(schema: Fields) -> set[str]:
    return {"string"} if any(isinstance(value, str) for value in schema.get("enum", ())) else set()
