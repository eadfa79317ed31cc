"""Counts of a batch made in Python: the same as those that PostgreSQL makes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import Engines
from tests.factories.clicks import a_row
from tests.integration.stream_client import NOON, hash_at
from tracker.domain.click_fields import FIELDS
from tracker.domain.model import MAX_ID, ClickRow, Reason
from tracker.store.clicks import insert as clicks
from tracker.store.clicks.counts import COUNTED, DECIDING, MEASURES, REPORTED, minutes_of, quarters_of
from tracker.store.clicks.tally import tally
from tracker.store.db import Connection, connect

pytestmark = pytest.mark.anyio

_CLICKS = f"WITH each AS (SELECT {COUNTED} FROM incoming AS click)"
_SUMS = ", ".join(f"sum({measure})::bigint" for measure in MEASURES)  # null and '' are one key
_QUARTERS = f"""
{_CLICKS} SELECT dimension, key, slot, {_SUMS} FROM ({quarters_of("each")}) AS of GROUP BY 1, 2, 3
"""
_MINUTES = f"{_CLICKS} {minutes_of('each')}"
_MOMENTS = (0, 1, 59_999, 60_000, 899_999, 900_000, 86_400_000)
_TEXTS = st.one_of(
    st.sampled_from(("accepted", "rejected", "", "NL", "nl", " NL", "Chrome", "İ", "'", "3")),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=5),
)


def _values(column: str) -> st.SearchStrategy[Any]:
    """Values of a column that counts look at."""
    (field,) = (field for field in FIELDS if field.name == column)
    most = MAX_ID if column.endswith("_id") else max(Reason)
    some = {bool: st.booleans(), int: st.integers(0, 3) | st.integers(0, most), str: _TEXTS}[field.kind]
    return some | st.none() if field.blank is None else some


@st.composite
def _rows(draw: st.DrawFn) -> list[ClickRow]:
    """Clicks in the order of their hashes. Each is one of a few kinds, so that some counts are above 1."""
    columns = dict.fromkeys((*REPORTED.values(), *DECIDING))
    kinds = draw(st.lists(st.fixed_dictionaries({name: _values(name) for name in columns}), min_size=1))
    places = draw(st.lists(st.tuples(st.sampled_from(_MOMENTS), st.integers(0, len(kinds) - 1)), min_size=1))
    rows = [a_row(hash=hash_at(NOON + at, n), **kinds[kind]) for n, (at, kind) in enumerate(places)]
    return sorted(rows, key=lambda row: row.hash)


@pytest.fixture(scope="module")
async def connection(engines: Engines, maintenance: asyncpg.Connection) -> AsyncIterator[Connection]:
    await maintenance.execute("CREATE DATABASE tally TEMPLATE migrated_template OWNER tracker")
    connection = await connect(engines.dsn_of("tally"))
    await clicks.prepare(connection)
    yield connection
    await connection.close()
    await maintenance.execute("DROP DATABASE tally WITH (FORCE)")


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=_rows())
async def test_counts_equal_those_of_the_database(connection: Connection, rows: list[ClickRow]) -> None:
    async with connection.transaction():
        await clicks.stage(connection, rows)
        quarters = await connection.fetch(_QUARTERS)
        minutes = await connection.fetch(_MINUTES)
    counted = tally(rows)
    found = [
        (dimension, *each)
        for dimension, keys, slots, sums in counted.quarters
        for each in zip(keys, slots, *sums, strict=True)
    ]
    assert sorted(found) == sorted(map(tuple, quarters))
    assert sorted(zip(*counted.minutes, strict=True)) == sorted(map(tuple, minutes))
