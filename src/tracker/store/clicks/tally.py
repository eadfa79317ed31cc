"""Counts the clicks of a batch in Python: the same sums as the queries of store.clicks.counts.

Both follow one table, MEASURES. A batch that is new is counted here, because PostgreSQL must put clicks aside
to count them itself, which takes it longer.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import NamedTuple

from tracker.domain.click_id import millis_of
from tracker.domain.model import ClickRow
from tracker.store.clicks.counts import DECIDING, MEASURES, MINUTE_MILLIS, REPORTED
from tracker.store.time_span import SLOT_MILLIS


class QuarterDelta(NamedTuple):
    """What clicks add to the counts of a dimension. An element of each list belongs to one count."""

    dimension: str
    keys: Sequence[str]
    slots: Sequence[int]
    sums: Sequence[Sequence[int]]  # a list for each of MEASURES


class MinuteDelta(NamedTuple):
    """How many clicks each minute gets."""

    minutes: Sequence[int]
    stored: Sequence[int]


class Tally(NamedTuple):
    quarters: Sequence[QuarterDelta]
    minutes: MinuteDelta


def _values_of(columns: Iterable[str]) -> Callable[[ClickRow], tuple[object, ...]]:
    return itemgetter(*map(ClickRow._fields.index, columns))


_kind_of, _keys_of = _values_of(DECIDING), _values_of(REPORTED.values())

_Kind = tuple[object, ...]  # a click's values of DECIDING
_Sums = defaultdict[tuple[object, int], list[int]]  # of a dimension, by value and slot


def tally(rows: Sequence[ClickRow]) -> Tally:
    """What clicks add to the counts. The rows are in the order of their hashes, and at least one.

    Clicks of one quarter-hour that the same measures count are taken together: one call then counts a column.
    """
    sums = {dimension: _Sums(lambda: [0] * len(MEASURES)) for dimension in ("all", *REPORTED)}
    for slot, of_slot in _periods(rows, SLOT_MILLIS):
        for kind, alike in _by_kind(of_slot).items():
            counting = _places_that_count(kind)
            columns = ([""] * len(alike), *zip(*map(_keys_of, alike), strict=True))
            for of_dimension, column in zip(sums.values(), columns, strict=True):
                for value, number in Counter(column).items():
                    counts = of_dimension["" if value is None else value, slot]
                    for place in counting:
                        counts[place] += number
    minutes, stored = zip(*((n, len(some)) for n, some in _periods(rows, MINUTE_MILLIS)), strict=True)
    return Tally([_delta(*each) for each in sums.items()], MinuteDelta(minutes, stored))


def _periods(rows: Sequence[ClickRow], millis: int) -> Iterator[tuple[int, Sequence[ClickRow]]]:
    """The rows of each period of so many milliseconds, with its number since 1970."""

    def period(row: ClickRow) -> int:
        return millis_of(row.hash) // millis

    start = 0
    while start < len(rows):
        number = period(rows[start])
        end = bisect_right(rows, number, start, key=period)
        yield number, rows[start:end]
        start = end


def _by_kind(rows: Iterable[ClickRow]) -> Mapping[_Kind, list[ClickRow]]:
    alike = defaultdict[_Kind, list[ClickRow]](list)
    for row in rows:
        alike[_kind_of(row)].append(row)
    return alike


def _places_that_count(kind: _Kind) -> list[int]:
    """The places of the measures that count such clicks."""
    values = dict(zip(DECIDING, kind, strict=True)).items()
    return [place for place, wanted in enumerate(MEASURES.values()) if wanted.items() <= values]


def _delta(dimension: str, sums: _Sums) -> QuarterDelta:
    values, slots = zip(*sums, strict=True)
    return QuarterDelta(dimension, list(map(str, values)), slots, list(zip(*sums.values(), strict=True)))
