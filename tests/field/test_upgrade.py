"""What `tracker doctor --upgrade` lists of what earlier versions have saved, and what `--fix` changes."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from tests.clicks import a_row
from tests.conversions import a_conversion, store_conversions
from tests.integration.api_client import api_of, hash_at, run_sql, store
from tests.integration.test_catalogue_command import Tracker, tracker
from tracker import upgrade
from tracker.settings import Settings
from tracker.store.pool import connect
from tracker.upgrade.concern import Concern

__all__ = ["tracker"]
pytestmark = pytest.mark.anyio

NOW = int(time.time() * 1000)
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
    ("targeting", "offers/3", "it would be GB, DE"),
    ("targeting", "offers/3", "it would be Mac OS X"),
    ("targeting", "offers/3", "keeps nobody out; it would be GB-ENG"),
    ("urls", "offers/3", "it would be https://f.example/?a=1&b={hash}"),
    ("urls", "offers/3/urls/{url}", "it would be https://ad.example/?c={click_id}&d=#s1#"),
    ("goal-terms", "goals/3/terms/{uk}", "they apply to nobody; it would be GB"),
    ("names", "affiliates/513", "is 'Caf\\xe9' without what nobody sees"),
]
LEFT: list[tuple[str, str, str]] = [
    ("targeting", "offers/4", "'XX' is not a country"),
    ("targeting", "offers/4", "the nearest is 'Chrome'"),
    ("urls", "offers/3/urls/{url}", "#s1# is sent as it stands"),
    ("urls", "affiliates/513/postbacks/{postback}", "10.0.0.1 is not a public address"),
    ("goal-terms", "goals/3/terms/{el}", "it would be GR"),
    ("goal-terms", "goals/3/terms/{zz}", "'ZZ' is not a country"),
    ("names", "advertisers/1", "give it one"),
]


async def test_doctor_lists_what_earlier_versions_saved_and_fixes_what_is_safe(
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
                assert lines[0]["can_fix"] is (can_fix or text == "it would be GR"), (where, text)
    assert await connection.fetch("SELECT targeting::text, fallback_url FROM offer ORDER BY id") == before
    assert found["goal-terms", f"goals/3/terms/{ids['el']}"][0]["done"].startswith(
        "not fixed: There is another"
    )
    done = await listed(tracker, "--fix")
    assert {line["done"] for lines in done.values() for line in lines if line["can_fix"]} == {
        "fixed",
        done["goal-terms", f"goals/3/terms/{ids['el']}"][0]["done"],
    }
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
            ]
        )
    ]
    old = a_row(hash=hash_at(NOW - 30 * 86_400_000), gaid="long ago")
    await store(database, [*clicks, old])
    orders = [("B1", 0), ("B1 ", 1), ("C\u200b", 2), ("D", 3)]
    conversions = [a_conversion(clicks[n], hash=hash_at(NOW, n), order_id=order_id) for order_id, n in orders]
    await store_conversions(database, conversions)
    found = await listed(tracker, "--upgrade")
    texts = {
        check: [line["text"] for (own, _), lines in found.items() if own == check for line in lines]
        for check, _ in found
    }
    assert [text.partition(" (")[0] for text in texts["order-ids"]] == [
        "order id 'B1 ', and 'B1' of conversion 1"
    ]
    assert [text.partition(",")[0].partition("have ")[2] for text in texts["device-ids"]] == [
        "gaid='{gaid}'",
        "gaid='00000000-0000-0000-0000-000000000000'",
        "gaid='null'",
    ]
    assert "1 have the country 'Germany', which is 'DE' in all others" in texts["words"]
    assert any(text.startswith("1 have the device_type 'mobile'") for text in texts["words"])
    words = (await tracker("doctor", "--upgrade")).out.splitlines()
    assert words[-1].endswith(" can be fixed")


async def test_row_that_was_changed_meanwhile_is_left_alone(tracker: Tracker, database: Settings) -> None:
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


async def test_row_that_cannot_be_changed_stops_no_other(tracker: Tracker, database: Settings) -> None:
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


async def test_a_sound_catalogue_has_nothing_to_list(tracker: Tracker) -> None:
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
