"""Settings of the catalogue and their effect on clicks at a real edge."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
from httpx import AsyncClient, Response

from tests.integration.api_client import run_sql
from tests.integration.edge_client import PATIENCE, edge_of, recorded
from tests.integration.metrics_client import ask_listener, metrics_of
from tracker.domain.click_id import is_click_hash
from tracker.domain.model import ClickRow
from tracker.domain.test_links import sign
from tracker.settings import Settings
from tracker.store.catalogue.read import visitor_secret
from tracker.store.db import connect
from tracker.stream import unmatched

pytestmark = pytest.mark.anyio

PHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/17.5 Mobile/15E148 Safari/604.1"
)
DESKTOP = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/141.0.0.0 Safari/537.36"
GOOGLEBOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
LINK = "/offer/3?affiliate_id=513"

Change = Callable[[str], Awaitable[None]]


@asynccontextmanager
async def changeable(settings: Settings) -> AsyncIterator[tuple[AsyncClient, Change]]:
    """An edge, and a function to change its catalogue. It returns once the edge has the change."""
    numbers = count()
    async with edge_of(settings) as client:

        async def change(statement: str) -> None:
            mark = f"mark-{next(numbers)}.test"
            await run_sql(settings, statement)
            await run_sql(settings, f"INSERT INTO tracking_host (host) VALUES ('{mark}')")
            async with asyncio.timeout(PATIENCE):
                while (await ask_listener(settings, f"/hosts/serves?domain={mark}")).status_code != 200:
                    await asyncio.sleep(0.005)

        yield client, change


Case = tuple[str, str, dict[str, Any], int, str, dict[str, Any]]
"""Subject, SQL (undone afterwards), request, and result: status, Location, row."""

CASES: list[Case] = [
    (
        "an offer that has ended",
        "UPDATE offer SET ends_at = now() - interval '1 second' WHERE id = 3",
        {},
        410,
        "",
        {"status": "rejected", "reason": 14},
    ),
    (
        "an offer that has not begun",
        "UPDATE offer SET starts_at = now() + interval '1 hour' WHERE id = 3",
        {},
        403,
        "",
        {"status": "rejected", "reason": 15},
    ),
    (
        "an offer that caps have closed",
        "UPDATE offer SET closed_until = now() + interval '1 hour' WHERE id = 3",
        {},
        403,
        "",
        {"status": "rejected", "reason": 16},
    ),
    (
        "an offer closed for good",
        "UPDATE offer SET closed_until = 'infinity' WHERE id = 3",
        {},
        403,
        "",
        {"status": "rejected", "reason": 16},
    ),
    (
        "an offer that always ran and always will",
        "UPDATE offer SET starts_at = '-infinity', closed_until = '-infinity', ends_at = 'infinity'",
        {},
        302,
        "https://ad.example/land",
        {"status": "accepted"},
    ),
    (
        "an offer that wants approval",
        "UPDATE offer SET visibility = 'approval' WHERE id = 3",
        {},
        403,
        "",
        {"status": "rejected", "reason": 22},
    ),
    (
        "an approved affiliate on it",
        "UPDATE offer SET visibility = 'approval' WHERE id = 3;"
        "INSERT INTO offer_affiliate (offer_id, affiliate_id) VALUES (3, 513)",
        {},
        302,
        "https://ad.example/land",
        {"status": "accepted"},
    ),
    (
        "a pending affiliate",
        "UPDATE affiliate SET status = 'pending' WHERE id = 513",
        {},
        403,
        "",
        {"status": "rejected", "reason": 21},
    ),
    (
        "an unknown time zone takes down that offer only, and says so",
        "UPDATE offer SET time_zone = 'Mars/Base' WHERE id = 3",
        {},
        403,
        "",
        {"status": "rejected", "reason": 13},
    ),
    (
        "the URL for phones",
        """UPDATE offer_url SET targeting = '{"device_type": ["phone"]}', weight = 1 WHERE id = 133""",
        {"headers": {"User-Agent": PHONE}},
        302,
        "",
        {"device_type": "phone"},
    ),
    (
        "off target",
        """UPDATE offer SET targeting = '{"os": ["iOS"]}' WHERE id = 3""",
        {"headers": {"User-Agent": DESKTOP}},
        403,
        "",
        {"status": "rejected", "reason": 30},
    ),
    (
        "on target",
        """UPDATE offer SET targeting = '{"os": ["iOS"]}' WHERE id = 3""",
        {"headers": {"User-Agent": PHONE}},
        302,
        "https://ad.example/land",
        {"status": "accepted"},
    ),
    (
        "off target, with another offer as fallback",
        """UPDATE offer SET targeting = '{"os": ["iOS"]}', fallback_offer_id = 1 WHERE id = 3""",
        {"headers": {"User-Agent": DESKTOP}},
        302,
        "https://ad.example/puzzle",
        {"status": "forwarded", "reason": 30, "requested_offer_id": 3, "offer_id": 1, "offer_url_id": 101},
    ),
    (
        "off target, with the network's fallback",
        """UPDATE offer SET targeting = '{"os": ["iOS"]}' WHERE id = 3;
        UPDATE deployment SET fallback_url = 'https://network.example/?c={hash}'""",
        {"headers": {"User-Agent": DESKTOP}},
        302,
        "https://network.example/?c=",
        {"status": "forwarded", "reason": 30, "requested_offer_id": 3, "offer_id": 3, "offer_url_id": None},
    ),
    (
        "the network's fallback for what is unknown",
        "UPDATE deployment SET fallback_url = 'https://network.example/?c={hash}&o={offer_id}'",
        {"url": "/offer/99?affiliate_id=513"},
        302,
        "https://network.example/?c=&o=",
        {},
    ),
    (
        "a blocked source",
        "INSERT INTO block (offer_id, field, value) VALUES (3, 'source', 'spam')",
        {"url": f"{LINK}&source=spam"},
        403,
        "",
        {"status": "rejected", "reason": 50},
    ),
    (
        "a blocked sub",
        "INSERT INTO block (affiliate_id, field, value) VALUES (513, 'aff_sub3', 'x')",
        {"url": f"{LINK}&sub3=x"},
        403,
        "",
        {"status": "rejected", "reason": 51},
    ),
    (
        "a blocked network",
        "INSERT INTO block (field, value) VALUES ('ip', '127.0.0.0/8')",
        {},
        403,
        "",
        {"status": "rejected", "reason": 52},
    ),
    (
        "a deep link",
        "UPDATE offer SET deep_link_hosts = '{ad.example}' WHERE id = 3",
        {"url": f"{LINK}&url=https%3A%2F%2Fad.example%2Fshoes%3Fcolor%3Dred"},
        302,
        "https://ad.example/shoes?color=red&click_id=",
        {"status": "accepted", "offer_url_id": 132},
    ),
    (
        "a deep link elsewhere",
        "UPDATE offer SET deep_link_hosts = '{ad.example}' WHERE id = 3",
        {"url": f"{LINK}&url=https%3A%2F%2Fevil.example%2F"},
        302,
        "https://ad.example/land?click_id=",
        {"status": "accepted"},
    ),
    (
        "a crawler is sent on like people",
        "SELECT",
        {"headers": {"User-Agent": GOOGLEBOT}},
        302,
        "https://ad.example/land",
        {"status": "accepted", "is_bot": True, "bot_reason": "crawler: Googlebot", "is_unique": False},
    ),
    (
        "no User-Agent",
        "SELECT",
        {"headers": {"User-Agent": ""}},
        302,
        "https://ad.example/land",
        {"is_bot": True, "bot_reason": "empty user agent"},
    ),
    (
        "the operator's own bots",
        "INSERT INTO bot_rule (field, value) VALUES ('ip', '127.0.0.1')",
        {"headers": {"User-Agent": DESKTOP}},
        302,
        "https://ad.example/land",
        {"is_bot": True, "bot_reason": "operator: network 127.0.0.1/32"},
    ),
    (
        "a link of another tracker",
        """INSERT INTO link_form (path, parameters) VALUES ('/click', '{"pid": "affiliate_id"}')""",
        {"url": "/click?pid=513&offer_id=3&sub1=a"},
        302,
        "https://ad.example/land",
        {"offer_id": 3, "affiliate_id": 513, "aff_sub": "a"},
    ),
    (
        "an opaque one, on one host",
        "INSERT INTO link_form (host, path, constants) VALUES "
        """('go.test', '/x7Yz', '{"offer_id": 1, "affiliate_id": 501}')""",
        {"url": "/x7Yz?affiliate_id=513", "headers": {"Host": "go.test"}},
        302,
        "https://ad.example/puzzle",
        {"offer_id": 1, "affiliate_id": 501},
    ),
    (
        "and not on another",
        "INSERT INTO link_form (host, path, constants) VALUES "
        """('go.test', '/x7Yz', '{"offer_id": 1, "affiliate_id": 501}')""",
        {"url": "/x7Yz"},
        404,
        "",
        {},
    ),
    (
        "a cap of none",
        "INSERT INTO cap (offer_id, period, amount) VALUES (3, 'day', 0)",
        {},
        403,
        "",
        {"status": "rejected", "reason": 17},
    ),
    (
        "an affiliate's own cap takes the place of everyone's",
        "INSERT INTO cap (offer_id, affiliate_id, period, amount) "
        "VALUES (3, 0, 'day', 0), (3, 513, 'day', 100)",
        {},
        302,
        "https://ad.example/land",
        {"status": "accepted"},
    ),
]

UNDO = """
UPDATE offer SET ends_at = NULL, starts_at = NULL, closed_until = NULL, visibility = 'public',
    time_zone = 'UTC', targeting = '{}', fallback_offer_id = NULL, fallback_url = NULL,
    deep_link_hosts = '{}';
