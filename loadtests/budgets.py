"""The budgets of the tracker: one table for every benchmark that prints one.

docs/benchmarks.md explains them. Ratios to a bare uvicorn are of the compiled form.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from tracker.compiled import FORM


class Budget(NamedTuple):
    """The highest figure that is allowed, or the lowest."""

    limit: float
    is_floor: bool = False

    def __str__(self) -> str:
        return f"{'≥' if self.is_floor else '≤'} {self.limit:,g}"

    def allows(self, figure: float) -> bool:
        return figure >= self.limit if self.is_floor else figure <= self.limit

    def word(self, figure: float) -> str:
        """The verdict on a figure."""
        if self.allows(figure):
            return "ok"
        return "UNDER" if self.is_floor else "OVER"


def judge(figures: Sequence[float], budget: Budget | None) -> str:
    """The budget, and the verdict on the median of some rounds. Without a budget, a dash."""
    if budget is None:
        return "-"
    is_split = len({budget.allows(figure) for figure in figures}) > 1
    return f"{budget} {budget.word(median(figures))}{' (within the spread)' if is_split else ''}"


# Of the edge, ÷ a bare uvicorn.
KNOWN_INSTRUCTIONS = Budget(1.25)
BROWSER_INSTRUCTIONS = Budget(1.2)
KNOWN_64 = Budget(1.6)
KNOWN_256 = Budget(1.35)
NEW = Budget(2.6)
NEW_ASKING = Budget(4.0)
# Of the edge, ÷ an empty Starlette Route.
AHEAD_OF_ROUTE = Budget(1.0)
LEVEL_WITH_ROUTE = Budget(1.05)  # runs of one build differ by as much
# Of the edge with a big catalogue, ÷ with a small one.
BIG_CATALOGUE = Budget(1.05)
# Of worker and PostgreSQL, ÷ a bare uvicorn.
WRITER = Budget(1.7)
# From the click to the table on two cores, as a part of what a bare uvicorn answers with one.
END_TO_END = Budget(0.4, is_floor=True)
# At a part of the load that is kept up with, milliseconds.
TAIL_SHARE = 0.7
P99 = Budget(15)
P999 = Budget(60)
# Of the API, up to 10 million clicks, milliseconds and rows a second.
PAGE = Budget(10)
REPORT = Budget(50)
SUB_IDS = Budget(1000)  # of an affiliate's month
EXPORT = Budget(100_000, is_floor=True)
# Of a page of the dashboard at 10 million clicks: milliseconds, and bytes with its style and scripts.
PAGE_KEPT = Budget(150)  # sums are kept, or it reads few rows
PAGE_READ = Budget(500)  # it reads clicks one by one
PAGE_BYTES = Budget(150_000)
# Of Valkey's memory, bytes. Below some 650,000 visitors a day their buckets weigh more.
VISITOR = Budget(40)


def describe_form() -> str:
    """The form of the edge that runs."""
    return (
        "the edge runs compiled"
        if FORM.is_compiled
        else f"the edge runs {FORM.text}; budgets are of the compiled form"
    )
