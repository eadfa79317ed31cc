"""Alerts: what needs attention is found, said by doctor and metrics, noted once, and told to webhooks."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from httpx import AsyncClient

from tests.factories.clicks import a_row
from tests.integration.api_client import api_of, run_sql, store
from tests.integration.fake_affiliate import FakeAffiliate
from tests.integration.ledger_entries import streams_of
from tests.integration.metrics_client import metrics_of
from tests.integration.test_postback_sender import USERS, converts
from tests.integration.test_webhooks import CAP, bodies, receiver, send, subscribes
from tracker.ops.doctor import report
from tracker.settings import Settings
from tracker.store import alerts
from tracker.store.alerts import KINDS
from tracker.store.catalogue.demo import load_demo
from tracker.store.db import connect
from workers import watch

__all__ = ["receiver"]

pytestmark = pytest.mark.anyio


@pytest.fixture
async def client(database: Settings) -> AsyncIterator[AsyncClient]:
    assert database.postgres_dsn
    await load_demo(database.postgres_dsn)
    await store(database, [a_row()])
    async with api_of(database, scopes=("admin",)) as client:
        yield client


def secret(expires: str, advertiser_id: int = 1) -> str:
    return (
        "INSERT INTO advertiser_secret (advertiser_id, secret_hash, expires_at)"
        f" VALUES ({advertiser_id}, decode(md5(random()::text), 'hex'), {expires});"
    )


def conversions(number: int, newest: str, apart: str, offer_id: int = 3) -> str:
    return f"""
INSERT INTO conversion (hash, click_hash, click_id, goal_id, is_repeatable, status, payout, payout_currency,
    revenue, revenue_currency, created_at, updated_at, offer_id, advertiser_id, affiliate_id, device_type,
    device_os, browser, affiliate_source, is_test)
SELECT gen_random_uuid(), gen_random_uuid(), n, {offer_id}, true, 'approved', 1, 'USD', 1, 'USD',
    now() - interval '{newest}' - n * interval '{apart}', now(), {offer_id}, 1, 513, '', '', '', '', false
FROM generate_series(0, {number - 1}) AS n;
"""


CLICKS = """
INSERT INTO report_count
SELECT 96, 'offer', '3', extract(epoch FROM now())::integer / 86400 * 96, 1, 1, 1;
"""


def postbacks(**results: int) -> str:
    return "".join(
        f"""
INSERT INTO postback (hash, source, ip, advertiser_id, parameters, result)
SELECT (lpad(to_hex((extract(epoch FROM now()) * 1000)::bigint - 1000 * n), 12, '0')
    || substr(md5(random()::text), 1, 20))::uuid, 'postback', '', 1, '{{}}', '{result}'
FROM generate_series(1, {number}) AS n;
"""
        for result, number in results.items()
    )


def sent(**states: int) -> str:
    asked = """
INSERT INTO affiliate_postback (id, affiliate_id, url) VALUES (7, 513, 'https://p.example/')
ON CONFLICT DO NOTHING;
"""
    return asked + "".join(
        f"""
WITH made AS (
    INSERT INTO conversion_change (conversion_id, status_after, source, is_announced)
    SELECT (SELECT min(id) FROM conversion), 'approved', 'api', true FROM generate_series(1, {number})
    RETURNING id, conversion_id
)
INSERT INTO sent_postback (change_id, conversion_id, affiliate_postback_id, affiliate_id, url, host, state,
    attempts, last_attempt_at)
SELECT id, conversion_id, 7, 513, '', '', '{state}', 1, now() FROM made;
"""
        for state, number in states.items()
    )


def codes(wrong: int) -> str:
    return f"""
