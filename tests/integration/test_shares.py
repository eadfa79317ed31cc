"""Shares: whom they show what, and when they end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl

import pytest
from httpx import AsyncClient

from tests.integration.api_client import api_of, run_sql
from tests.integration.test_api_tokens import named
from tests.integration.test_saved_views import bearer
from tracker.api import shares as rules
from tracker.settings import Settings
from tracker.store import shares as stored
from tracker.store.catalogue.edit import Author
from tracker.store.db import Pool, open_pool
from tracker.store.shares import NewShare, Share
from tracker.store.token_owner import Owner

pytestmark = pytest.mark.anyio

ROOT = "/backend/open-api/v1"
SHARES = f"{ROOT}/users/shares"
OF_AFFILIATES = f"{ROOT}/affiliates/shares"
NOVEMBER: dict[str, Any] = {
    "name": "November",
    "query": "group_by=country&created_from=2026-11-01&created_to=2026-11-30",
    "affiliate_ids": [513],
}
SECRET = "a" * 43


@pytest.fixture
async def client(database: Settings) -> AsyncIterator[AsyncClient]:
    await run_sql(
        database,
        "INSERT INTO affiliate (id, name) VALUES (513, 'A'), (514, 'B');"
        "INSERT INTO advertiser (id, name) VALUES (1, 'C');"
        "INSERT INTO user_account (id, email, email_key, role) VALUES (7, 'a@b.test', 'a@b.test', 'admin')",
    )
    async with api_of(database, scopes=("reports:read",)) as client:
        yield client


@pytest.fixture
async def pool(database: Settings) -> AsyncIterator[Pool]:
    assert database.postgres_dsn
    async with await open_pool(database.postgres_dsn) as pool:
        yield pool


async def opened(pool: Pool, link: str) -> Share | None:
    place, _, secret = link.partition("#")
    return await rules.open_share(pool, int(place.rpartition("/")[2]), secret)


async def share_of_user(pool: Pool, owner: Owner | None = None) -> int:
    """A share that the user 7 made."""
    new = NewShare("U", "group_by=day&measures=clicks&tz=UTC", owner, False, timedelta(days=1))
    async with pool.acquire() as connection:
        row = await stored.add(connection, rules._digest(SECRET), Author(None, "a@b.test", 7), new)
    return int(row["id"])


async def test_share_is_made_shown_and_revoked(client: AsyncClient, pool: Pool, database: Settings) -> None:
    answer = await client.post(SHARES, json=NOVEMBER)
    assert answer.status_code == 201, answer.text
    share, place = answer.json(), answer.headers["location"]
    link = share.pop("link")
    assert link.startswith(f"http://127.0.0.1:8001/dashboard/share/{share['id']}#")
    assert share["is_network_wide"] is False
    lasts = datetime.fromisoformat(share["expires_at"]) - datetime.now(UTC)
    assert timedelta(days=6, hours=23) < lasts <= timedelta(days=7)
    assert (await client.get(place)).json() == share
    assert (await client.get(SHARES)).json()["data"] == [share]
    found = await opened(pool, link)
    assert found is not None
    assert (found.row, found.owner) == (share, Owner("affiliate", (513,)))
    for secret in ("", link.partition("#")[2][:-1], "x" * 101, "\ud800"):
        assert await rules.open_share(pool, share["id"], secret) is None
    assert await rules.open_share(pool, share["id"] + 1, link.partition("#")[2]) is None

    kept = await pool.fetchval("SELECT string_agg(r::text, '') FROM (SELECT * FROM report_share) AS r")
    trail = await pool.fetchval("SELECT string_agg(a::text, '') FROM audit AS a")
    assert link.partition("#")[2] not in kept + trail
    other = await bearer(database)
    assert (await client.get(place, headers=other)).status_code == 404
    assert (await client.delete(place, headers=other)).status_code == 404
    assert (await client.get(SHARES, headers=other)).json()["data"] == []
    admin = await bearer(database, "admin")
    assert (await client.get(SHARES, headers=admin)).json()["data"] == [share]

    assert (await client.delete(place)).status_code == 204
    assert await opened(pool, link) is None
    assert (await client.get(place)).json()["ended_at"] is not None
    assert (await client.delete(place)).status_code == 204


async def test_share_writes_its_defaults_out(client: AsyncClient) -> None:
    """A measure that a later version adds is not shown to those who have the link."""
    share = (await client.post(SHARES, json=NOVEMBER)).json()
    query = dict(parse_qsl(share["query"]))
    measures = query.pop("measures").split(",")
    assert query == {**dict(parse_qsl(NOVEMBER["query"])), "tz": "UTC"}
    assert {"clicks", "payout", "epc"} <= {*measures}
    assert not {"revenue", "profit", "margin", "conversions_over_cap"} & {*measures}
    body = {**NOVEMBER, "query": "group_by=day&measures=clicks&tz=Europe/Berlin", "hides_money": True}
    share = (await client.post(SHARES, json=body)).json()
    assert share["query"] == "group_by=day&measures=clicks&tz=Europe%2FBerlin"
    body = {**NOVEMBER, "hides_money": True}
    measures = dict(parse_qsl((await client.post(SHARES, json=body)).json()["query"]))["measures"].split(",")
    assert "clicks" in measures
    assert "payout" not in measures


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ({"query": "group_by=planet"}, {"query"}),
        ({"query": "group_by=day&chart=line"}, {"query"}),
        ({"query": "group_by=day&format=csv"}, {"query"}),
        ({"query": "group_by=day&period=today&created_from=2026-11-01"}, {"query"}),
        ({"query": "group_by=day&compare=custom"}, {"query"}),
        ({"query": "group_by=advertiser"}, {"query"}),
        ({"query": "group_by=day&measures=revenue"}, {"query"}),
        ({"query": "group_by=day&measures=payout", "hides_money": True}, {"query"}),
        ({"query": "group_by=day&exclude_advertiser_id=1"}, {"query"}),
        ({"days": 0}, {"days"}),
        ({"days": 31}, {"days"}),
        ({"affiliate_ids": [999]}, {"affiliate_ids"}),
        ({"advertiser_ids": [1]}, {"advertiser_ids"}),
        ({"name": ""}, {"name"}),
        ({"expires_at": "2030-01-01"}, {"expires_at"}),
    ],
)
async def test_wrong_share_names_the_field(
    client: AsyncClient, change: dict[str, Any], fields: set[str]
) -> None:
    assert named(await client.post(SHARES, json={**NOVEMBER, **change}), 422) == fields


async def test_share_shows_no_more_than_its_maker_sees(
    client: AsyncClient, pool: Pool, database: Settings
) -> None:
    of_all = {"name": "All", "query": "group_by=advertiser&measures=revenue"}
    assert named(await client.post(SHARES, json=of_all), 403) == {"affiliate_ids"}
    admin = await bearer(database, "admin")
    made = (await client.post(SHARES, json=of_all, headers=admin)).json()
    assert made["is_network_wide"] is True
    found = await opened(pool, made["link"])
    assert found is not None
    assert found.owner is None

    one = await bearer(database, affiliate_id=513)
    foreign = {**NOVEMBER, "affiliate_ids": [513, 514]}
    assert named(await client.post(OF_AFFILIATES, json=foreign, headers=one), 422) == {"affiliate_ids"}
    foreign = {**NOVEMBER, "affiliate_ids": [], "advertiser_ids": [1]}
    assert named(await client.post(OF_AFFILIATES, json=foreign, headers=one), 422) == {"advertiser_ids"}
    own = (await client.post(OF_AFFILIATES, json={**NOVEMBER, "affiliate_ids": []}, headers=one)).json()
    assert (own["affiliate_ids"], own["is_network_wide"]) == ([513], False)
    hiding = await bearer(database, hides_money=True)
    assert (await client.post(SHARES, json=NOVEMBER, headers=hiding)).json()["hides_money"] is True


@pytest.mark.parametrize(
    "change",
    [
        "role = 'analyst'",
        "role = 'manager', affiliate_ids = '{513}'",
        "is_disabled = true",
        "role = 'analyst', hides_money = true",
    ],
)
async def test_share_ends_with_its_makers_rights(client: AsyncClient, pool: Pool, change: str) -> None:
    """For good: it stays over when the rights come back."""
    id_ = await share_of_user(pool)
    await pool.execute("UPDATE user_account SET name = 'Anna', password_hash = 'x'")
    assert await rules.open_share(pool, id_, SECRET)
    await pool.execute(f"UPDATE user_account SET {change}")
    assert await rules.open_share(pool, id_, SECRET) is None
    back = "role = 'admin', is_disabled = false, affiliate_ids = '{}', hides_money = false"
    await pool.execute(f"UPDATE user_account SET {back}")
    assert await rules.open_share(pool, id_, SECRET) is None


async def test_share_ends_with_its_time_its_maker_and_its_owners(client: AsyncClient, pool: Pool) -> None:
    id_ = await share_of_user(pool, Owner("affiliate", (513, 514)))

    async def owner() -> Owner | None:
        found = await rules.open_share(pool, id_, SECRET)
        return found and found.owner

    await pool.execute("UPDATE affiliate SET status = 'blocked' WHERE id = 513")
    assert await owner() == Owner("affiliate", (514,))
    await pool.execute("UPDATE affiliate SET is_archived = true WHERE id = 514")
    assert await owner() is None
    await pool.execute("UPDATE affiliate SET is_archived = false, status = 'active'")
    assert await owner() == Owner("affiliate", (513, 514))
    await pool.execute("UPDATE report_share SET expires_at = now()")
    assert await owner() is None
    await pool.execute("UPDATE report_share SET expires_at = now() + interval '1 day'")
    await pool.execute("DELETE FROM user_account")
    assert await owner() is None


async def test_share_ends_with_its_makers_token(client: AsyncClient, pool: Pool, database: Settings) -> None:
    soon = await bearer(database, expires_at=datetime.now(UTC) + timedelta(hours=1))
    share = (await client.post(SHARES, json=NOVEMBER, headers=soon)).json()
    assert datetime.fromisoformat(share["expires_at"]) < datetime.now(UTC) + timedelta(hours=1)
    assert await opened(pool, share["link"])
    await pool.execute("UPDATE token SET revoked_at = now() WHERE id = $1", share["token_id"])
    assert await opened(pool, share["link"]) is None


async def test_uses_are_in_the_audit_trail_once_an_hour_and_client(client: AsyncClient, pool: Pool) -> None:
    id_ = await share_of_user(pool)
    share = await rules.open_share(pool, id_, SECRET)
    assert share is not None
    for client_, address in (("a", "192.0.2.1"), ("a", "192.0.2.1"), ("b", "192.0.2.2")):
        await rules.note_use(pool, share, client_, address)
    uses = "SELECT token_name, address, path FROM audit WHERE resource = 'report_share' ORDER BY id"
    assert [tuple(row) for row in await pool.fetch(uses)] == [
        (f"share {id_}", "192.0.2.1", f"shares/{id_}"),
        (f"share {id_}", "192.0.2.2", f"shares/{id_}"),
    ]
    await pool.execute("UPDATE share_use SET hour = hour - interval '1 hour'")
    await rules.note_use(pool, share, "a", "192.0.2.1")
    assert len(await pool.fetch(uses)) == 3


async def test_shares_of_a_maker_are_few(
    client: AsyncClient, database: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "MOST_SHARES", 1)
    first = await client.post(SHARES, json=NOVEMBER)
    assert (await client.delete(first.headers["location"])).status_code == 204
    assert named(await client.post(SHARES, json=NOVEMBER), 409) == {"name"}
    assert (await client.post(SHARES, json=NOVEMBER, headers=await bearer(database))).status_code == 201


async def test_ended_shares_are_forgotten(client: AsyncClient, pool: Pool) -> None:
    id_ = await share_of_user(pool)
    share = await rules.open_share(pool, id_, SECRET)
    assert share is not None
    await rules.note_use(pool, share, "a", "192.0.2.1")
    async with pool.acquire() as connection:
        await stored.end_all(connection)
        assert await rules.open_share(pool, id_, SECRET) is None
        await stored.forget(connection)
        assert await pool.fetchval("SELECT count(*) FROM report_share") == 1
        await pool.execute("UPDATE report_share SET ended_at = now() - interval '31 days'")
        await stored.forget(connection)
    counts = "SELECT (SELECT count(*) FROM report_share) + (SELECT count(*) FROM share_use)"
    assert await pool.fetchval(counts) == 0
