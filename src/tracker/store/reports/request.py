"""What reports are asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tracker.store.reports.conversions import Basis
from tracker.store.reports.measures import MEASURES, money_terms, ordering
from tracker.store.reports.sources import Wanted

MOST_ROWS = 10_000
"""Most rows of a report. The totals cover all groups."""


class Sort(NamedTuple):
    """What rows are sorted by."""

    by: str  # a group, or one of MEASURES
    is_descending: bool
    currency: str = ""  # of money

    @property
    def money_terms(self) -> Mapping[str, str]:
        """SQL over groups of conversions: the columns that `sql` needs of money."""
        measure = MEASURES.get(self.by)
        return money_terms(measure, self.currency) if measure and measure.is_money else {}

    @property
    def sql(self) -> str:
        """SQL over sums: the value of the measure, null of a group."""
        measure = MEASURES.get(self.by)
        return ordering(measure) if measure else "NULL"


class Compared(NamedTuple):
    """The other span of a comparison."""

    wanted: Wanted
    shifts: Mapping[str, int]  # how much larger its numbers of TIMES are than those of the report
    within: Mapping[str, tuple[int, int]]  # the first and last numbers of TIMES in the report


class ReportRequest(NamedTuple):
    """A report to compute."""

    wanted: Wanted
    basis: Basis = "click"  # the time that selects conversions and decides their group
    sort: Sort | None = None  # None: by time, then by gross
    limit: int = MOST_ROWS
    min_clicks: int = 0
    with_conversions: bool = False  # only groups with conversions
    is_timed: bool = False  # with the time from click to conversion
    compared: Compared | None = None

    @property
    def sides(self) -> Sequence[Wanted]:
        """The report's own span, and the one it is compared with."""
        return (self.wanted, self.compared.wanted) if self.compared else (self.wanted,)

    @property
    def is_whole(self) -> bool:
        """Whether no row is left out, if there are fewer than `limit`."""
        return not (self.min_clicks or self.with_conversions or self.compared)