INSERT INTO user_account (id, email, email_key, role) VALUES (7, 'a@b.example', 'a@b.example', 'admin');
INSERT INTO audit (token_name, address, action, resource, path, before, after)
SELECT 'a@b.example', n, 'update', 'user_account', 'users/7', '{{}}', '{{"second_factor": "wrong code"}}'
FROM generate_series(1, {wrong}) AS n;
"""


DAY = "now() + interval '1 day'"
WEEKS_AGO = "now() - interval '3 weeks'"
ONE = conversions(1, "1 hour", "1 hour")
EXPIRES, EXPIRED = (
    ("secret_expires", "advertisers/1/postback-secrets/"),
    (
        "secret_expired",
        "advertisers/1/postback-secrets/",
    ),
)
FOUND: dict[str, tuple[str, list[tuple[str, str]]]] = {
    "secret that lasts": (secret("now() + interval '15 days'") + secret("NULL") + secret("'infinity'"), []),
    "secret that expires": (secret(DAY) + secret("NULL"), [EXPIRES]),
    "secret that has expired": (secret("now() - interval '1 day'") + secret("NULL"), [EXPIRED]),
    "secret that has expired long ago": (secret(WEEKS_AGO) + secret("NULL"), []),
    "only secret, which has expired long ago": (secret(WEEKS_AGO), [EXPIRED]),
    "secret that is not needed": (
        secret(DAY) + "UPDATE advertiser SET postback_check = 'none'",
        [],
    ),
    "advertiser that is archived": (secret(DAY) + "UPDATE advertiser SET is_archived = true", []),
    "advertiser that told an hour ago": (conversions(30, "1 hour", "1 minute") + CLICKS, []),
    "silence within its usual gaps": (conversions(20, "2 days", "8 hours") + CLICKS, []),
    "silence of a day after minutes": (
        conversions(20, "25 hours", "1 minute") + CLICKS,
        [("advertiser_silent", "advertisers/1")],
    ),
    "silence of less than a day": (conversions(20, "23 hours", "1 minute") + CLICKS, []),
    "silence without clicks": (conversions(30, "25 hours", "1 minute"), []),
    "advertiser that told rarely": (conversions(19, "5 days", "1 minute") + CLICKS, []),
    "postbacks that are mostly refused": (
        postbacks(refused=3, rejected=2, held=1, stored=6),
        [("advertiser_refused", "advertisers/1")],
    ),
    "postbacks that are partly refused": (postbacks(refused=5, stored=6), []),
    "few refused postbacks": (postbacks(refused=9), []),
    "affiliate that takes nothing": (
        ONE + sent(failed=3, waiting=2),
        [("affiliate_failing", "affiliates/513")],
    ),
    "affiliate that takes some": (ONE + sent(failed=9, sent=1), []),
    "affiliate with few failures": (ONE + sent(failed=4), []),
    "affiliate that is blocked": (
        ONE + sent(failed=9) + "UPDATE affiliate SET status = 'blocked' WHERE id = 513",
        [],
    ),
    "codes that are guessed": (codes(10), [("codes_guessed", "users/7")]),
    "codes that are mistyped": (codes(9), []),
    "codes of a user who is off": (codes(10) + "UPDATE user_account SET is_disabled = true", []),
}


def _plain(found: list[alerts.Alert]) -> list[tuple[str, str]]:
    return [
        (kind, subject.rstrip("0123456789") if "secret" in kind else subject) for kind, subject, _ in found
    ]


@pytest.mark.parametrize("name", FOUND)
async def test_alert_is_found(database: Settings, name: str) -> None:
    assert database.postgres_dsn
    await load_demo(database.postgres_dsn)
    made, expected = FOUND[name]
    connection = await connect(database.postgres_dsn)
    try:
        await connection.execute("DELETE FROM advertiser_secret")
        await connection.execute(made)
        assert _plain(await alerts.find(connection)) == expected
    finally:
        await connection.close()


@pytest.mark.parametrize(
    ("cap", "change", "subject"),
    [
        (
            "(3, NULL, 'conversions', 'total', 1, 'close', NULL)",
            "UPDATE offer SET closed_until = NULL",
            "offers/3",
        ),
        (
            "(3, 0, 'conversions', 'total', 1, 'close', NULL)",
            "UPDATE offer_affiliate SET closed_until = NULL",
            "offers/3/affiliates/513",
        ),
        ("(3, NULL, 'conversions', 'total', 1, 'mark', NULL)", "SELECT 1", ""),
    ],
)
async def test_offer_that_a_cap_closed_is_an_alert_until_it_is_open(
    client: AsyncClient, database: Settings, cap: str, change: str, subject: str
) -> None:
    await run_sql(database, CAP + cap)
    await converts(database)
    connection = await connect(database.postgres_dsn or "")
    try:
        expected = [("offer_closed_by_cap", subject)] if subject else []
        assert _plain(await alerts.find(connection)) == expected
        for in_vain in ("UPDATE cap SET amount = 5", "UPDATE cap SET period = 'day'", "DELETE FROM cap"):
            await connection.execute(in_vain)  # by that alone it does not open
            assert _plain(await alerts.find(connection)) == expected, in_vain
        await connection.execute(change)
        assert await alerts.find(connection) == []
    finally:
        await connection.close()


async def test_clicks_that_the_stream_server_lost_are_an_alert(
    client: AsyncClient, database: Settings
) -> None:
    ago = int(time.time() - 3600) * 1000
    async with streams_of(database) as streams:
        await streams.count(ago, "n", 3)
        await watch.once(database)
        await watch.once(replace(database, redis_url="unix:///nowhere.sock"))  # what is known of it stays
        assert 'tracker_alerts{kind="clicks_lost"} 1' in await metrics_of(database)
        await streams.count(ago, "r", 3)
        await watch.once(database)
    assert 'tracker_alerts{kind="clicks_lost"} 0' in await metrics_of(database)
    raised = (await client.get(f"{USERS}/audit?resource=alert")).json()["data"]
    told = [entry["after"]["text"] for entry in raised if entry["action"] == "create"]
    assert len(told) == 1
    assert told[0].startswith("the stream server lost 3 answered clicks, the first of ")
    assert [entry["action"] for entry in raised] == ["delete", "create"]


@pytest.mark.parametrize("change", ["UPDATE cap SET amount = 5", "DELETE FROM cap"])
async def test_offer_of_a_cap_on_clicks_opens_with_its_cap(
    client: AsyncClient, database: Settings, change: str
) -> None:
    await run_sql(database, CAP + "(3, NULL, 'clicks', 'total', 1, 'close', NULL)")
    await run_sql(
        database,
        """
        INSERT INTO cap_mark (cap_id, affiliate_id, starts_at, amount, percent, offer_id, counts, period,
            closes, ends_at)
        SELECT id, 0, '2024-01-01', amount, 100, offer_id, counts, period, true, 'infinity' FROM cap
        """,
    )
    connection = await connect(database.postgres_dsn or "")
    try:
        assert _plain(await alerts.find(connection)) == [("offer_closed_by_cap", "offers/3")]
        await connection.execute(change)
        assert await alerts.find(connection) == []
    finally:
        await connection.close()


async def test_alert_is_said_noted_and_told_once(
    client: AsyncClient, database: Settings, receiver: FakeAffiliate
) -> None:
    await subscribes(client, receiver, event_types=["alert.raised", "alert.cleared"])
    await watch.once(database)
    assert [one.level for one in await report.examine(database, "alerts")] == ["ok"]
    await run_sql(database, "DELETE FROM advertiser_secret;" + 7 * secret(DAY))
    for _ in range(3):
        await watch.once(database)
    findings = await report.examine(database, "alerts")
    assert [one.level for one in findings] == ["warn"] * 6
    assert findings[-1].text == "and 2 more of this kind"
    assert findings[0].text.startswith("postback secret ")
    assert findings[0].advice == KINDS["secret_expires"]
    shown = await metrics_of(database)
    assert 'tracker_alerts{kind="secret_expires"} 7' in shown
    assert 'tracker_alerts{kind="advertiser_silent"} 0' in shown
    await run_sql(database, "DELETE FROM advertiser_secret")
    for _ in range(3):
        await watch.once(database)
    await send(database)
    told = bodies(receiver)
    assert [event["type"] for event in told].count("alert.raised") == 7
    assert [event["type"] for event in told].count("alert.cleared") == 7
    assert {event["data"]["kind"] for event in told} == {"secret_expires"}
    entries = (await client.get(f"{USERS}/audit?resource=alert")).json()["data"]
    assert [entry["action"] for entry in entries] == ["delete"] * 7 + ["create"] * 7
    assert {entry["token_name"] for entry in entries} == {"alerts"}
    assert entries[0]["path"].startswith("alerts/secret_expires/advertisers/1/postback-secrets/")
