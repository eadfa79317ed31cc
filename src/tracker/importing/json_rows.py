"""The rows of foreign JSON: where they stand, and which fields of nested objects are ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate, chain
from typing import Any

from tracker.domain.csv_rows import LEFT_OUT, Columns, Named, plain_name

_ENVELOPE = "data"
_MOST_SHAPES = 16  # a shape may have names of megabytes
_DEEPEST = 5


class FieldNames:
    """Our names of the fields of JSON rows, nested or not."""

    def __init__(self, columns: Columns, note: Callable[[Named], None]) -> None:
        """`note`: told the names of each new shape of a row."""
        self._columns = columns
        self._note = note
        self._named = lru_cache(_MOST_SHAPES)(self._new_shape)
        outer = [accumulate(name.split(".")[:-1]) for name in columns.names]
        self._outer = {*map(plain_name, chain.from_iterable(outer))}
        self.are_theirs = bool(columns.names) or columns.ignore_rest
        """Whether the names of rows may differ from ours."""

    def ours(self, row: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
        """A row by our names, and which of its names mean the same, in words, or ""."""
        paths, values = self._flat(row)
        named, twice = self._named(paths)
        fields = dict(zip(named.ours, values, strict=True))
        fields.pop(LEFT_OUT, None)
        return fields, twice

    def is_row(self, content: Mapping[str, Any]) -> bool:
        """Whether an object has all fields that a row needs, so it is no answer with rows in it."""
        required = self._columns.required
        ours = {*self._columns.named(self._flat(content)[0]).ours}
        return bool(required) and all(ours & {*names} for names in required)

    def number_known(self, content: Mapping[str, Any]) -> int:
        """How many of an object's fields are ours."""
        return sum(name in self._columns.known for name in self._columns.named(self._flat(content)[0]).ours)

    def _flat(self, row: Mapping[str, Any]) -> tuple[tuple[str, ...], Sequence[Any]]:
        """The names and values of a row. Names of nested objects have dots, where a column is named so."""
        if not self._outer:
            return tuple(row), [*row.values()]
        pairs = [*self._pairs("", row)]
        return tuple(path for path, _ in pairs), [value for _, value in pairs]

    def _pairs(self, outer: str, row: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        for name, value in row.items():
            path = f"{outer}{name}"
            if isinstance(value, dict) and plain_name(path) in self._outer:
                yield from self._pairs(f"{path}.", value)
            else:
                yield path, value

    def _new_shape(self, paths: tuple[str, ...]) -> tuple[Named, str]:
        named = self._columns.named(paths)
        self._note(named)
        return named, named.twice()


def rows_in(content: Any, path: str, is_row: Callable[[Mapping[str, Any]], bool]) -> list[Any]:
    """The rows of a JSON value: of a list, of an answer of an API, of pages in pages, or a single row.

    `path`: names with dots between, where the rows of an object stand. Objects without it may have their
    rows as a list `data`. null is no row.
    `is_row`: whether an object that looks like an answer is a row all the same.
    """
    if content is None:
        return []
    if isinstance(content, dict) and not path and _ENVELOPE not in content:
        return [content]
    rows: list[Any] = []
    top = reversed(content) if isinstance(content, list) else [content]
    names = path.split(".") if path else []
    waiting = [(item, names) for item in top]
    while waiting:
        item, names = waiting.pop()
        inner = _inner(item, names)
        if inner is None or is_row(item):
            rows.append(item)
        else:
            found, left = inner
            waiting += [(each, left) for each in reversed(found)]
    return rows


def _inner(item: Any, path: list[str]) -> tuple[list[Any], list[str]] | None:
    """The rows or pages of an answer, and the path in them. None if the item is not an answer."""
    if not isinstance(item, dict):
        return None
    if path and (found := _at(item, path)) is not None:
        return found, []
    if isinstance(item.get(_ENVELOPE, item), dict):
        return None
    found = _at(item, [_ENVELOPE])
    return None if found is None else (found, path)


def _at(item: Any, path: list[str]) -> list[Any] | None:
    """The rows at a path: a list, the values of an object of objects, or one object. None: there are none."""
    found = [item]
    for name in path:
        inner = [each[name] for each in found if isinstance(each, dict) and name in each]
        if any(not isinstance(each, list | dict | None) for each in inner) or (found and not inner):
            return None
        lists = [each if isinstance(each, list) else [each] for each in inner if each is not None]
        found = [*chain.from_iterable(lists)]
    by_id = [*inner[0].values()] if len(inner) == 1 and isinstance(inner[0], dict) else []
    return by_id if by_id and all(isinstance(each, dict) for each in by_id) else found


def lists_in(content: Any) -> list[str]:
    """The paths of the lists of objects in an object, the nearest first."""
    found: list[str] = []
    level = [("", content)]
    for _ in range(_DEEPEST):
        inner = [
            (f"{outer}{name}", value)
            for outer, each in level
            if isinstance(each, dict)
            for name, value in each.items()
        ]
        lists = [(path, value) for path, value in inner if isinstance(value, list) and value]
        found += [path for path, value in lists if isinstance(value[0], dict)]
        level = [(f"{path}.", value) for path, value in inner]
    return found
