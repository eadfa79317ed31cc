"""`tracker import catalogue`: all or nothing, repeatable, with every error named."""

from __future__ import annotations

import json
import re

import pytest

from tests.integration.importing import Importer, importer

__all__ = ["importer"]
pytestmark = pytest.mark.anyio

_WHOLE = """
advertisers:
  - {id: 70, name: PlayGames}
affiliates:
  - name: John Doe
    postbacks:
      - {url: "https://aff.test/?p={payout}", offer: Puzzle Quest, goal: Sale}
  - {name: Jane Roe, status: pending}
offers:
  - name: Puzzle Quest
    advertiser: PlayGames
    fallback_offer: Farm
    targeting: {country: [DE, NO], schedule: ["mon-fri 09:00-18:00"]}
    urls:
      - {name: main, url: "https://ad.test/?c={hash}"}
      - {url: "https://ad.test/two?c={hash}", weight: 3}
    affiliates:
      - {affiliate: John Doe, status: approved}
    free_values:
      - {n: 1, value: winter}
      - {n: 1, affiliate: John Doe, value: spring}
    caps:
      - {period: day, amount: 5000}
      - {period: day, amount: 100, affiliate_id: 0, counts: uniques}
    goals:
      - {is_base: true, name: Install, payout: "2.5", currency: eur}
      - name: Sale
        payout_type: percent
        payout: "12"
        terms: [{affiliate: John Doe, payout: "15"}]
  - {name: Farm, advertiser: PlayGames, fallback_offer: Puzzle Quest}
blocks:
  - {field: source, value: popunder, offer: Farm}
bot_rules:
  - {field: user_agent, value: AcmeTool}
tracking_hosts:
  - {host: go.example}
link_forms:
  - {name: TUNE, path: /aff_c}
postback_forms:
  - name: TUNE
    path: /aff_goal
    match: {transaction_id: "*", a: lsr}
    parameters: {transaction_id: click_id, amount: sale_amount}
    values: {status: {lead: pending, "2": rejected}}
    secret: security_token
    advertiser: PlayGames
    source: tune
link_codes:
  - {kind: offer, code: 2CTPL, offer: Farm}
  - {kind: affiliate, code: "2871", affiliate: John Doe}
network: {fallback_offer: Farm}
"""


async def test_catalogue_is_imported_and_a_second_import_changes_nothing(importer: Importer) -> None:
    path = importer.file("network.yaml", _WHOLE)
    planned = await importer.run("catalogue", path, "--dry-run")
    (warning,) = planned.err.splitlines()  # of Farm, whose base goal the file does not price
    assert (planned.code, "offers[1]: goal " in warning) == (0, True)
    assert planned.out.splitlines()[-1] == "22 would be created, 2 would be changed, 0 left as they are"
    assert await importer.fetch("SELECT count(*) FROM advertiser") == [(0,)]
    done = await importer.run("catalogue", path)
    ids = re.compile(r"\d+")  # of goals: sequences are not rolled back
    assert ids.sub("", done.out) == ids.sub("", planned.out.replace("would be ", ""))
    again = await importer.run("catalogue", path, "--json")
    assert again.json == {"created": [], "changed": {}, "left": 24}


_FACTS = [
    ("SELECT id FROM advertiser", [(70,)]),
    ("SELECT o.name, f.name FROM offer o JOIN offer f ON f.id = o.fallback_offer_id ORDER BY 1", [
        ("Farm", "Puzzle Quest"),
        ("Puzzle Quest", "Farm"),
    ]),
    ("SELECT targeting -> 'country' ->> 1 FROM offer WHERE name = 'Puzzle Quest'", [("NO",)]),
    ("SELECT weight FROM offer_url ORDER BY id", [(1,), (3,)]),
    ("SELECT value FROM offer_free_value ORDER BY affiliate_id = 0", [("spring",), ("winter",)]),
    ("SELECT name, payout::text, currency FROM goal WHERE payout = 2.5", [("Install", "2.500000", "EUR")]),
    ("SELECT payout::text FROM goal_terms", [("15.000000",)]),
    ("SELECT url, g.name FROM affiliate_postback JOIN goal g ON g.id = goal_id", [
        ("https://aff.test/?p={payout}", "Sale"),
    ]),
    ("SELECT name FROM offer JOIN deployment ON offer.id = deployment.fallback_offer_id", [("Farm",)]),
    ("SELECT DISTINCT token_id, token_name FROM audit", [(None, "import")]),
]  # fmt: skip


async def test_imported_catalogue_equals_its_file(importer: Importer) -> None:
    assert (await importer.run("catalogue", importer.file("network.yaml", _WHOLE))).code == 0
    for sql, found in _FACTS:
        assert await importer.fetch(sql) == found, sql