UPDATE offer_url SET targeting = '{}', weight = (id = 132)::integer WHERE offer_id = 3;
UPDATE affiliate SET status = 'active' WHERE id = 513;
UPDATE deployment SET fallback_url = NULL, fallback_offer_id = NULL;
DELETE FROM offer_affiliate; DELETE FROM block; DELETE FROM bot_rule; DELETE FROM link_form; DELETE FROM cap
"""


async def test_operators_settings_apply_to_the_next_click(database: Settings) -> None:
    async with changeable(database) as (client, change):
        for case, statement, request, status, location, fields in CASES:
            await change(statement)
            answer = await client.get(**{"url": LINK, "headers": {"User-Agent": DESKTOP}} | request)
            rows = await recorded(database)
            told = answer.headers.get("location", "")
            assert (answer.status_code, told[: len(location)]) == (status, location), case
            assert [{name: getattr(row, name) for name in fields} for row in rows] == (
                [fields] if fields else []
            )
            assert all(row.redirected_link == told for row in rows), case
            await change(UNDO)
        answer = await client.get(LINK, headers={"User-Agent": DESKTOP})
        assert (answer.status_code, answer.headers["location"][:24]) == (302, "https://ad.example/land?")


async def test_faults_of_the_catalogue_are_counted(database: Settings) -> None:
    async with changeable(database) as (client, change):
        await change("UPDATE offer SET time_zone = 'Mars/Base' WHERE id = 3")
        assert 'tracker_catalogue_problems{edge="0"} 1' in await metrics_of(database)
        assert (await client.get("/offer/1?affiliate_id=513")).status_code == 302
        for beyond_any_reader in ('{"os": [1e400]}', '{"os": ' + "[" * 2000 + "]" * 2000 + "}"):
            await change(f"UPDATE offer SET targeting = '{beyond_any_reader}' WHERE id = 2")
            assert 'tracker_catalogue_problems{edge="0"} 2' in await metrics_of(database)
            assert (await client.get("/offer/2?affiliate_id=513")).status_code == 404
        await change("UPDATE offer SET targeting = '{}' WHERE id = 2")
        assert (await client.get("/offer/2?affiliate_id=513")).status_code == 302
        await change(UNDO)
        assert 'tracker_catalogue_problems{edge="0"} 0' in await metrics_of(database)


async def clicks_of(client: AsyncClient, links: list[str], **headers: str) -> list[int]:
    return [(await client.get(link, headers=headers)).status_code for link in links]


async def test_cap_is_exact_and_goes_on_when_it_is_raised(database: Settings) -> None:
    async with changeable(database) as (client, change):
        await change("INSERT INTO cap (offer_id, period, amount) VALUES (3, 'day', 10)")
        answers = await asyncio.gather(
            *(client.get(LINK, headers={"User-Agent": DESKTOP}) for _ in range(50))
        )
        assert sorted(answer.status_code for answer in answers) == [302] * 10 + [403] * 40
        rows = await recorded(database)
        assert (
            sorted((row.status, row.reason) for row in rows)
            == [("accepted", 0)] * 10 + [("rejected", 17)] * 40
        )
        await client.head(LINK)
        await client.get(LINK, headers={"User-Agent": GOOGLEBOT})
        await client.get("/offer/3?affiliate_id=599")
        await change("UPDATE cap SET amount = 12")
        assert await clicks_of(client, [LINK] * 3, **{"User-Agent": DESKTOP}) == [302, 302, 403]


async def test_cap_on_uniques_lets_duplicates_pass(database: Settings) -> None:
    async with changeable(database) as (client, change):
        await change("INSERT INTO cap (offer_id, counts, period, amount) VALUES (3, 'uniques', 'day', 2)")
        agents = [f"{DESKTOP} a", f"{DESKTOP} b", f"{DESKTOP} a", f"{DESKTOP} c", f"{DESKTOP} b"]
        answers = [(await client.get(LINK, headers={"User-Agent": agent})).status_code for agent in agents]
        assert answers == [302, 302, 302, 403, 302]


async def test_duplicates_are_blocked_where_the_visitor_is_certain(database: Settings) -> None:
    async with changeable(database) as (client, change):
        await change("UPDATE offer SET duplicates = 'block' WHERE id = 3")
        device = "&gaid=38400000-8cf0-11bd-b23e-10b96e40000d"
        assert await clicks_of(client, [LINK, LINK]) == [302, 302]
        assert await clicks_of(client, [LINK + device, LINK + device]) == [302, 403]
        rows = await recorded(database)
        assert [(row.status, row.reason, row.is_unique) for row in rows] == [
            ("accepted", 0, True),
            ("accepted", 0, False),
            ("accepted", 0, True),
            ("rejected", 40, False),
        ]
        assert rows[3].group_hash == rows[2].hash


async def test_cookie_identifies_the_visitor_if_the_offer_asks_for_it(database: Settings) -> None:
    trusting = replace(database, trusted_proxies=())
    async with changeable(trusting) as (client, change):
        assert "set-cookie" not in (await client.get(LINK)).headers
        await change("UPDATE offer SET visitor_cookie = true, duplicates = 'block' WHERE id = 1")
        link = "/offer/1?affiliate_id=513"
        first = await client.get(link, headers={"User-Agent": PHONE})
        cookie = first.headers["set-cookie"]
        assert cookie.endswith("; Max-Age=31536000; Path=/; HttpOnly; SameSite=Lax")
        client.cookies.clear()
        kept = {"User-Agent": DESKTOP, "Cookie": cookie.partition(";")[0]}
        again = await client.get(link, headers=kept)
        forged = await client.get(link, headers=kept | {"Cookie": "tv=" + "0" * 32})
        assert (again.status_code, forged.status_code) == (403, 302)
        assert "set-cookie" not in again.headers
        assert "set-cookie" in forged.headers
    _, one, two, three = await recorded(database)
    assert (two.visitor_key, two.group_hash, two.is_unique) == (one.visitor_key, one.hash, False)
    assert three.visitor_key != one.visitor_key


async def test_signed_link_makes_test_clicks(database: Settings) -> None:
    assert database.postgres_dsn
    async with changeable(database) as (client, change):
        await change("UPDATE offer SET status = 'paused' WHERE id = 3")
        connection = await connect(database.postgres_dsn)
        secret = await visitor_secret(connection)
        await connection.close()
        good, old = sign(secret, 3, 513, 4_000_000_000), sign(secret, 3, 513, 1_000_000_000)
        links = [f"{LINK}&test={good}", f"{LINK}&test={old}", f"/offer/3?affiliate_id=501&test={good}", LINK]
        assert await clicks_of(client, links) == [302, 410, 410, 410]
    assert [row.is_test for row in await recorded(database)] == [True, False, False, False]


async def test_orphans_are_kept_in_their_log(database: Settings) -> None:
    assert database.redis_url
    async with edge_of(database) as client:
        await client.get("/offer/99?affiliate_id=513&aff_sub=a", headers={"Referer": "https://blog.test/"})
        await client.get("/offer/3?affiliate_id=99")
        await client.head("/offer/98?affiliate_id=1")
        base = str(client.base_url)
    newest, oldest = await unmatched.read(database.redis_url, 10)
    assert (oldest.why, oldest.requested_link) == (
        "unknown offer",
        f"{base}/offer/99?affiliate_id=513&aff_sub=a",
    )
    assert (oldest.referrer, oldest.ip) == ("https://blog.test/", "127.0.0.1")
    assert (newest.why, newest.requested_link) == ("unknown affiliate", f"{base}/offer/3?affiliate_id=99")
    assert await recorded(database) == []


async def test_large_change_reaches_the_edge_whole(database: Settings) -> None:
    """Thousands of objects in one transaction, as an import writes them."""
    async with changeable(database) as (client, change):
        await change(
            "INSERT INTO affiliate (id, name) SELECT n, 'A' || n FROM generate_series(10001, 15000) AS n"
        )
        await change("UPDATE affiliate SET status = 'blocked' WHERE id > 10000")
        for id_ in (10001, 12500, 15000):
            assert (await client.get(f"/offer/3?affiliate_id={id_}")).status_code == 403


async def test_simultaneous_first_clicks_over_several_edges_are_one_unique(database: Settings) -> None:
    patient = replace(database, append_timeout=PATIENCE)  # an uncertain call would be in the spool too
    async with edge_of(patient) as one, edge_of(patient, demo=False) as other:
        headers = {"User-Agent": DESKTOP}
        answers: list[Response] = await asyncio.gather(
            *(client.get(LINK, headers=headers) for _ in range(150) for client in (one, other))
        )
        assert {answer.status_code for answer in answers} == {302}
    rows: list[ClickRow] = await recorded(database)
    (first,) = [row for row in rows if row.is_unique]
    assert len(rows) == 300
    assert {row.group_hash for row in rows} == {first.hash}
    assert all(is_click_hash(row.hash) for row in rows)
