"""New offers and goals have the network's currency and time zone, whichever door they come through."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

import pytest

from tests.integration.api_client import api_of
from tests.integration.importing import Importer, importer
from tracker.api.http.routing import ROOT
from tracker.store.catalogue.demo import load_demo

__all__ = ["importer"]

pytestmark = pytest.mark.anyio

NETWORK = {"TRACKER_CURRENCY": "kwd", "TRACKER_TIME_ZONE": "Asia/Kuwait"}
OFFERS = "SELECT time_zone FROM offer"
GOALS = "SELECT is_base, currency FROM goal ORDER BY id"


async def by_api(importer: Importer) -> None:
    settings = replace(importer.settings, currency="KWD", time_zone="Asia/Kuwait")
    async with api_of(settings, scopes=("offers:read", "offers:write", "money:write")) as api:
        await api.post(f"{ROOT}/advertisers", json={"name": "A"})
        await api.post(f"{ROOT}/offers", json={"name": "O", "advertiser_id": 1})
        await api.post(f"{ROOT}/offers/1/goals", json={"name": "G"})
        own = {"time_zone": "America/Lima", "name": "P", "advertiser_id": 1}
        assert (await api.post(f"{ROOT}/offers", json=own)).json()["time_zone"] == "America/Lima"
        answer = await api.patch(f"{ROOT}/offers/2", json={"time_zone": None})
        assert answer.json()["time_zone"] == "Asia/Kuwait"
        answer = await api.patch(f"{ROOT}/offers/2/goals/3", json={"currency": "PEN"})
        assert answer.json()["currency"] == "PEN"
        answer = await api.patch(f"{ROOT}/offers/2/goals/3", json={"currency": None})
        assert answer.json()["currency"] == "KWD"


async def by_command(importer: Importer) -> None:
    for words in ("advertisers add name=A", "offers add name=O advertiser_id=1", "goals add 1 name=G"):
        done = await importer.command(*words.split())
        assert done.code == 0, done.err


async def by_import(importer: Importer) -> None:
    network = """
advertisers: [{name: A}]
offers: [{name: O, advertiser: A, goals: [{name: G}, {is_base: true, payout: "1"}]}, {name: P, advertiser: A}]
"""
    done = await importer.run("catalogue", importer.file("network.yaml", network))
    assert done.code == 0, done.err


async def by_demo(importer: Importer) -> None:
    assert (await importer.command("demo")).code == 0


DOORS: Mapping[Callable[[Importer], Awaitable[None]], tuple[int, int]] = {
    by_api: (2, 3),
    by_command: (1, 2),
    by_import: (2, 3),
    by_demo: (5, 5),
}
"""How many offers and goals each door makes."""


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.__name__)
async def test_new_rows_have_the_networks_currency_and_zone(
    importer: Importer, monkeypatch: pytest.MonkeyPatch, door: Callable[[Importer], Awaitable[None]]
) -> None:
    for name, value in NETWORK.items():
        monkeypatch.setenv(name, value)
    await door(importer)
    offers, goals = DOORS[door]
    assert await importer.fetch(OFFERS) == [("Asia/Kuwait",)] * offers
    assert [currency for _, currency in await importer.fetch(GOALS)] == ["KWD"] * goals


async def test_existing_rows_keep_their_currency_and_zone(
    importer: Importer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert importer.settings.postgres_dsn
    await load_demo(importer.settings.postgres_dsn)
    for name, value in NETWORK.items():
        monkeypatch.setenv(name, value)
    for words in (("offers", "set", "3", "status=paused"), ("goals", "set", "3", "3", "payout=7")):
        assert (await importer.command(*words)).code == 0
    assert set(await importer.fetch(OFFERS)) == {("UTC",)}
    assert set(await importer.fetch(GOALS)) == {(True, "USD")}


async def test_wrong_currency_stops_a_command_with_one_line(
    importer: Importer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKER_CURRENCY", "Euro")
    done = await importer.command("offers", "list")
    assert (done.code, done.err) == (
        78,
        "tracker: TRACKER_CURRENCY: 'Euro' must be a currency of ISO 4217, like EUR\n",
    )
