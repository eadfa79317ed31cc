"""Conditions of filters in SQL. Clicks and conversions have the same columns, and so the same conditions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from tracker.domain.click_fields import FILTERS
from tracker.store.paging import Value

Equals = tuple[tuple[str, Value], ...]
"""(column, value), each column once."""

_NULLABLE: Final = frozenset(field.name for field in FILTERS if field.kind is str and field.blank is None)
"""Columns of texts that are null if they are unknown. A filter's empty text means these rows."""


class Among(NamedTuple):
    """A column has one of some values, or none of them. Values of `ip` may be networks."""

    column: str
    values: tuple[Value, ...]
    is_excluded: bool = False


Further = tuple[Among, ...]
"""What a column's one value does not say."""


def single(equals: Equals, further: Further) -> Among | None:
    """The condition, if it is the only one."""
    every = (*(Among(column, (value,)) for column, value in equals), *further)
    return every[0] if len(every) == 1 else None


def of_key(one: Among, values: list[object]) -> str:
    """The condition as an operator for the text of the column, '' for null. Appends its parameter."""
    values.append([str(value) for value in one.values])
    return f"{'<> ALL' if one.is_excluded else '= ANY'} (${len(values)}::text[])"


def equal(column: str, value: object, values: list[object], before: int = 0) -> str:
    """The condition of one value. Appends its parameter, which follows `before` earlier ones."""
    values.append(value)
    return f"{_expression(column)} = ${before + len(values)}"


def among(one: Among, values: list[object], before: int = 0) -> str:
    """The condition of several values, or of an exclusion. Appends its parameter."""
    values.append(list(one.values))
    place = f"${before + len(values)}"
    condition = f"{_expression(one.column)} = ANY ({place})"
    if one.column == "ip" and _has_network(one.values):
        condition = f"NULLIF(ip, '')::inet <<= ANY ({place}::text[]::inet[])"
    return f"({condition}) IS NOT TRUE" if one.is_excluded else condition


def columns_of(equals: Equals, further: Further) -> frozenset[str]:
    """The columns that some conditions compare."""
    return frozenset((*(column for column, _ in equals), *(one.column for one in further)))


def check(columns: Iterable[str], known: Iterable[str]) -> None:
    """See that columns may be put into SQL.

    Raises:
        ValueError: one is no filter.
    """
    if unknown := set(columns) - set(known):
        raise ValueError(f"no filter {', '.join(sorted(unknown))}")


def _expression(column: str) -> str:
    return f"coalesce({column}, '')" if column in _NULLABLE else column


def _has_network(values: Sequence[Value]) -> bool:
    return any("/" in str(value) for value in values)
