"""`tracker doctor --upgrade` lists rows of earlier versions, `--fix` changes them."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from tests.factories.clicks import a_row
from tests.factories.conversions import a_conversion, store_conversions
from tests.integration.api_client import api_of, hash_at, run_sql, store
from tests.integration.test_catalogue_command import Tracker, tracker
from tracker.ops.upgrade import checks as upgrade
from tracker.ops.upgrade import device_ids
from tracker.ops.upgrade.concern import Concern
from tracker.settings import Settings
from tracker.store import doubtful_rows
from tracker.store.db import connect

__all__ = ["tracker"]
pytestmark = pytest.mark.anyio

NOW = int(time.time() * 1000)
ABSENT = ["{order_id}", "NULL", " null ", "%%ORDER%%", "N/A", "${tid}", "{{ order }}", "\u200b"]
UUID = "38400000-8cf0-11bd-b23e-10b96e40000d"

SAVED = """
UPDATE offer SET targeting = '{"country": ["UK", "DE"], "os": ["macOS"], "region": {"not": ["uk-eng"]}}',
    fallback_url = 'https://f.example/?a=1&amp;b={hash}' WHERE id = 3;
UPDATE offer SET targeting = '{"country": ["XX"], "browser": ["Chrom"]}' WHERE id = 4;
UPDATE offer_url SET url = 'https://ad.example/?c=[click_id]&d=#s1#'
    WHERE id = (SELECT min(id) FROM offer_url WHERE offer_id = 3);
