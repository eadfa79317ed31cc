"""The times from clicks to their conversions, counted in steps that grow."""

from __future__ import annotations

from typing import Final, NamedTuple

from tracker.store.conversions.list import SECONDS_FROM_CLICK, ConversionFilter, where
from tracker.store.db import Pool
from tracker.store.paging import reading

_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400
STEPS: Final = (
    *(0, 10, 30, _MINUTE, 5 * _MINUTE, 15 * _MINUTE, _HOUR, 4 * _HOUR, 12 * _HOUR),
    *(_DAY, 3 * _DAY, 7 * _DAY, 14 * _DAY, 30 * _DAY),
)
"""Where the steps begin, in seconds. What is faster than a few seconds was hardly done by a person."""

# The table is read once. Both parts need the times.
_TIMES = f"""
WITH told AS MATERIALIZED (
    SELECT {SECONDS_FROM_CLICK} AS seconds, status FROM conversion WHERE {{condition}}
)
SELECT width_bucket(seconds, ${{n}}::bigint[]), count(*), count(*) FILTER (WHERE status = 'rejected'),
    (SELECT percentile_disc(ARRAY[0.5, 0.9]) WITHIN GROUP (ORDER BY seconds) FROM told)
FROM told GROUP BY 1
"""  # noqa: S608


class Step(NamedTuple):
    """Conversions whose time from the click is at least `start` and less than `end`, in seconds."""

    start: int | None  # None: less than 0, as an import may say
    end: int | None  # None: any longer time
    conversions: int
    rejected: int


class Times(NamedTuple):
    """The times of some conversions."""

    steps: list[Step]
    median: int | None  # seconds. None: there are no conversions
    most: int | None  # seconds that nine of ten conversions do not exceed


async def read(pool: Pool, conversions: ConversionFilter) -> Times:
    """The times of the conversions of a filter. The first step is left out while it has none."""
    condition, values = where(conversions)
    statement = _TIMES.format(n=len(values) + 1, condition=condition)
    async with reading(pool, "read_committed") as connection:
        rows = await connection.fetch(statement, *values, list(STEPS))
    found = {step: (conversions, rejected) for step, conversions, rejected, _ in rows}
    median, most = rows[0][3] if rows else (None, None)
    edges = (None, *STEPS, None)
    steps = [Step(edges[n], edges[n + 1], *found.get(n, (0, 0))) for n in range(len(edges) - 1)]
    return Times(steps if steps[0].conversions else steps[1:], median, most)
