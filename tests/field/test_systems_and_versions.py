"""Versions frozen by browsers, and systems that name another one for compatibility."""

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
    with Path(__file__).with_name("systems_and_versions.tsv").open(newline="") as lines:
        return list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))


async def test_browser_version_is_true_or_unknown(database: Settings) -> None:
    async with edge_of(database) as client:
        for case in cases():
            await client.get("/offer/3?affiliate_id=513", headers={"User-Agent": case["user_agent"]})
            (row,) = await recorded(database)
            told = row.device_os, row.device_os_version, row.device_type
            assert told == (case["system"], case["version"], case["type"]), case
            assert (row.is_bot, row.device_model == "Browser") == (False, False), case


async def test_explain_finds_the_same_system(database: Settings) -> None:
    assert database.postgres_dsn
    await load_demo(database.postgres_dsn)
    async with api_of(database, scopes=("offers:read",)) as client:
        for case in cases():
            query = {"url": "http://t.test/offer/3?affiliate_id=513", "user_agent": case["user_agent"]}
            visitor = (await client.get("/backend/open-api/v1/explain", params=query)).json()["visitor"]
            told = tuple(visitor[f"device_{name}"] for name in ("os", "os_version", "type"))
            assert told == (case["system"], case["version"], case["type"]), case