async def test_json_and_csv_catalogues_agree(importer: Importer) -> None:
    await importer.catalogue()
    files = [
        importer.file(
            "more.json", json.dumps({"offers": [{"id": 3, "name": "Puzzle Quest", "brand_id": 10}]})
        ),
        importer.file("affiliates.csv", "id,name,is_test\n513,John Doe,true\n,New One,\n"),
        importer.file(
            "offer_urls.csv", 'offer;url;weight;targeting\nFarm;https://f.test/;4;{"os":["iOS"]}\n'
        ),
        importer.file("offer_goals.csv", "offer,is_base,payout\nFarm,true,1.5\n"),
    ]
    done = await importer.run("catalogue", *files, "--json")
    assert done.code == 0, done.err
    (new_url,) = await importer.fetch("SELECT id FROM offer_url WHERE offer_id = 4")
    (goal,) = await importer.fetch("SELECT id FROM goal WHERE offer_id = 4")
    assert set(done.json["created"]) == {"affiliates/515", f"offers/4/urls/{new_url[0]}"}
    assert done.json["changed"] == {
        "offers/3": ["brand_id"],
        "affiliates/513": ["is_test"],
        f"offers/4/goals/{goal[0]}": ["payout"],
    }


async def test_ids_are_never_used_twice(importer: Importer) -> None:
    await importer.catalogue()
    mixed = "affiliates: [{name: Before}, {id: 516, name: Given}, {name: After}]"
    assert (await importer.run("catalogue", importer.file("mixed.yaml", mixed))).code == 0
    assert await importer.fetch("SELECT id, name FROM affiliate WHERE id > 514 ORDER BY id") == [
        (516, "Given"),
        (517, "Before"),
        (518, "After"),
    ]
    await importer.fetch("INSERT INTO affiliate (name) VALUES ('By the API')")
    assert await importer.fetch("SELECT id FROM affiliate WHERE name = 'By the API'") == [(519,)]


async def test_ids_of_goals_are_not_taken_by_base_goals(importer: Importer) -> None:
    network = """
advertisers: [{name: A}]
offers:
  - {name: X, advertiser: A, status: draft, goals: [{id: 1, name: Sale}]}
  - {name: Y, advertiser: A, status: paused}
"""
    done = await importer.run("catalogue", importer.file("network.yaml", network))
    assert (done.code, done.err) == (0, "")
    assert await importer.fetch("SELECT id, name FROM goal ORDER BY id") == [
        (1, "Sale"),
        (2, "Conversion"),
        (3, "Conversion"),
    ]


async def test_fields_absent_from_a_file_stay(importer: Importer) -> None:
    await importer.catalogue()
    change = "offers: [{id: 3, targeting: {country: [DE], os: {not: [iOS]}}}]"
    assert (await importer.run("catalogue", importer.file("one.yaml", change))).code == 0
    change = "offers: [{name: Puzzle Quest, targeting: {os: [Android]}}]"
    assert (await importer.run("catalogue", importer.file("two.yaml", change))).code == 0
    assert await importer.fetch("SELECT brand_id, targeting::text FROM offer WHERE id = 3") == [
        (9, '{"os": ["Android"]}')
    ]


_BAD = """
affiliates: [{id: 900, name: Twin}, {name: Twin}, {name: Twin, colour: red}]
offer_urls: [{url: "https://x.test/"}]
offers:
  - {name: X}
  - {name: X, advertiser: Nobody}
  - {name: X, advertiser: PlayGames, colour: red}
  - {id: 3, urls: [{url: "ftp://x.test/"}]}
  - {id: 3, starts_at: 2026-01-01}
  - {id: 3, targeting: {country: [Georgia]}}
  - {id: 3, goals: [{is_base: true, payout: 2.5}, {id: 99, is_base: true}]}
  - {id: 3, affiliates: [{affiliate: 7}, {affiliate: Nobody}]}
  - {id: 4, urls: [{id: 132}]}
postback_forms: [{name: P, path: /postback}, {name: Q, path: /q, values: {status: {lead: paid}}}]
"""
_WHY = [
    ":2: affiliates[2]: colour is not a field of this object",
    ":3: offer_urls[0]: offer_id is missing, and so is offer",
    ":5: offers[0]: advertiser_id is missing",
    ":6: offers[1]: advertiser 'Nobody' is the name of no objects: give advertiser_id",
    ":7: offers[2]: colour is not a field of this object",
    ":8: offers[3].urls[0]: url ",
    ":9: offers[4]: starts_at '2026-01-01' is not infinity or a time",
    ":10: offers[5]: targeting ",
    ":11: offers[6].goals[0]: payout ",
    ":11: offers[6].goals[1]: the offer's base goal has another id: leave the id out",
    ":12: offers[7].affiliates[0]: affiliate 7 is the name of no objects",
    ":12: offers[7].affiliates[1]: affiliate 'Nobody' is the name of no objects",
    ":13: offers[8].urls[0]: id 132 is of another offer",
    ":14: postback_forms[0]: path '/postback' is a path of the edge's own",
    ":14: postback_forms[1]: values status.lead: 'paid' is not one of",
]


async def test_wrong_fields_are_named_and_nothing_is_done(importer: Importer) -> None:
    await importer.catalogue()
    before = await importer.fetch("SELECT count(*) FROM audit")
    path = importer.file("bad.yaml", _BAD)
    done = await importer.run("catalogue", path)
    assert done.code == 1
    assert [why for why in _WHY if f"{path}{why}" not in done.err] == []
    assert len(done.err.splitlines()) == len(_WHY) + 1, done.err
    assert await importer.fetch("SELECT count(*) FROM audit") == before


async def test_file_that_is_not_there_is_named(importer: Importer) -> None:
    done = await importer.run("catalogue", "nowhere.yaml")
    assert (done.code, done.err) == (1, "tracker: nowhere.yaml: no such file or directory\n")
