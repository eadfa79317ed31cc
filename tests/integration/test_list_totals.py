"""Totals of lists that come from the counts of reports equal a recount, and need no look at the clicks."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from tests.factories.clicks import a_row
from tests.integration.api_client import CLICKS, api_of, hash_at, run_sql, store
from tests.integration.test_partner_access import NOON
from tracker.domain.model import ClickRow
from tracker.domain.rates import Rate
from tracker.settings import Settings
from tracker.store.clicks.list import ClickFilter
from tracker.store.conditions import Among
from tracker.store.db import connect
from tracker.store.reports import sources, totals

pytestmark = pytest.mark.anyio

DAY = 86_400_000
COVERED: list[dict[str, Any]] = [
    {"country_code": "NL"},
    {"country_code": "NL", "is_test": False},
    {"status": "rejected"},
    {"status": "accepted", "is_bot": False, "is_test": False, "device_type": "phone"},
    {"status": "accepted", "is_bot": False, "is_test": False, "is_unique": False},
]
"""Filters, and all of them are counted without a look at clicks that are no tests."""
EXCLUDED: list[tuple[str, tuple[int | str, ...]]] = [
    ("country_code", ("NL",)),
    ("country_code", ("",)),
    ("affiliate_id", (513,)),
    ("device_type", ("phone", "")),
]
"""Exclusions, for which the same holds."""


def random_rows() -> list[ClickRow]:
    draw = random.Random(41)
    return [
        a_row(
            hash=hash_at(NOON + draw.randrange(3 * DAY), number),
            status=draw.choice(("accepted", "accepted", "rejected", "forwarded")),
            country_code=draw.choice(("NL", "DE", None)),
            device_type=draw.choice(("phone", "desktop", "")),
            is_bot=draw.random() < 0.2,
            is_unique=draw.random() < 0.5,
            is_test=draw.random() < 0.2,
            affiliate_id=draw.choice((513, 514)),
        )
        for number in range(400)
    ]


async def test_totals_equal_a_recount(database: Settings) -> None:
    rows = random_rows()
    await store(database, rows)
    values: dict[str, tuple[str | None, ...]] = {
        "status": (None, "accepted", "rejected"),
        "is_bot": (None, "false"),
        "is_test": (None, "false", "true"),
        "is_invalid": (None, "true", "false"),
        "country_code": (None, "NL", ""),
        "exclude_device_type": (None, "phone", ""),
        "has_conversions": (None, "false"),
    }
    async with api_of(replace(database, api_rate=Rate(100_000, "minute"))) as client:
        for chosen in random.Random(43).sample(list(product(*values.values())), 160):
            asked = {name: value for name, value in zip(values, chosen, strict=True) if value is not None}
            answer = await client.get(CLICKS, params=asked | {"per_page": "1"})
            assert answer.json()["total"] == sum(_is_wanted(row, asked) for row in rows), asked


def _is_wanted(row: ClickRow, asked: dict[str, str]) -> bool:
    """None of the rows has a conversion."""
    is_invalid = not row.is_test and (row.status != "accepted" or row.is_bot)
    facts = {**row._asdict(), "is_invalid": is_invalid, "has_conversions": False}
    return all(
        (_text(facts[name.removeprefix("exclude_")]) == value) is not name.startswith("exclude_")
        for name, value in asked.items()
    )


def _text(value: object) -> str:
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


async def test_covered_totals_look_at_no_other_click(database: Settings) -> None:
    await store(database, random_rows())
    assert database.postgres_dsn
    connection = await connect(database.postgres_dsn)
    try:
        filters = [
            *(ClickFilter(equals=tuple(equals.items())) for equals in COVERED),
            *(ClickFilter(further=(Among(*excluded, is_excluded=True),)) for excluded in EXCLUDED),
        ]
        before = [await totals.count(connection, clicks) for clicks in filters]
        await run_sql(database, "DELETE FROM click WHERE NOT is_test")
        assert [await totals.count(connection, clicks) for clicks in filters] == before
        assert all(before)
    finally:
        await connection.close()


@pytest.mark.parametrize(
    ("query", "is_refused"),
    [
        ({"aff_sub": "x"}, True),
        ({"exclude_aff_sub": "x"}, True),
        ({"aff_sub": "x", "has_conversions": "false"}, True),
        ({"aff_sub": "x", "has_conversions": "true"}, False),
        ({"aff_sub": "x", "created_from": "2024-10-11", "created_to": "2024-10-11"}, False),
        ({"aff_sub": "x", "id": "1"}, False),
        ({"country_code": "NL", "has_conversions": "false"}, False),
        ({"exclude_country_code": "NL"}, False),
        ({"exclude_affiliate_id": "513"}, False),
    ],
    ids=str,
)
async def test_list_of_too_many_clicks_is_refused_at_once(
    database: Settings, monkeypatch: pytest.MonkeyPatch, query: dict[str, str], is_refused: bool
) -> None:
    monkeypatch.setattr(sources, "MOST_CLICKS", 2)
    await store(database, random_rows())
    async with api_of(database) as client:
        answer = await client.get(CLICKS, params=query)
    assert answer.status_code == (503 if is_refused else 200), answer.text
    if is_refused:
        assert list(answer.json()["errors"]) == ["created_from"]
