"""The list behind each cell of a report: its total is the cell."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl
from zoneinfo import ZoneInfo

import pytest
from httpx import AsyncClient

from tests.factories.conversions import store_conversions
from tests.integration.api_client import api_of, store
from tests.integration.test_api_reports import (
    CHANGES,
    COLUMNS,
    COUNTS,
    GROUPS,
    SUMS,
    ZONES,
    local,
    random_conversion,
    random_row,
    report,
)
from tracker.api.clicks.endpoints import PATH as CLICKS
from tracker.api.conversions.endpoints import PATH as CONVERSIONS
from tracker.dashboard.reports.cell_links import Cell, CellLinks
from tracker.domain.periods import PERIODS
from tracker.domain.rates import Rate
from tracker.settings import Settings
from tracker.store.reports.measures import MEASURES

pytestmark = pytest.mark.anyio

SCOPES = ("reports:read", "clicks:read", "conversions:read")
PATHS = {"clicks": CLICKS, "conversions": CONVERSIONS}
CLICK_SUMS = [name for name in SUMS if name in ("clicks", "uniques", "duplicates", "invalid", "gross")]

NO_FILTER = {"clicks": {"referrer_host"}, "conversions": {"referrer_host", "status", "reason", "isp"}}
NO_FILTER["conversions"] |= {"bot_reason", "adv_sub5"}
"""Groups that a list has no filter for."""
NO_FILTER_FOR_NULL = {"offer_url", "brand", "affiliate_group"}
FILTERS = {
    "offer_id": ["1,2", "3"],
    "exclude_affiliate_id": ["4"],
    "country_code": ["NL", ""],
    "status": ["accepted", "rejected,forwarded"],
    "exclude_status": ["accepted"],
    "is_bot": ["true", "0"],
    "is_unique": ["1"],
    "reason": ["0,10"],
    "has_conversions": ["true", "false"],
    "aff_sub": ["a"],
    "exclude_city": ["Amsterdam"],
}


@pytest.fixture
async def stored(database: Settings) -> Settings:
    """Clicks around changes of clocks, and conversions of some."""
    draw = random.Random(29)
    rows = [random_row(draw, number) for number in range(400)]
    await store(database, rows)
    await store_conversions(database, [random_conversion(draw, draw.choice(rows)) for _ in range(250)])
    return replace(database, api_rate=Rate(100_000, "minute"))


async def total(client: AsyncClient, cell: Cell) -> int:
    answer = await client.get(PATHS[cell.noun], params=[*cell.parameters, ("per_page", "1")])
    assert answer.status_code == 200, (cell, answer.text)
    return int(answer.json()["total"])


def values_of(row: dict[str, Any], groups: list[str]) -> dict[str, Any]:
    return {group: row[COLUMNS.get(group, group)] for group in groups}


def may_lack_a_list(noun: str, groups: dict[str, Any], filters: list[tuple[str, str]]) -> bool:
    is_unfiltered = not NO_FILTER[noun].isdisjoint(groups)
    is_null = any(groups[group] is None for group in NO_FILTER_FOR_NULL & groups.keys())
    names = {name.removeprefix("exclude_") for name, _ in filters}
    return is_unfiltered or is_null or (noun == "conversions" and not names.isdisjoint({"status", "reason"}))


async def check_row(
    client: AsyncClient, asked: list[tuple[str, str]], row: dict[str, Any], groups: list[str]
) -> int:
    """Compare each count of a row with its list. Returns the number of lists."""
    links, values = CellLinks(asked, "UTC"), values_of(row, groups)
    filters = [pair for pair in asked if pair[0] in FILTERS]
    seen = 0
    for measure in (*CLICK_SUMS, *COUNTS):
        cell = links.cell(values, measure)
        noun = "clicks" if measure in CLICK_SUMS else "conversions"
        if cell is None:
            assert row[measure] == 0 or may_lack_a_list(noun, values, filters), (measure, values, asked)
            continue
        assert (cell.noun, cell.is_count) == (noun, True)
        assert await total(client, cell) == row[measure], (measure, cell, values, asked)
        seen += 1
    return seen


async def test_every_measure_of_every_group_leads_to_its_rows(stored: Settings) -> None:
    draw = random.Random(31)
    async with api_of(stored, scopes=SCOPES) as client:
        for group in GROUPS:
            zone = draw.choice(ZONES)
            asked = [("group_by", group), ("tz", zone), ("date_basis", draw.choice(("click", "conversion")))]
            body = await report(client, **dict(asked))
            rows = draw.sample(body["data"], min(3, len(body["data"])))
            seen = [await check_row(client, asked, row, [group]) for row in rows]
            assert any(seen) == (group != "referrer_host")
            await check_row(client, asked, body["totals"], [])


async def test_filters_and_ranges_go_along(stored: Settings) -> None:
    draw = random.Random(37)
    async with api_of(stored, scopes=SCOPES) as client:
        for _ in range(80):
            zone = draw.choice(ZONES)
            low, high = sorted(draw.choice(CHANGES) + draw.randrange(-80_000_000, 80_000_000) for _ in "lh")
            groups = draw.sample(GROUPS, draw.randint(1, 3))
            asked = [
                *(("group_by", ",".join(groups)), ("tz", zone), ("limit", "50"), ("min_clicks", "0")),
                ("created_at_from" if draw.random() < 0.5 else "created_from", local(low, ZoneInfo(zone))),
                ("created_to", local(high, ZoneInfo(zone))),
                *((name, draw.choice(FILTERS[name])) for name in draw.sample(list(FILTERS), 2)),
            ]
            body = await report(client, **dict(asked))
            for row in draw.sample(body["data"], min(1, len(body["data"]))):
                await check_row(client, asked, row, groups)


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Australia/Lord_Howe"])
async def test_hours_that_clocks_show_twice_are_told_apart(stored: Settings, zone: str) -> None:
    async with api_of(stored, scopes=SCOPES) as client:
        asked = [("group_by", "hour"), ("tz", zone)]
        body = await report(client, **dict(asked))
        for row in body["data"]:
            cell = CellLinks(asked, "UTC").cell({"hour": row["hour"]}, "gross")
            assert cell is not None
            assert await total(client, cell) == row["gross"], (row, cell)


async def test_amounts_lead_to_the_conversions_that_they_add_up(stored: Settings) -> None:
    async with api_of(stored, scopes=SCOPES) as client:
        asked = [("group_by", "offer,goal")]
        rows = (await report(client, **dict(asked)))["data"]
        for row in (row for row in rows if row["goal_id"]):
            for measure, statuses in (("payout", ("approved",)), ("pending_revenue", ("pending", "hold"))):
                cell = CellLinks(asked, "UTC").cell(values_of(row, ["offer", "goal"]), measure)
                assert cell is not None
                assert not cell.is_count
                counted = sum(row[f"conversions_{status}"] for status in statuses)
                assert await total(client, cell) == counted


@pytest.mark.parametrize("measure", [name for name, one in MEASURES.items() if one.per])
def test_ratios_lead_nowhere(measure: str) -> None:
    assert CellLinks([], "UTC").cell({"offer": 3}, measure) is None


@pytest.mark.parametrize(
    ("asked", "groups", "measure"),
    [
        ("date_basis=booked", {"offer": 3}, "conversions_approved"),  # entries are not conversions
        ("", {"os": "macOS"}, "gross"),  # the filter reads it as Mac OS X
        ("", {"device_type": "spaceship"}, "gross"),
        ("", {"goal": 4}, "clicks"),
        ("created_to=2024-01-01", {"day": "2024-01-02"}, "gross"),
        ("status=rejected", {"offer": 3}, "clicks"),
    ],
)
def test_cell_without_rows_or_filter_leads_nowhere(asked: str, groups: dict[str, Any], measure: str) -> None:
    assert CellLinks(parse_qsl(asked), "UTC").cell(groups, measure) is None


def test_period_is_told_by_its_days() -> None:
    cell = CellLinks([("period", "last_month")], "Europe/Berlin").cell({}, "gross")
    first, last = PERIODS["last_month"](datetime.now(ZoneInfo("Europe/Berlin")).date())
    assert cell is not None
    days = (("created_from", str(first)), ("created_to", str(last)))
    assert cell.parameters == (("is_test", "false"), *days)


def test_texts_of_visitors_stay_texts() -> None:
    groups = {"aff_sub2": 'x"&#;', "country": None}
    cell = CellLinks([("aff_sub", "a&b=1"), ("format", "csv")], "UTC").cell(groups, "gross")
    assert cell is not None
    path, _, query = cell.address.partition("?")
    assert path == "/dashboard/clicks"
    told = [("aff_sub", "a&b=1"), ("aff_sub2", 'x"&#;'), ("without", "country_code"), ("is_test", "false")]
    assert parse_qsl(query) == told
