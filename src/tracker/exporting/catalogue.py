"""Writes the catalogue as files that `tracker import catalogue` reads: YAML, JSON, or CSV files by kind.

Objects come in an order in which each refers to earlier ones. The same catalogue makes the same bytes. A file
never exceeds the limits of the import: what is beyond them goes on in another file.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from typing import IO, Any, NamedTuple, Protocol

import orjson

from tracker.catalogue.resource import Resource
from tracker.domain.spreadsheet import meant
from tracker.errors import UserError
from tracker.importing import catalogue, yaml_file
from tracker.importing.entries import Kinds
from tracker.store.catalogue import edit
from tracker.store.catalogue.edit import Row, Table
from tracker.store.db import Connection

KINDS: Mapping[str, Resource] = Kinds(catalogue.RESOURCES).top
"""The kinds of objects, by their names in files."""

_NAMES = {resource.table.name: name for name, resource in KINDS.items()}

LEFT_OUT = """\
Left out are advertisers' postback secrets, API tokens and webhooks: make them where the file is imported. An
advertiser keeps a secret that you know: `tracker postback-secrets add ADVERTISER --secret-file FILE`.
Also left out are the history of prices, and clicks that count towards caps: `tracker backup` copies these.
Keep the file private: it has e-mail addresses, and URLs with partners' own keys.
"""

# Characters that YAML does not take as they are, although JSON does (YAML 1.2.2, 5.1 and 5.4).
_ESCAPED = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
_ROOM = 1_000  # bytes of a file besides its objects
_AROUND = 2 * len(KINDS) + 1  # values of a file besides its objects


async def objects(connection: Connection, *, with_archived: bool) -> AsyncIterator[tuple[str, Row]]:
    """All objects with the names of their kinds. It needs a transaction.

    Without archived objects, those are left out too that belong to an archived one.
    """
    current: dict[str, set[int]] = {}
    for resource in catalogue.in_order():
        table = resource.table
        ids = current.setdefault(table.name, set())
        columns = columns_of(resource)
        async for row in edit.walk(connection, table):
            if with_archived or _is_current(table, row, current):
                if table.key == "id" and not with_archived:
                    ids.add(row["id"])
                yield _NAMES[table.name], {column: row[column] for column in columns}


def columns_of(resource: Resource) -> tuple[str, ...]:
    """The fields of an object that an import reads."""
    table = resource.table
    facts = (fact for fact in table.facts if fact in catalogue.FACTS)
    return tuple(dict.fromkeys((*table.fixed, *table.columns, *facts)))


def _is_current(table: Table, row: Row, current: Mapping[str, Collection[int]]) -> bool:
    """Whether neither the object nor another one that it belongs to is archived."""
    named = [(table.parent, table.parent_table)] if table.parent else []
    named += [(reference.column, reference.table) for reference in table.references]
    return not row.get("is_archived") and all(
        not row[column] or row[column] in current[name] for column, name in named if name != table.name
    )


class Layout(Protocol):
    """How objects become a file."""

    def stem(self, kind: str) -> str:
        """The file for objects of a kind. "": one file has all kinds."""

    def begin(self) -> str: ...
    def heading(self, kind: str, *, is_first: bool) -> str: ...
    def row(self, kind: str, row: Row, *, is_first: bool) -> str: ...
    def end(self, *, is_empty: bool) -> str: ...


class _OneFile:
    def stem(self, kind: str) -> str:
        return ""


class Yaml(_OneFile):
    """A line for each field, so that two exports can be compared line by line."""

    def begin(self) -> str:
        return "".join(f"# {line}\n" for line in LEFT_OUT.splitlines())

    def heading(self, kind: str, *, is_first: bool) -> str:
        return f"\n{kind}:\n"

    def row(self, kind: str, row: Row, *, is_first: bool) -> str:
        lines = "\n".join(f"  {name}: {_json(value)}" for name, value in row.items())
        return f"-{lines[1:]}\n"

    def end(self, *, is_empty: bool) -> str:
        return "{}\n" if is_empty else ""


class Json(_OneFile):
    """A line for each object."""

    def begin(self) -> str:
        return "{"

    def heading(self, kind: str, *, is_first: bool) -> str:
        return f'{"" if is_first else "],"}\n"{kind}": [\n'

    def row(self, kind: str, row: Row, *, is_first: bool) -> str:
        return f"{'' if is_first else ','}{_json(row)}\n"

    def end(self, *, is_empty: bool) -> str:
        return "}\n" if is_empty else "]}\n"


class Csv:
    """A file for each kind. An empty cell says nothing, so it leaves a field as it is."""

    def stem(self, kind: str) -> str:
        return kind

    def begin(self) -> str:
        return ""

    def heading(self, kind: str, *, is_first: bool) -> str:
        return ",".join(columns_of(KINDS[kind])) + "\r\n"

    def row(self, kind: str, row: Row, *, is_first: bool) -> str:
        return ",".join(_cell(kind, row, name) for name in row) + "\r\n"

    def end(self, *, is_empty: bool) -> str:
        return ""


def _json(value: object) -> str:
    """JSON that is YAML too."""
    text = orjson.dumps(value).decode()
    return _ESCAPED.sub(lambda character: f"\\u{ord(character[0]):04x}", text)


def _cell(kind: str, row: Row, name: str) -> str:
    value = row[name]
    if value is None:
        return ""
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    if meant(text) != text:
        raise UserError(
            f'{kind} {_place(kind, row)}: {name} is ="…", which in CSV means what is between the quotation '
            "marks: use --format yaml"
        )
    return f'"{text.replace(chr(34), chr(34) * 2)}"' if isinstance(value, (str, dict, list)) else text


def _place(kind: str, row: Row) -> str:
    return "/".join(str(row[column]) for column in KINDS[kind].table.fixed)


class Limit(NamedTuple):
    """How much a file may have."""

    values: int = yaml_file.MOST_VALUES
    characters: int = yaml_file.LARGEST


class Writer:
    """Writes objects to files, one after the other."""

    def __init__(self, layout: Layout, open_file: Callable[[str, int], IO[bytes]], limit: Limit) -> None:
        """`open_file` takes the layout's stem and the number of a file, from 1."""
        self.number: Counter[str] = Counter()
        """How many objects of each kind were written."""
        self._layout = layout
        self._open_file = open_file
        self._limit = limit
        self._file: IO[bytes] | None = None
        self._stem, self._part, self._kind = "", 0, ""
        self._values = self._characters = 0

    def add(self, kind: str, row: Row) -> None:
        values = sum(1 for _ in _scalars(row))
        text = self._layout.row(kind, row, is_first=False)
        size = len(text.encode()) + _ROOM
        if self._file is None or self._layout.stem(kind) != self._stem:
            self._next_file(kind, 1)
        elif self._values + values > self._limit.values or self._characters + size > self._limit.characters:
            self._next_file(kind, self._part + 1)
        if kind != self._kind:
            self._write(self._layout.heading(kind, is_first=not self._kind))
            self._kind = kind
            text = self._layout.row(kind, row, is_first=True)
        self._write(text)
        self._values += values
        self.number[kind] += 1

    def end(self) -> None:
        """Complete the last file."""
        if self._file is None and not self._layout.stem("any"):
            self._next_file("", 1)
        self._end_file()

    def _next_file(self, kind: str, part: int) -> None:
        self._end_file()
        self._stem, self._part, self._kind = self._layout.stem(kind), part, ""
        self._values, self._characters = _AROUND, 0
        self._file = self._open_file(self._stem, part)
        self._write(self._layout.begin())

    def _end_file(self) -> None:
        if self._file is not None:
            self._write(self._layout.end(is_empty=not self._kind))
            self._file = None

    def _write(self, text: str) -> None:
        assert self._file
        data = text.encode()
        self._characters += len(data)
        self._file.write(data)


def _scalars(value: Any) -> Iterator[None]:
    """The values of an object as the import counts them: keys, texts, numbers and collections."""
    yield None
    if isinstance(value, dict):
        value = [*value, *value.values()]
    for member in value if isinstance(value, list) else ():
        yield from _scalars(member)
