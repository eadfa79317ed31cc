"""`tracker import --from NAME`: files in the shapes of platforms, through the real command."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.importing import Importer, importer
from tracker.importing import presets

__all__ = ["importer"]
pytestmark = pytest.mark.anyio

FILES = Path(__file__).parents[1] / "data" / "presets"
CATALOGUE = """
advertisers:
  - {id: 7, name: PlayGames}
affiliates:
  - {id: 5, name: North Media}
offers:
  - id: 3
    name: Puzzle Quest
    advertiser_id: 7
    goals:
      - {is_base: true, currency: EUR}
      - {name: Sale, code: "2", currency: EUR}
  - id: 4
    name: Word Hunt
    advertiser_id: 7
    goals:
      - {is_base: true, currency: EUR}
      - {id: 46, name: Deposit, currency: EUR}
"""
_GOALS = {
    "affise": ("Sale", ""),
    "everflow": ("", "Deposit"),
    "trackier": ("Sale", ""),
    "tune": ("", "Deposit"),
}
"""The goals of the conversions in a platform's sample. An empty name is the base goal."""


@pytest.mark.parametrize("name", _GOALS)
async def test_clicks_and_conversions_of_a_platform_are_stored(importer: Importer, name: str) -> None:
    brought = await importer.run("catalogue", importer.file("catalogue.yaml", CATALOGUE))
    assert brought.code == 0, brought.err
    for kind in ("clicks", "conversions"):
        (file,) = (FILES / name).glob(f"{kind}.*")
        done = await importer.run(kind, "--from", name, "--tz", "UTC", "--json", file)
        assert done.code == 0, done.err
        assert (done.json["rows"], done.json["stored"], done.json["is_proven"]) == (2, 2, True)
    conversions = await importer.fetch(
        "SELECT of.offer_id, of.affiliate_id, of.status, CASE WHEN is_base THEN '' ELSE name END"
        " FROM conversion AS of JOIN goal ON goal.id = of.goal_id ORDER BY of.created_at"
    )
    assert conversions == [(3, 5, "approved", _GOALS[name][0]), (4, 5, "rejected", _GOALS[name][1])]


_CATALOGUES = {
    "affise": ("advertisers", "affiliates"),
    "everflow": ("advertisers", "affiliates", "offers", "offer_urls"),
    "tune": ("advertisers", "affiliates", "offers", "offer_urls", "offer_goals"),
}


@pytest.mark.parametrize("name", _CATALOGUES)
async def test_the_catalogue_of_a_platform_is_ours(importer: Importer, name: str) -> None:
    """Objects in our own files are the same afterwards."""
    theirs = [FILES / name / f"{kind}.json" for kind in _CATALOGUES[name]]
    ours = [FILES / name / "ours" / f"{kind}.csv" for kind in _CATALOGUES[name]]
    brought = await importer.run("catalogue", "--from", name, "--json", *theirs)
    assert brought.code == 0, brought.err
    again = await importer.run("catalogue", "--json", *ours)
    assert (again.code, again.err) == (0, "")
    assert again.json == {"created": [], "changed": {}, "left": len(brought.json["created"])}


_WITH_FORMS = [name for name in presets.names() if "forms" in presets.load(name).content]


@pytest.mark.parametrize("name", _WITH_FORMS)
async def test_forms_of_a_platform_come_into_the_catalogue(importer: Importer, name: str) -> None:
    done = await importer.run("forms", "--from", name, "--json")
    assert done.code == 0, done.err
    assert len(done.json["created"]) == sum(map(len, presets.load(name).forms().values()))