INSERT INTO affiliate_postback (affiliate_id, url) VALUES (513, 'http://10.0.0.1/in');
INSERT INTO goal_terms (goal_id, country_code, payout) VALUES (3, 'UK', 7);
INSERT INTO goal_terms (goal_id, country_code, payout) VALUES (3, 'EL', 7), (3, 'GR', 8), (3, 'ZZ', 9);
UPDATE affiliate SET name = E'Cafe\\u0301 ' WHERE id = 513;
UPDATE advertiser SET name = E'\\u200b' WHERE id = 1
"""


async def fill(settings: Settings) -> None:
    for statement in SAVED.split(";\n"):
        await run_sql(settings, statement)


async def listed(tracker: Tracker, *words: str) -> dict[tuple[str, str], list[dict[str, Any]]]:
    done = await tracker("doctor", *words, "--json")
    assert (done.code, done.err) == (0, "")
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for line in done.json():
        found.setdefault((line["check"], line["where"]), []).append(line)
    return found


FIXED: list[tuple[str, str, str]] = [
    ("targeting", "offers/3", "Corrected: GB, DE"),
    ("targeting", "offers/3", "Corrected: Mac OS X"),
    ("targeting", "offers/3", "keeps nobody out. Corrected: GB-ENG"),
    ("urls", "offers/3", "Corrected: https://f.example/?a=1&b={hash}"),
    ("urls", "offers/3/urls/{url}", "Corrected: https://ad.example/?c={click_id}&d=#s1#"),
    ("goal-terms", "goals/3/terms/{uk}", "they apply to nobody. Corrected: GB"),
    ("names", "affiliates/513", "is 'Caf\\xe9' without its invisible characters"),
]
LEFT: list[tuple[str, str, str]] = [
    ("targeting", "offers/4", "'XX' is not a country"),
    ("targeting", "offers/4", "the nearest is 'Chrome'"),
    ("urls", "offers/3/urls/{url}", "#s1# is sent as it stands"),
    ("urls", "affiliates/513/postbacks/{postback}", "10.0.0.1 is not a public address"),
    ("goal-terms", "goals/3/terms/{el}", "Corrected: GR"),
    ("goal-terms", "goals/3/terms/{zz}", "'ZZ' is not a country"),
    ("names", "advertisers/1", "give it another name"),
]


async def test_doctor_lists_rows_of_earlier_versions_and_fixes_the_safe_ones(
    tracker: Tracker, database: Settings
) -> None:
    await fill(database)
    connection = await connect(database.postgres_dsn or "")
    ids = {
        "url": await connection.fetchval("SELECT min(id) FROM offer_url WHERE offer_id = 3"),
        "postback": await connection.fetchval("SELECT max(id) FROM affiliate_postback"),
        **{
            code.lower(): await connection.fetchval("SELECT id FROM goal_terms WHERE country_code = $1", code)
            for code in ("UK", "EL", "ZZ")
        },
    }
    before = await connection.fetch("SELECT targeting::text, fallback_url FROM offer ORDER BY id")
    for words in (("--upgrade",), ("--fix", "--dry-run")):
        found = await listed(tracker, *words)
        for can_fix, expected in ((True, FIXED), (False, LEFT)):
            for check, where, text in expected:
                lines = [line for line in found[check, where.format_map(ids)] if text in line["text"]]
                assert len(lines) == 1, (check, where, text, found)
                assert lines[0]["can_fix"] is (can_fix or text == "Corrected: GR"), (where, text)
    assert await connection.fetch("SELECT targeting::text, fallback_url FROM offer ORDER BY id") == before
    assert found["goal-terms", f"goals/3/terms/{ids['el']}"][0]["done"].startswith(
        "not fixed: Another object has the same"
    )
    done = await listed(tracker, "--fix")
    assert {line["done"] for lines in done.values() for line in lines if line["can_fix"]} == {
        "fixed",
        done["goal-terms", f"goals/3/terms/{ids['el']}"][0]["done"],
    }
    trail_of = "SELECT count(*) FROM audit"
    entries = await connection.fetchval(trail_of)
    twice = await listed(tracker, "--fix")
    assert "fixed" not in {line["done"] for lines in twice.values() for line in lines}
    assert await connection.fetchval(trail_of) == entries
    again = await listed(tracker, "--upgrade")
    left = {(check, where.format_map(ids)) for check, where, _ in LEFT}
    assert again.keys() & {(check, where) for check, where in found if check in upgrade.OF_CATALOGUE} == left
    rows = await connection.fetchrow("SELECT targeting::text, fallback_url FROM offer WHERE id = 3")
    assert json.loads(rows[0]) == {"country": ["GB", "DE"], "os": ["Mac OS X"], "region": {"not": ["GB-ENG"]}}
    assert rows[1] == "https://f.example/?a=1&b={hash}"
    assert await connection.fetchval("SELECT name FROM affiliate WHERE id = 513") == "Caf\u00e9"
    await connection.close()
    async with api_of(database, scopes=("offers:read",)) as client:
        trail = (await client.get("/backend/open-api/v1/users/audit")).json()["data"]
    assert {(entry["token_name"], entry["path"]) for entry in trail} == {
        ("tracker doctor --fix", where.format_map(ids)) for _, where, _ in FIXED
    }


async def test_doctor_lists_rows_of_clicks_and_conversions(tracker: Tracker, database: Settings) -> None:
    clicks = [
        a_row(hash=hash_at(NOW - 1000, n), gaid=gaid, idfa="", country_code=country, device_type=type_)
        for n, (gaid, country, type_) in enumerate(
            [
                ("{gaid}", "DE", "phone"),
                ("{gaid}", "Germany", "mobile"),
                ("null", "DE", "phone"),
                (UUID, "DE", "phone"),
                (UUID.upper().replace("-", ""), "DE", "phone"),
                ("00000000-0000-0000-0000-000000000000", "DE", "phone"),
                ("", "DE", "phone"),
                ("9F89C84A559F573636A47FF8DAED0D33", "DE", "phone"),
            ]
        )
    ]
    old = a_row(hash=hash_at(NOW - 30 * 86_400_000), gaid="long ago")
    await store(database, [*clicks, old])
    orders = [("B1", 0), ("B1 ", 1), ("C\u200b", 2), ("D", 3), ("#1001", 4), ("unknowns", 5)]
    orders += [(text, 6) for text in ABSENT]
    conversions = [
        a_conversion(clicks[at], hash=hash_at(NOW, n), order_id=order_id)
        for n, (order_id, at) in enumerate(orders)
    ]
    await store_conversions(database, conversions)
    found = await listed(tracker, "--upgrade")
    texts = {
        check: [line["text"] for (own, _), lines in found.items() if own == check for line in lines]
        for check, _ in found
    }
    pair, *absent = texts["order-ids"]
    assert pair.partition(" (")[0] == "order id 'B1 ', and 'B1' of conversion 1"
    assert sorted(text.partition(" of ")[0] for text in absent) == sorted(
        f"order id {text!a}" for text in ABSENT
    )
    assert [text.partition(",")[0].partition("have ")[2] for text in texts["device-ids"]] == [
        "gaid='{gaid}'",
        "gaid='00000000-0000-0000-0000-000000000000'",
        "gaid='9F89C84A559F573636A47FF8DAED0D33'",
        "gaid='null'",
    ]
    assert "1 have the country 'Germany', which is 'DE' in all other clicks" in texts["words"]
    assert any(text.startswith("1 have the device_type 'mobile'") for text in texts["words"])
    words = (await tracker("doctor", "--upgrade")).out.splitlines()
    assert words[-1].endswith(" can be fixed")


# Row of an earlier version, the check that lists it, place and subject.
EARLIER: list[tuple[str, str, str, str]] = [
    (
        "UPDATE goal SET is_priced = false WHERE id = 3",
        "goals",
        "offers/3/goals/3",
        "has no price, and 0 conversions wait for it",
    ),
    (
        "INSERT INTO goal (id, offer_id, name) VALUES (90, 3, 'Visit')",
        "goals",
        "offers/3/goals/90",
        "pays 0, and it is unknown whether somebody set that",
    ),
    (
        "INSERT INTO goal (id, offer_id, name, payout) VALUES (91, 3, 'Sale', 1), (92, 3, 'sale', 1)",
        "goal-names",
        "offers/3/goals/91",
        "name 'Sale' is of goals 91, 92: postbacks with it are held",
    ),
    ("", "goal-names", "offers/3/goals/92", "is of goals 91, 92"),
    (
        "INSERT INTO goal (id, offer_id, name, code, payout)"
        " VALUES (93, 4, 'Sale', NULL, 1), (94, 4, 'B', 'SALE', 1)",
        "goal-names",
        "offers/4/goals/93",
        "name 'Sale' means goal 94 in a postback",
    ),
    (
        "INSERT INTO goal (id, offer_id, name, payout, parent_goal_id, click_window)"
        " VALUES (95, 3, 'Bonus', 1, 3, 60)",
        "windows",
        "offers/3/goals/95",
        "has parent goal 3 and a click_window of 60 s",
    ),
    (
        "INSERT INTO goal (id, offer_id, name, payout, currency) VALUES (96, 3, 'Fine', 1.5, 'JPY')",
        "amounts",
        "offers/3/goals/96",
        "payout 1.50 JPY is finer than the currency's unit of 1",
    ),
    (
        "INSERT INTO goal_terms (id, goal_id, country_code, revenue) VALUES (990, 96, 'DE', 2.25)",
        "amounts",
        "goals/96/terms/990",
        "revenue 2.25 JPY is finer",
    ),
]
QUIET = """
INSERT INTO goal (id, offer_id, name, takes_payout) VALUES (70, 3, 'Told', true);
INSERT INTO goal (id, offer_id, name, is_archived) VALUES (71, 3, 'Gone', true), (72, 4, 'Gone', true);
INSERT INTO goal (id, offer_id, name, payout, parent_goal_id, click_window)
    VALUES (73, 3, 'Child', 1, 3, NULL);
