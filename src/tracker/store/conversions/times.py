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

_TIMES = f"""
SELECT width_bucket(seconds, ${{n}}::bigint[]) AS step, count(*), count(*) FILTER (WHERE status = 'rejected')
FROM (SELECT {SECONDS_FROM_CLICK} AS seconds, status FROM conversion WHERE {{condition}}) AS told GROUP BY 1
"""  # noqa: S608
_QUANTILES = f"""
SELECT percentile_disc(ARRAY[0.5, 0.9]) WITHIN GROUP (ORDER BY {SECONDS_FROM_CLICK})
FROM conversion WHERE {{condition}}
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
    counted = _TIMES.format(n=len(values) + 1, condition=condition)
    async with reading(pool, "repeatable_read") as connection:
        found = {step: rest for step, *rest in await connection.fetch(counted, *values, list(STEPS))}
        quantiles = await connection.fetchval(_QUANTILES.format(condition=condition), *values)
    edges = (None, *STEPS, None)
    steps = [Step(edges[n], edges[n + 1], *found.get(n, (0, 0))) for n in range(len(edges) - 1)]
    median, most = quantiles or (None, None)
    return Times(steps if steps[0].conversions else steps[1:], median, most)
