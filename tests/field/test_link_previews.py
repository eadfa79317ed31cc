"""Link previews of machines, and apps of the same names that people use."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from tests.integration.api_client import api_of
from tests.integration.edge_client import edge_of, recorded
from tracker.settings import Settings
from tracker.store.catalogue.demo import load_demo

pytestmark = pytest.mark.anyio


def cases() -> list[dict[str, str]]:
    """The rule that finds each bot. "" is a person."""
    with Path(__file__).with_name("link_previews.tsv").open(newline="") as lines:
        return list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))


async def test_previews_are_bots_and_people_in_apps_are_not(database: Settings) -> None:
    async with edge_of(database) as client:
        for case in cases():
            answer = await client.get("/offer/3?affiliate_id=513", headers={"User-Agent": case["user_agent"]})
            (row,) = await recorded(database)
            assert answer.status_code == 302, "redirected like people"
            told = row.is_bot, row.bot_reason or "", row.is_unique
            assert told == (case["bot_reason"] != "", case["bot_reason"], case["bot_reason"] == ""), case


async def test_explain_finds_the_same_bots(database: Settings) -> None:
    assert database.postgres_dsn
    await load_demo(database.postgres_dsn)
    async with api_of(database, scopes=("offers:read",)) as client:
        for case in cases()[::4]:
            query = {"url": "http://t.test/offer/3?affiliate_id=513", "user_agent": case["user_agent"]}
            told = (await client.get("/backend/open-api/v1/explain", params=query)).json()
            assert (told["bot_reason"] or "") == case["bot_reason"], case
