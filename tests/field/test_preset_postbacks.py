"""A move by a preset: old clicks come in, and advertisers' old URLs still convert them."""

from __future__ import annotations

import asyncio
import csv
from pathlib import Path

import pytest

from tests.field.advertiser import SECRET, advertiser_of
from tests.integration.importing import Importer, importer
from tracker.settings import Settings
from workers import conversion_writer

__all__ = ["importer"]
pytestmark = pytest.mark.anyio

FILES = Path(__file__).parents[1] / "data" / "presets"
MORE = """
affiliates: [{id: 5, name: North Media}]
offers: [{id: 4, name: Word Hunt, advertiser_id: 1}]
"""
LATE = {
    "everflow": f"/?nid=12&transaction_id={{}}&amount=40&order_id=A-9&verification_token={SECRET}",
    "tune": f"/aff_lsr?offer_id=3&transaction_id={{}}&amount=40&security_token={SECRET}",
    "trackier": f"/acquisition?click_id={{}}&txn_id=A-9&sale_amount=40&status=approved&token={SECRET}",
}
"""URLs in the shape of a platform's page, without the id of a click."""


@pytest.mark.parametrize("name", LATE)
async def test_old_click_converts_by_the_old_url(database: Settings, importer: Importer, name: str) -> None:
    with (FILES / name / "ours" / "clicks.csv").open() as file:
        click_id = next(csv.DictReader(file))["legacy_id"]
    (clicks,) = (FILES / name).glob("clicks.*")
    async with advertiser_of(database) as advertiser:
        for words in (
            ("catalogue", importer.file("more.yaml", MORE)),
            ("clicks", "--from", name, "--tz", "UTC", clicks),
            ("forms", "--from", name),
        ):
            done = await importer.run(*words)
            assert done.code == 0, done.err
        await advertiser.connection.execute("UPDATE goal SET click_window = NULL")
        late = LATE[name].format(click_id)
        while (answer := await advertiser.edge.get(late)).status_code == 404:
            await asyncio.sleep(0.01)  # the edge knows the form within a second
        assert (answer.status_code, answer.json()) == (200, {"status": "success"})
        await conversion_writer.run(advertiser.settings, burst=True)
        found = await advertiser.fetch(
            "SELECT goal_id, status, trim_scale(sale_amount)::text, affiliate_id FROM conversion"
            " JOIN legacy_click ON legacy_click.hash = click_hash WHERE legacy_click.legacy_id = $1",
            click_id,
        )
        logged = await advertiser.fetch("SELECT result, reason, form ->> 'name' FROM postback")
        assert found == [(30, "approved", "40", 5)], logged
