"""Countries as people write them, at every door that takes one."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from importlib.resources import files
from typing import Any

import pytest
from httpx import AsyncClient

from tests.factories.clicks import a_click, a_row
from tests.integration.api_client import api_of, hash_at, run_sql, store
from tests.integration.importing import Importer, importer
from tests.integration.test_catalogue_command import Tracker, tracker
from tracker.domain import countries, normalise, rules
from tracker.settings import Settings
from tracker.store.catalogue.demo import load_demo

__all__ = ["importer", "tracker"]
pytestmark = pytest.mark.anyio

USERS = "/backend/open-api/v1/users"
SCOPES = ("offers:read", "offers:write", "money:write", "clicks:read", "conversions:read", "reports:read")

SAME = [
    ("DE", "DE", "the code"),
    ("de", "DE", "in any case"),
    (" De\u00a0", "DE", "with blanks around it"),
    ("\uff24\uff25", "DE", "in full width, as Japanese keyboards type it (NFKC)"),
    ("UK", "GB", "reserved for the United Kingdom, and what its own people write"),
    ("el", "GR", "what the EU writes for Greece"),
    ("DEU", "DE", "alpha-3: one meaning each, by the same standard"),
    ("usa", "US", "alpha-3 in any case"),
    ("U.S.A.", "US", "with points"),
    ("XK", "XK", "Kosovo: of the user-assigned range"),
    ("Germany", "DE", "the English name"),
    ("  germany ", "DE", "in any case, trimmed"),
    ("Great Britain", "GB", "a name beside ISO's own"),
    ("United States of America", "US", "the long name"),
    ("South Korea", "KR", "a usual name"),
    ("Korea, Republic of", "KR", "as ISO writes it"),
    ("Republic of Korea", "KR", "the same in the order of speech"),
    ("Ivory Coast", "CI", "a usual name"),
    ("Cote d'Ivoire", "CI", "without its accent"),
    ("C\u00f4te d\u2019Ivoire", "CI", "with the typographer's apostrophe"),
    ("Co\u0302te d'Ivoire", "CI", "with its accent apart (NFD)"),
    ("St. Lucia", "LC", "abbreviated"),
    ("The Gambia", "GM", "with its article"),
    ("Turkey", "TR", "the former name"),
    ("T\u00dcRK\u0130YE", "TR", "with the dotted I of its own language"),
    ("Trinidad & Tobago", "TT", "with a sign for and"),
    ("Niger", "NE", "not Nigeria"),
    ("Dominica", "DM", "not the Dominican Republic"),
    ("Republic of Georgia", "GE", "no state of the US is called so"),
    ("DR Congo", "CD", "which Congo it is"),
]
REFUSED = [
    ("Georgia", "GE", "a country, or a state of the US"),
    ("Congo", "CD", "two countries"),
    ("korea", "KP", "two countries"),
    ("Virgin Islands", "VG", "two territories"),
    ("St Martin", "SX", "two halves of an island"),
    ("Republic of China", "TW", "two readings"),
    ("XX", "ISO 3166-1", "nobody's code"),
    ("EU", "ISO 3166-1", "not a country"),
    ("A1", "ISO 3166-1", "what old geo databases wrote for proxies"),
    ("AN", "ISO 3166-1", "withdrawn in 2010"),
    ("276", "ISO 3166-1", "a number may be anything"),
    ("Germnay", "DE (Germany)", "a slip: which country is near it"),
    ("Deutschland", "ISO 3166-1", "not English"),
    ("\u200b", "ISO 3166-1", "nothing to be seen"),
]


@pytest.fixture
async def client(database: Settings) -> AsyncIterator[AsyncClient]:
    assert database.postgres_dsn
    await load_demo(database.postgres_dsn)
    async with api_of(database, scopes=SCOPES) as client:
        yield client


@pytest.mark.parametrize(("written", "code", "reason"), SAME)
def test_country_is_read_from_codes_and_names(written: str, code: str, reason: str) -> None:
    assert normalise.country(written) == code, reason


@pytest.mark.parametrize(("written", "named", "reason"), REFUSED)
def test_country_that_is_not_one_is_refused(written: str, named: str, reason: str) -> None:
    with pytest.raises(ValueError, match=r"country|write the code") as refused:
        normalise.country(written)
    assert named in str(refused.value), reason


def test_countries_are_those_of_the_time_zone_database() -> None:
    table = (files("tzdata") / "zoneinfo" / "iso3166.tab").read_text()
    listed = dict(line.split("\t") for line in table.splitlines() if not line.startswith("#"))
    assert countries.known().names.keys() == listed.keys() | {"XK"}
    assert {code: name for code, name in listed.items() if countries.named(name) != code} == {
        "GE": "Georgia",
        "GB": "Britain (UK)",
    }


async def test_targeting_and_terms_are_saved_with_the_code(client: AsyncClient) -> None:
    for n, (written, code, reason) in enumerate(SAME):
        for demand, saved in (([written], [code]), ({"not": [written, "FR"]}, {"not": [code, "FR"]})):
            wanted = {"name": f"o{n}", "advertiser_id": 1, "targeting": {"country": demand}}
            made = await client.post(f"{USERS}/offers", json=wanted)
            assert (made.status_code, made.json()["targeting"]) == (201, {"country": saved}), reason
        url = {"url": "https://ad.test/", "targeting": {"country": [written, code]}}
        made = await client.post(f"{USERS}/offers/3/urls", json=url)
        assert (made.status_code, made.json()["targeting"]) == (201, {"country": [code]}), reason
        terms = {"country_code": written, "payout": "1"}
        made = await client.post(f"{USERS}/goals/3/terms", json=terms)
        is_first = code not in {known for _, known, _ in SAME[:n]}
        assert made.status_code == (201 if is_first else 409), (reason, made.text)
        assert not is_first or made.json()["country_code"] == code, reason


async def test_unknown_country_is_saved_nowhere(client: AsyncClient) -> None:
    for written, named, reason in REFUSED:
        offer = {"name": "o", "advertiser_id": 1, "targeting": {"country": ["DE", written]}}
        tries = [
            (f"{USERS}/offers", offer, "targeting"),
            (f"{USERS}/offers", {**offer, "targeting": {"country": {"not": [written]}}}, "targeting"),
            (f"{USERS}/goals/3/terms", {"country_code": written, "payout": "1"}, "country_code"),
        ]
        for path, body, field in tries:
            answer = await client.post(path, json=body)
            assert answer.status_code == 422, (written, reason)
            assert named in answer.json()["errors"][field][0], (written, reason)


async def test_filters_take_the_same_words(client: AsyncClient, database: Settings) -> None:
    await store(
        database,
        [a_row(hash=hash_at(1_720_446_000_000, n), country_code=code) for n, code in enumerate(("DE", "GB"))],
    )
    for written, code, reason in SAME:
        found = await client.get(f"{USERS}/clicks", params={"country_code": written})
        assert found.status_code == 200, (reason, found.text)
        assert {click["country_code"] for click in found.json()["data"]} == {code} & {"DE", "GB"}, reason
    for path in ("clicks", "clicks/export", "conversions", "reports"):
        for written, status in (("UK", 200), ("Germany", 200), ("Georgia", 422), ("XX", 422)):
            query = {"country_code": written} | ({"group_by": "offer"} if path == "reports" else {})
            answer = await client.get(f"{USERS}/{path}", params=query)
            assert answer.status_code == status, (path, written)
    listed = await client.get(f"{USERS}/goals/3/terms", params={"country_code": "United Kingdom"})
    assert listed.status_code == 200


async def test_command_line_and_files_take_the_same_words(tracker: Tracker, importer: Importer) -> None:
    done = await tracker("goal-terms", "add", "3", "country_code=Germany", "payout=3", "--json")
    assert done.json()["country_code"] == "DE"
    done = await tracker("goal-terms", "add", "3", "country_code=Georgia", "payout=3")
    assert (done.code, "GE (the country)" in done.err) == (1, True)
    done = await tracker("goal-terms", "list", "3", "country_code=deu", "--json")
    assert done.json()["payout"] == "3.00"
    done = await tracker(
        "offers", "set", "3", 'targeting={"country": ["UK"], "region": ["uk-eng"]}', "--json"
    )
    assert done.json()["targeting"] == {"country": ["GB"], "region": ["GB-ENG"]}
    wanted = {
        "offers": [
            {
                "id": 3,
                "targeting": {"country": ["U.K.", "usa"]},
                "goals": [
                    {
                        "is_base": True,
                        "terms": [{"country_code": "Federal Republic of Germany", "payout": "4"}],
                    }
                ],
            }
        ]
    }
    path = importer.file("more.json", json.dumps(wanted))
    for expected in (["offers/3"], []):
        done_again = await importer.run("catalogue", path, "--json")
        assert done_again.code == 0, done_again.err
        assert [
            place
            for place in done_again.json["changed"]
            if place.startswith("offers/3") and "goals" not in place
        ] == expected
        assert done_again.json["created"] == []
    assert await importer.fetch("SELECT country_code, payout::text FROM goal_terms") == [("DE", "4.000000")]
    wrong = importer.file("wrong.yaml", "offers: [{id: 3, targeting: {country: [Congo]}}]")
    refused = await importer.run("catalogue", wrong)
    assert (refused.code, "CD (Democratic Republic of the Congo) or CG" in refused.err) == (1, True)


async def test_change_is_checked_only_in_its_own_fields(client: AsyncClient, database: Settings) -> None:
    """Saved rows keep their meaning until that field is changed."""
    saved = {"country": ["UK"], "os": ["iOS"]}
    await run_sql(database, "UPDATE offer SET targeting = $1::jsonb WHERE id = 3", json.dumps(saved))
    place = f"{USERS}/offers/3"
    changes: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"name": "New"}, saved),
        ({"targeting": {"os": ["Android"]}}, {"country": ["UK"], "os": ["Android"]}),
        ({"targeting": {"country": ["UK"]}}, {"country": ["UK"], "os": ["Android"]}),
        ({"targeting": {"country": ["UK", "DE"]}}, {"country": ["GB", "DE"], "os": ["Android"]}),
    ]
    for patch, targeting in changes:
        answer = await client.patch(place, json=patch)
        assert (answer.status_code, answer.json()["targeting"]) == (200, targeting), patch
    await run_sql(database, 'UPDATE offer SET targeting = \'{"country": ["XX"]}\' WHERE id = 3')
    assert (await client.patch(place, json={"name": "Newer"})).status_code == 200
    assert (await client.patch(place, json={"targeting": {"country": ["XX", "DE"]}})).status_code == 422


def test_edges_read_saved_rules_as_before() -> None:
    """An unchanged saved row still matches no click. The doctor lists it."""
    gb = a_click()._replace(geo=a_click().geo._replace(country_code="GB"))
    (saved,), _ = rules.compile({"country": ["UK"]}, "UTC")
    (kept,), _ = rules.compile(rules.kept({"country": ["UK"]}, {}), "UTC")
    assert (saved.holds(gb), kept.holds(gb)) == (False, True)
