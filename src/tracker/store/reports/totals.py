"""Totals of lists from the counts of reports: the list behind a cell is counted as fast as the cell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from tracker.store.clicks import list as click_list
from tracker.store.clicks.counts import MEASURES
from tracker.store.clicks.list import ClickFilter
from tracker.store.db import Connection
from tracker.store.reports import sources
from tracker.store.reports.sources import TooManyClicksError, Wanted


class _Sum(NamedTuple):
    """What a list counts, as a measure less another."""

    is_invalid: bool | None
    equals: Mapping[str, bool | str]
    sql: str


_CLICKS: Final = MEASURES["clicks"]
# The narrowest first: all conditions of a sum must be among the list's.
_SUMS: Final = (
    _Sum(True, MEASURES["gross"], "gross - clicks"),
    _Sum(None, MEASURES["uniques"], "uniques"),
    _Sum(None, {**_CLICKS, "is_unique": False}, "clicks - uniques"),
    _Sum(None, _CLICKS, "clicks"),
    _Sum(None, MEASURES["gross"], "gross"),
)


_FOUND_AT_ONCE: Final = frozenset({"id", "hash"})
"""Columns with an index of their own."""


async def count(connection: Connection, clicks: ClickFilter) -> int:
    """The number of clicks of a filter: from the counts of reports if these cover it, or one by one.

    Raises:
        TooManyClicksError: too many would be read one by one.
    """
    if clicks.tally is not None:
        return await click_list.count(connection, clicks)
    if clicks.has_conversions is False:
        everything, converted = (clicks._replace(has_conversions=which) for which in (None, True))
        return await count(connection, everything) - await click_list.count(connection, converted)
    if clicks.is_invalid is None and "is_test" not in clicks.columns:
        without_tests, tests = (_with(clicks, is_test=is_test) for is_test in (False, True))
        found = await _counted(connection, without_tests)
        if found is not None:
            return found + await click_list.count(connection, tests)  # an index has these alone
    found = await _counted(connection, clicks)
    return await click_list.count(connection, clicks) if found is None else found


def _with(clicks: ClickFilter, *, is_test: bool) -> ClickFilter:
    return clicks._replace(equals=(*clicks.equals, ("is_test", is_test)))


async def _counted(connection: Connection, clicks: ClickFilter) -> int | None:
    """The number of clicks by the counts of reports. None: these do not cover it."""
    for one in _SUMS:
        if clicks.is_invalid == one.is_invalid and one.equals.items() <= dict(clicks.equals).items():
            return await _sum(connection, clicks, one)
    return None


async def _sum(connection: Connection, clicks: ClickFilter, one: _Sum) -> int | None:
    """The sum. None: its clicks are read one by one."""
    rest = tuple(pair for pair in clicks.equals if pair[0] not in one.equals)
    wanted = Wanted(clicks._replace(equals=rest, is_invalid=None), ())
    try:
        plan = await sources.plan(connection, wanted)
    except TooManyClicksError:
        if clicks.columns & _FOUND_AT_ONCE:
            return None
        raise
    if not (plan.dimension or plan.rollup or plan.pieces or plan.each):
        return None
    values: list[object] = []
    parts = " UNION ALL ".join(sources.parts(plan, wanted, values))
    return int(
        await connection.fetchval(f"SELECT coalesce(sum({one.sql}), 0) FROM ({parts}) AS part", *values)  # noqa: S608
    )
