"""The objects in files of a catalogue: YAML or JSON of all kinds, or CSV of one kind.

In YAML an offer's URLs may stand inside the offer. In CSV, and at the top of YAML, they are `offer_urls` with
a column for their offer. The kinds are those of the management API.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import orjson
import pydantic
from pydantic import TypeAdapter

from tracker.catalogue.resource import Resource
from tracker.domain.csv_rows import Columns, Named
from tracker.domain.model import MAX_ID
from tracker.domain.normalise import texts
from tracker.errors import UserError
from tracker.importing import yaml_file
from tracker.importing.files import RowFile
from tracker.importing.json_rows import FieldNames, lists_in, rows_in
from tracker.importing.meaning import Meaning, translated
from tracker.importing.values import Reader, flag, whole

Fields = dict[str, Any]

_AFTER_NAME = r"(?:[- (0-9].*)?"  # as browsers name a second file of one name
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
    theirs: Mapping[str, str] = {}  # the file's name of each field that has another name there


class Kinds:
    """Names of the kinds: `offers` and `offer_urls` everywhere, `urls` inside an offer."""

    def __init__(self, resources: Sequence[Resource]) -> None:
        self.top: dict[str, Resource] = {}
        self._within: dict[str, dict[str, Resource]] = {}
        self._names: dict[str, str] = {}
        for resource in resources:
            name = resource.path.rpartition("/")[2].replace("-", "_")
            whose = resource.table.parent_table
            if whose:
                self._within.setdefault(whose, {})[name] = resource
            full = f"{whose}_{name}" if whose else name
            self.top[full] = resource
            self._names[resource.table.name] = full

    def name(self, resource: Resource) -> str:
        return self._names[resource.table.name]

    def named_by(self, path: Path) -> str:
        """The kind that a file is named after, such as `offers (1).csv`. "" if there is no such kind."""
        stem = path.name.partition(".")[0].lower()
        return next((name for name in self.top if re.fullmatch(f"{name}{_AFTER_NAME}", stem)), "")

    def within(self, resource: Resource) -> Mapping[str, Resource]:
        return self._within.get(resource.table.name, {})


def meanings_of(by_kind: Mapping[str, Meaning], kinds: Kinds, *, ignore_rest: bool) -> dict[str, Meaning]:
    """The meaning of the files of every kind.

    Raises:
        UserError: it names no kind, no field of a kind, or no value of a field.
    """
    for kind in by_kind:
        if kind not in kinds.top:
            raise UserError(f"{kind!r} is not one of {', '.join(kinds.top)}")
    rest = Meaning(ignore_rest=ignore_rest)
    meanings = {kind: by_kind.get(kind, rest).over(rest) for kind in kinds.top}
    for kind, meaning in by_kind.items():
        meaning.check(_Kind.of(kind, kinds.top[kind], meaning, {}).readers, kind)
    return meanings


class _Kind(NamedTuple):
    """The fields of one kind of object, and what a file calls them."""

    schemas: Mapping[str, Fields]
    fields: type[pydantic.BaseModel]
    columns: Columns
    naming: FieldNames
    meaning: Meaning
    theirs: dict[str, str]

    @classmethod
    def of(cls, name: str, resource: Resource, meaning: Meaning, left_out: dict[str, None]) -> _Kind:
        """`left_out`: takes the names of columns that are left out."""
        facts = {name: TypeAdapter(kind).json_schema() for name, (kind, _) in resource.facts.items()}
        schemas = resource.fields.model_json_schema()["properties"] | facts
        names = _names(resource, schemas)
        schemas |= dict.fromkeys({*resource.table.fixed} - {*schemas}, _ID)
        columns = Columns(
            names,
            names=meaning.columns,
            advice=f"use --map {name}.THEIRS=OURS to give it a field, or to leave it out, or --ignore-rest",
            ignore_rest=meaning.ignore_rest,
        )

        theirs: dict[str, str] = {}

        def note(named: Named) -> None:
            theirs.update(named.renamed())
            left_out.update(dict.fromkeys(f"{name}.{each}" for each in named.left_out))

        return cls(schemas, resource.fields, columns, FieldNames(columns, note), meaning, theirs)

    @property
    def readers(self) -> dict[str, Reader]:
        """Says by ValueError which texts a field does not take."""
        return {name: partial(self._read, name) for name in self.columns.known}

    def _read(self, name: str, text: str) -> Any:
        field = self.fields.model_fields.get(name)
        if field is None:
            return text
        try:
            kind: Any = Annotated[field.annotation, field, *field.metadata]
            return TypeAdapter(kind).validate_python(self.value(name, text))
        except pydantic.ValidationError as error:
            raise ValueError(f"takes no {text!r}: {error.errors()[0]['msg']}") from None

    def value(self, name: str, text: str) -> Any:
        return _value(text, self.schemas.get(name, _NAME))

    def given(self, fields: Mapping[str, Any]) -> Fields:
        """The values of a row with rows beside it. What it leaves empty, it does not say."""
        found = translated(fields, self.meaning.translation)
        return {
            name: self.value(name, value) if isinstance(value, str) else value
            for name, value in found.items()
            if value is not None and value != ""
        }


class _Reading:
    """A file that is being read."""

    def __init__(
        self, path: Path, kinds: Kinds, meanings: Mapping[str, Meaning], left_out: dict[str, None]
    ) -> None:
        self.path = path
        self.kinds = kinds
        self.left_out = left_out
        self._meanings = meanings
        self._made: dict[str, _Kind] = {}

    def kind(self, name: str) -> _Kind:
        if name not in self._made:
            meaning = self._meanings.get(name, Meaning())
            self._made[name] = _Kind.of(name, self.kinds.top[name], meaning, self.left_out)
        return self._made[name]

    def is_renamed(self, name: str) -> bool:
        meaning = self._meanings.get(name, Meaning())
        return bool(meaning.columns or meaning.values or meaning.rows or meaning.ignore_rest)


def read(
    path: Path,
    kinds: Kinds,
    meanings: Mapping[str, Meaning] = {},
    left_out: dict[str, None] | None = None,
) -> Iterator[Entry]:
    """All objects of a file. An object comes before its nested objects.

    `meanings`: what foreign files mean, by kind.
    `left_out`: takes the names of columns that are left out.

    Raises:
        UserError: the file cannot be read, or names an unknown kind.
    """
    reading = _Reading(path, kinds, meanings, {} if left_out is None else left_out)
    kind = kinds.named_by(path)
    if path.name.lower().endswith(_CSV):
        if not kind:
            raise UserError(
                f"{path}: name a CSV file after its objects, such as offers.csv: {', '.join(kinds.top)}"
            )
        return _csv(reading, kind)
    content = yaml_file.read(path)
    is_of_kinds = isinstance(content, dict) and not content.keys().isdisjoint(kinds.top)
    if kind and not (is_of_kinds and not reading.kind(kind).meaning.rows):
        return _rows(reading, kind, content)
    if not isinstance(content, dict):
        raise UserError(f"{path} is not an object of {', '.join(kinds.top)}")
    return _members(reading, content, kinds.top, "", None)


def form(resource: Resource, fields: Fields, common: Mapping[str, Any], where: str) -> Entry:
    """A form of a preset, with those `common` values for which its kind has a field."""
    common = {name: value for name, value in common.items() if value and name in resource.fields.model_fields}
    return Entry(resource, {**fields, **common}, where)


def _rows(reading: _Reading, name: str, content: Any) -> Iterator[Entry]:
    """The rows of one kind in JSON or YAML, such as an answer of an API."""
    kind = reading.kind(name)
    rows = rows_in(content, kind.meaning.rows, lambda each: kind.naming.number_known(each) > 1)
    if rows == [content] and (found := lists_in(content)):
        raise UserError(f"{reading.path}: its rows are not at the top, but at {', '.join(found)}")
    for row in rows:
        if not isinstance(row, yaml_file.Mapping):
            raise UserError(f"{reading.path}: {name} has rows that are not objects")
        where = f"{reading.path}:{row.line}"
        fields, twice = kind.naming.ours(row)
        if twice:
            raise UserError(f"{where}: {twice}")
        yield Entry(reading.kinds.top[name], kind.given(fields), where, theirs=kind.theirs)


def _members(
    reading: _Reading,
    content: Fields,
    known: Mapping[str, Resource],
    where: str,
    parent: Entry | None,
) -> Iterator[Entry]:
    for name, members in content.items():
        if name not in known:
            raise UserError(f"{reading.path}: {where}{name} is not one of {', '.join(known)}")
        listed = members if isinstance(members, list) else [members]
        for place, member in enumerate(listed):
            position = f"{where}{name}" + (f"[{place}]" if isinstance(members, list) else "")
            if not isinstance(member, yaml_file.Mapping):
                raise UserError(f"{reading.path}: {position} is not an object")
            yield from _member(reading, member, known[name], position, parent)


def _member(
    reading: _Reading,
    member: yaml_file.Mapping,
    resource: Resource,
    where: str,
    parent: Entry | None,
) -> Iterator[Entry]:
    inner = reading.kinds.within(resource)
    given = {name: value for name, value in member.items() if name not in inner}
    position = f"{reading.path}:{member.line}: {where}"
    name, theirs = reading.kinds.name(resource), {}
    if reading.is_renamed(name):
        kind = reading.kind(name)
        fields, twice = kind.naming.ours(given)
        if twice:
            raise UserError(f"{position}: {twice}")
        given, theirs = dict(translated(fields, kind.meaning.translation)), kind.theirs
    entry = Entry(resource, given, position, parent, theirs)
    yield entry
    content = {name: value for name, value in member.items() if name in inner}
    yield from _members(reading, content, inner, f"{where}.", entry)


def _csv(reading: _Reading, name: str) -> Iterator[Entry]:
    kind, path = reading.kind(name), reading.path
    file, values = RowFile(path, kind.columns, errors="strict"), 0
    for line in file.lines():
        values += len(line.fields)
        if values > yaml_file.MOST_VALUES or file.taken > yaml_file.LARGEST:
            raise yaml_file.too_large(path)
        if line.error:
            raise UserError(f"{path}:{line.number}: {line.error}")
        where = f"{path}:{line.number}"
        yield Entry(reading.kinds.top[name], kind.given(line.fields), where, theirs=file.theirs)
    reading.left_out.update(dict.fromkeys(f"{name}.{each}" for each in file.left_out))


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
