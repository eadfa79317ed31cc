"""Which sub ids of the latest clicks have a text.

No index has sub ids, because it would cost each click. So a limited number of clicks is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tracker.store.clicks.list import ClickFilter, where
from tracker.store.db import Pool
from tracker.store.paging import TOO_SLOW, reading

MOST_READ: Final = 100_000
"""Most clicks that are read, the latest ones. They take 44 ms of CPU."""
_LONGEST_MILLIS: Final = 2_000


async def fields_with(pool: Pool, text: str, clicks: ClickFilter, fields: Sequence[str]) -> dict[str, int]:
    """The fields of clicks that have a text, and the number of clicks. {} if it takes too long."""
    condition, values = where(clicks)
    text_at = f"${len(values) + 1}"
    counts = ", ".join(f"count(*) FILTER (WHERE {field} = {text_at}) AS {field}" for field in fields)
    columns = ", ".join(fields)
    statement = f"""
SELECT {counts} FROM (
    SELECT {columns} FROM click WHERE {condition} ORDER BY hash DESC LIMIT {MOST_READ}
) AS latest WHERE {text_at} IN ({columns})
"""  # noqa: S608
    try:
        async with reading(pool, "read_committed") as connection:
            await connection.execute(f"SET LOCAL statement_timeout = {_LONGEST_MILLIS}")
            row = await connection.fetchrow(statement, *values, text)
    except TOO_SLOW:
        return {}
    return {field: number for field, number in row.items() if number}