INSERT INTO goal (id, offer_id, name, payout, currency) VALUES (74, 3, 'Dinar', 1.005, 'KWD');
INSERT INTO goal (id, offer_id, name, payout_type, payout) VALUES (75, 3, 'Share', 'percent', 12.345)
"""
OF_GOALS = ("goals", "goal-names", "windows", "amounts", "booked-at-0")


async def test_doctor_lists_goals_of_postbacks(tracker: Tracker, database: Settings) -> None:
    for statement in QUIET.split(";\n"):
        await run_sql(database, statement)
    assert [key for key in await listed(tracker, "--upgrade") if key[0] in OF_GOALS] == []
    for statement, *_ in EARLIER:
        await run_sql(database, statement or "SELECT 1")
    for _ in range(2):  # these rows cannot be fixed
        found = await listed(tracker, "--fix")
        told = {(check, where) for _, check, where, _ in EARLIER}
        assert {key for key in found if key[0] in OF_GOALS} == told
        for _, check, where, text in EARLIER:
            (line,) = found[check, where]
            assert (text in line["text"], line["can_fix"]) == (True, False), (check, where, line)


async def test_goal_that_was_set_with_this_version_is_not_listed(
    tracker: Tracker, database: Settings
) -> None:
    made = [
        await tracker("goals", "add", "3", *words.split(), "--json")
        for words in (
            "name=Free payout=0",
            "name=Child payout=1 parent_goal_id=3 click_window=60",
            "name=Later payout=1 parent_goal_id=3",
        )
    ]
    later = made[2].json()["id"]
    assert (await tracker("goals", "set", "3", str(later), "click_window=60")).code == 0
    assert [key for key in await listed(tracker, "--upgrade") if key[0] in OF_GOALS] == []


async def test_doctor_lists_conversions_booked_at_0(tracker: Tracker, database: Settings) -> None:
    click = a_row(hash=hash_at(NOW - 1000))
    await store(database, [click])
    for statement in (
        "INSERT INTO goal (id, offer_id, name) VALUES (90, 3, 'Late'), (91, 3, 'Free')",
        "INSERT INTO goal (id, offer_id, name, is_priced) VALUES (92, 3, 'Never', false)",
        "DELETE FROM goal_price WHERE goal_id = 90",
        "UPDATE goal SET payout = 12 WHERE id = 90",
    ):
        await run_sql(database, statement)
    nothing = {"status": "approved", "payout": "0", "revenue": "0"}
    rows: list[dict[str, Any]] = [
        {"goal_id": 90},
        {"goal_id": 90},
        {"goal_id": 90, "status": "pending"},
        {"goal_id": 90, "payout": "12"},
        {"goal_id": 90, "is_test": True},
        {"goal_id": 90, "is_over_cap": True},
        {"goal_id": 91},
        {"goal_id": 92},
    ]
    await store_conversions(
        database, [a_conversion(click, order_id=str(n), **nothing | row) for n, row in enumerate(rows)]
    )
    found = await listed(tracker, "--upgrade")
    booked = {key[1]: lines[0]["text"] for key, lines in found.items() if key[0] == "booked-at-0"}
    assert booked.keys() == {"offers/3/goals/90", "offers/3/goals/92"}
    assert booked["offers/3/goals/90"].startswith("2 conversions, first 1, were approved at 0.00: by now")
    assert "up to 12.00 USD" in booked["offers/3/goals/90"]
    assert "1 conversions, first 8, were approved at 0.00: there is no price" in booked["offers/3/goals/92"]


async def test_doctor_lists_addresses_of_imported_clicks(tracker: Tracker, database: Settings) -> None:
    ips = [
        "192.0.2.7",
        "2001:db8::1",
        "",
        "not-an-ip",
        "999.1.1.1",
        "1.2.3",
        "1::2::3",
        "not-an-ip",
        "8.8.8.8 ",
    ]
    clicks = [a_row(hash=hash_at(NOW - 1000, n), ip=ip) for n, ip in enumerate(ips)]
    await store(database, clicks)
    for n, click in enumerate(clicks):
        await run_sql(
            database, "INSERT INTO legacy_click (legacy_id, hash) VALUES ($1, $2)", f"old{n}", click.hash
        )
    await store(database, [a_row(hash=hash_at(NOW, 1), ip="not imported")])
    found = (await listed(tracker, "--upgrade"))["addresses", "clicks"]
    told = [
        (line["text"].split()[0], line["text"].partition("the ip ")[2].partition(",")[0]) for line in found
    ]
    assert told[0] == ("2", "'not-an-ip'")
    assert sorted(told[1:]) == [("1", f"'{ip}'") for ip in ("1.2.3", "1::2::3", "8.8.8.8 ", "999.1.1.1")]


async def test_doctor_reads_a_part_of_the_clicks(
    tracker: Tracker, database: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [a_row(hash=hash_at(NOW - 1000 + n), gaid=f"bad{n}") for n in range(6)]
    await store(database, rows)
    monkeypatch.setattr(doubtful_rows, "CLICKS", 4)
    monkeypatch.setattr(device_ids, "MOST_NAMED", 3)
    found = await listed(tracker, "--upgrade")
    texts = [line["text"] for key, lines in found.items() if key[0] == "device-ids" for line in lines]
    assert [text.partition(",")[0] for text in texts] == [
        *(f"1 clicks of the last 7 days have gaid='bad{n}'" for n in (2, 3, 4)),
        "and 1 more with 1 other texts for a device id",
    ]


async def test_row_changed_during_the_fix_is_left_alone(tracker: Tracker, database: Settings) -> None:
    await fill(database)
    connection = await connect(database.postgres_dsn or "")
    (concern,) = [found for found in (await upgrade.concerns(connection, "names"))["names"] if found.fix]
    await connection.execute("UPDATE affiliate SET name = 'Mine' WHERE id = 513")
    assert isinstance(concern, Concern)
    assert concern.fix
    pool: Any = _One(connection)
    assert await concern.fix(pool, False) == "it has been changed"
    assert await connection.fetchval("SELECT name FROM affiliate WHERE id = 513") == "Mine"
    await connection.close()


async def test_unchangeable_row_does_not_stop_the_others(tracker: Tracker, database: Settings) -> None:
    await fill(database)
    await run_sql(
        database,
        "UPDATE offer SET targeting = 'null'::jsonb, fallback_url = 'https://f.example/?a=1&amp;b={hash}'"
        " WHERE id = (SELECT max(id) FROM offer)",
    )
    done = await listed(tracker, "--fix")
    said = [line["done"] for lines in done.values() for line in lines if line["can_fix"]]
    assert "fixed" in said
    assert any(text.startswith('not fixed: null value in column "targeting"') for text in said)
    dry = await listed(tracker, "--fix", "--dry-run")
    assert "would be fixed" not in [line["done"] for lines in dry.values() for line in lines]


class _One:
    """A connection in place of a pool."""

    def __init__(self, connection: Any) -> None:
        self.fetchval = connection.fetchval


async def test_sound_catalogue_has_nothing_to_list(tracker: Tracker) -> None:
    found = await listed(tracker, "--upgrade")
    assert [check for check, _ in found if check in upgrade.OF_CATALOGUE] == []


@pytest.mark.parametrize("words", [("--dry-run",), ("--upgrade", "--dry-run"), ("--upgrade", "--fix")])
async def test_options_that_do_not_go_together_are_refused(tracker: Tracker, words: tuple[str, ...]) -> None:
    done = await tracker("doctor", *words)
    assert (done.code, done.out) == (2 if "--fix" in words else 1, "")


async def test_rows_that_edges_leave_out_hinder_neither_doctor_nor_changes(
    tracker: Tracker, database: Settings
) -> None:
    for targeting in ('"x"', "[]", '{"os": "iOS"}', '{"os": [1]}', '{"country": 7}', "{}"):
        await run_sql(database, "UPDATE offer SET targeting = $1::jsonb WHERE id = 3", targeting)
        for url in ("no URL", "ftp://x.example/", "http://[x/", "http://h:99999/", "https://ad.example/{x"):
            await run_sql(database, "UPDATE offer SET fallback_url = $1 WHERE id = 3", url)
            found = await listed(tracker, "--upgrade")
            assert ("urls", "offers/3") not in found, url
            done = await tracker("offers", "set", "3", f"name={url}")
            assert (done.code, done.err) == (0, ""), (targeting, url, done)
    again = await tracker("offers", "set", "3", 'targeting={"os": ["macOS"]}', "--json")
    assert again.json()["targeting"] == {"os": ["Mac OS X"]}
