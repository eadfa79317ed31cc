"""Reads from a standby: which they are, what they show, and what takes them over."""

from __future__ import annotations

import asyncio
import itertools
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import redis.asyncio
from httpx import AsyncClient
from starlette.routing import Route

from tests.conftest import Engines, Furnish
from tests.factories.clicks import a_click, a_row
from tests.factories.conversions import a_conversion, store_conversions
from tests.integration.api_client import api_of, hash_at, run_sql, store
from tests.integration.engines import PATIENCE, until
from tests.integration.ledger_entries import streams_of
from tests.integration.metrics_client import metrics_of
from tests.integration.standby_client import STANDBY, Pair, pair_of
from tracker.api.app import create_api
from tracker.api.http.endpoint import contract_of
from tracker.domain.postback import Source, read_postback
from tracker.ops.doctor import report
from tracker.ops.ledger import rfc3339
from tracker.processes.children import Claim
from tracker.processes.engines.cluster import ROLE
from tracker.processes.engines.engine import resolve
from tracker.processes.engines.postgres import start_postgres
from tracker.reading import complete_until as completeness
from tracker.reading import sources
from tracker.settings import Settings
from tracker.store import standby
from tracker.store.catalogue.demo import load_demo
from tracker.store.clicks import insert as clicks
from tracker.store.clicks.insert import Arrival, Writer
from tracker.store.conversions import apply_postback
from tracker.store.conversions import lock as conversion_lock
from tracker.store.db import UNREACHABLE, NotPrimaryError, Pool, connect, drop_read_only, open_pool
from tracker.store.standby import Standby

pytestmark = pytest.mark.anyio

NOW = 1_790_000_000_123
ROOT = "/backend/open-api/v1/users"
CLICKS, CONVERSIONS, REPORT = f"{ROOT}/clicks", f"{ROOT}/conversions", f"{ROOT}/reports?group_by=offer"
SCOPES = ("clicks:read", "conversions:read", "conversions:write", "reports:read", "offers:read")
HEADER = "Complete-Until"
_numbers = itertools.count()


@pytest.fixture(scope="module")
async def pair(
    engines: Engines, furnish: Furnish, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Pair]:
    async with pair_of(furnish, tmp_path_factory.mktemp("pair")) as both:
        await load_demo(both.primary.dsn)
        await run_sql(
            replace(engines.settings, postgres_dsn=both.primary.dsn),
            "UPDATE goal SET (id, click_window, multiple) = (30, NULL, true) WHERE offer_id = 3",
        )
        await both.primary.ask(f"CREATE DATABASE kept TEMPLATE tracker STRATEGY file_copy OWNER {ROLE}")
        yield both


@pytest.fixture
async def settings(pair: Pair, engines: Engines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings with the standby, and one click with a conversion. The stream is complete until NOW."""
    monkeypatch.setattr(completeness, "REFRESH_SECONDS", 0.0)
    monkeypatch.setattr(sources, "REFRESH_SECONDS", 0.0)
    monkeypatch.setattr(standby, "AFTER_FAILURE_SECONDS", 0.0)
    async with redis.asyncio.Redis.from_url(engines.redis_url) as client:
        await client.flushall()
    database = f"test_{next(_numbers)}"
    await pair.primary.ask(f"CREATE DATABASE {database} TEMPLATE kept STRATEGY file_copy OWNER {ROLE}")
    made = replace(
        engines.settings,
        postgres_dsn=pair.primary.dsn_of(database),
        read_dsn=pair.standby.dsn_of(database),
        data_dir=tmp_path,
    )
    click = a_click(hash=hash_at(NOW))
    await store(made, [a_row(click)])
    await store_conversions(made, [a_conversion(a_row(click))])
    async with streams_of(made) as streams:
        await streams.say("0", NOW)
    await pair.caught_up()
    return made


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The standby may be behind for as long as a test lasts."""
    monkeypatch.setattr(standby, "LONGEST_LAG_SECONDS", 600.0)


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads wait for the standby, on a busy machine too."""
    monkeypatch.setattr(sources, "_PATIENCE", PATIENCE)
    monkeypatch.setattr(standby, "LONGEST_LAG_SECONDS", PATIENCE)


async def one_more(settings: Settings, n: int = 1) -> str:
    click = a_click(hash=hash_at(NOW, n))
    await store(settings, [a_row(click)])
    return click.hash


def chosen(client: AsyncClient) -> dict[str, int]:
    return dict(client._transport.app.state.sources.chosen)  # type: ignore[attr-defined]


FROM_STANDBY = {
    *("clicks", "clicks/export", "conversions", "conversions/export", "conversions/times", "reports"),
    *("postbacks", "sent-postbacks"),
}


@pytest.mark.usefixtures("waiting")
async def test_lists_reports_and_exports_are_read_from_the_standby(settings: Settings) -> None:
    routes = [route for route in create_api(settings).router.routes if isinstance(route, Route)]
    contracts = [(route, contract_of(route)) for route in routes]
    lagging = [(route, contract) for route, contract in contracts if contract and contract.from_standby]
    assert all(route.methods == {"GET", "HEAD"} and not contract.path for route, contract in lagging)
    of_network = sorted(route.path for route, _ in lagging if route.path.startswith(ROOT))
    alone = replace(settings, read_dsn=None, api_port=8009)
    async with api_of(settings, scopes=SCOPES) as client, api_of(alone, scopes=SCOPES) as plain:
        for number, path in enumerate(of_network, 1):
            query = "?group_by=offer" if path.endswith("reports") else ""
            answer, same = await client.get(path + query), await plain.get(path + query)
            assert (answer.status_code, answer.content) == (200, same.content), path
            assert answer.headers.get(HEADER) == same.headers.get(HEADER)
            assert chosen(client) == {"standby": number}
        assert (
            f'tracker_api_reads_total{{api="8001",from="standby"}} {len(of_network)}\n'
            in await metrics_of(settings)
        )
        assert 'tracker_standby_behind_bytes{api="8001"} ' in await metrics_of(settings)
    assert {path.removeprefix(f"{ROOT}/") for path in of_network} == FROM_STANDBY


@pytest.mark.usefixtures("patient")
async def test_complete_until_is_never_ahead_of_a_standby_that_is_behind(
    settings: Settings, pair: Pair
) -> None:
    async with (
        api_of(settings) as client,
        api_of(replace(settings, read_dsn=None)) as plain,
        streams_of(settings) as streams,
    ):

        async def shown(by: AsyncClient, path: str = CLICKS) -> tuple[int, str]:
            answer = await by.get(path)
            rows = answer.json()["total"] if path == CLICKS else len(answer.text.splitlines())
            return rows, answer.headers[HEADER]

        assert await shown(client) == (1, rfc3339(NOW))
        async with pair.paused():
            await one_more(settings)
            await streams.say("0", NOW + 1_000)
            from_primary = chosen(client).get("primary", 0)
            assert await shown(plain) == (2, rfc3339(NOW + 1_000))
            assert await shown(client) == (1, rfc3339(NOW))
            assert await shown(client, f"{CLICKS}/export") == (1, rfc3339(NOW))
            assert chosen(client).get("primary", 0) == from_primary
        assert await shown(client) == (2, rfc3339(NOW + 1_000))


async def test_standby_that_is_far_behind_is_not_read(
    settings: Settings, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with api_of(settings) as client:
        await client.get(CLICKS)
        async with pair.paused():
            await one_more(settings)
            monkeypatch.setattr(standby, "LONGEST_LAG_SECONDS", 0.0)
            assert (await client.get(CLICKS)).json()["total"] == 2
        assert chosen(client)["primary"] > 0


@pytest.mark.usefixtures("patient")
async def test_feeds_cursors_and_single_rows_are_up_to_date(settings: Settings, pair: Pair) -> None:
    async with api_of(settings, scopes=SCOPES) as client:

        async def rows(path: str, by: AsyncClient = client, **query: object) -> Any:
            return (await by.get(path, params=query)).json()  # type: ignore[arg-type]

        await client.get(CLICKS)
        async with pair.paused():
            hash_ = await one_more(settings, 9)
            click = a_row(a_click(hash=hash_))
            ids = await store_conversions(settings, [a_conversion(click)])
            async with api_of(replace(settings, read_dsn=None), scopes=SCOPES) as plain:
                first = await rows(CONVERSIONS, plain, per_page=1)
            assert [row["id"] for row in first["data"]] == ids
            second = await rows(CONVERSIONS, per_page=1, cursor=first["next_cursor"])
            assert [row["click_hash"] for row in second["data"]] == [hash_at(NOW)]
            assert len((await rows(CLICKS, after_id=0))["data"]) == 2
            assert len((await rows(CONVERSIONS, after_id=0))["data"]) == 2
            assert len((await rows(CONVERSIONS, updated_after=0))["data"]) == 2
            assert (await rows(f"{CLICKS}/{hash_}"))["data"][0]["hash"] == hash_
            assert (await rows(CLICKS))["total"] == (await rows(CONVERSIONS))["total"] == 1


@pytest.mark.usefixtures("waiting")
async def test_write_is_in_the_next_answer(settings: Settings, pair: Pair) -> None:
    async with api_of(settings, scopes=SCOPES) as client:
        await pair.standby.set("recovery_min_apply_delay", "200ms")
        for number in range(2, 5):
            told = {"click_id": hash_at(NOW), "order_id": f"A-{number}", "goal_id": 30}
            answer = await client.post(CONVERSIONS, json=told)
            assert answer.json()["result"] == "stored", answer.text
            assert (await client.get(CONVERSIONS)).json()["total"] == number
        await pair.standby.set("recovery_min_apply_delay", "0")
        assert chosen(client) == {"standby": 3}


async def test_read_that_recovery_cancels_is_read_from_the_primary(settings: Settings, pair: Pair) -> None:
    await pair.standby.set("max_standby_streaming_delay", "0")
    primary = await open_pool(str(settings.postgres_dsn))
    both = await Standby.open(str(settings.read_dsn), primary)
    tried: list[bool] = []

    async def vacuumed() -> None:
        await run_sql(settings, "DELETE FROM conversion_change")
        await run_sql(settings, "DELETE FROM conversion")
        await run_sql(settings, "VACUUM conversion")
        await pair.caught_up()

    async def work(pool: Pool) -> int:
        async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read"):
            tried.append(await connection.fetchval("SELECT pg_is_in_recovery()"))
            found = await connection.fetchval("SELECT count(*) FROM conversion")
            if tried == [True]:
                await vacuumed()
            await connection.fetchval("SELECT count(*) FROM conversion")
            return int(found)

    try:
        assert await standby.read(both.at(await both.written()), work) == 0
    finally:
        await both.close()
        await primary.close()
        await pair.standby.set("max_standby_streaming_delay", "30s")
    assert tried == [True, False]


Away = Callable[[Pair, Path], AbstractAsyncContextManager[str]]


@asynccontextmanager
async def killed(pair: Pair, _: Path) -> AsyncIterator[str]:
    await pair.standby.kill()
    yield ""
    await pair.start_standby()


@asynccontextmanager
async def of_another_cluster(_: Pair, data_dir: Path) -> AsyncIterator[str]:
    claim = await Claim.take(data_dir / "other")
    postgres = await start_postgres(resolve(Settings(data_dir=claim.data_dir)), claim)
    yield postgres.url
    await postgres.kill()
    await claim.release()


@asynccontextmanager
async def the_primary(pair: Pair, _: Path) -> AsyncIterator[str]:
    yield pair.primary.dsn


@pytest.mark.parametrize(
    ("away", "told"),
    [
        (killed, "cannot be used"),
        (of_another_cluster, "belongs to another cluster than the primary"),
        (the_primary, "is not a standby"),
    ],
)
async def test_primary_answers_for_a_standby_that_cannot_be_used(
    settings: Settings, pair: Pair, tmp_path: Path, caplog: pytest.LogCaptureFixture, away: Away, told: str
) -> None:
    async with api_of(settings, scopes=SCOPES) as client, away(pair, tmp_path) as dsn:
        wrong = replace(settings, read_dsn=dsn or settings.read_dsn)
        async with api_of(wrong, scopes=SCOPES) as other:
            for path in (CLICKS, f"{CLICKS}/export", CONVERSIONS, REPORT):
                assert (await other.get(path)).status_code == 200
            assert chosen(other) == {"primary": 4}
            answer = await other.post(CONVERSIONS, json={"click_id": hash_at(NOW), "goal_id": 30})
            assert answer.status_code == 200
        assert [told in line for line in caplog.messages if "standby: " in line] == [True]
        (finding,) = [one for one in await report.examine(wrong, "standby") if one.level == "fail"]
        assert told in finding.text
        assert (await client.get(CLICKS)).status_code == 200


async def test_doctor_tells_how_far_the_standby_is(
    settings: Settings, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    fine = [str(one) for one in await report.examine(settings, "standby")]
    assert any(" 0 bytes behind" in line for line in fine)
    monkeypatch.setattr(standby, "LONGEST_LAG_SECONDS", 0.0)
    async with pair.paused():
        await one_more(settings)
        (behind,) = [one for one in await report.examine(settings, "standby") if "behind" in one.text]
    assert (behind.level, "(0 bytes)" in behind.text) == ("warn", False)
    alone = replace(settings, read_dsn=None, api_port=8009)
    (commits, reads) = await report.examine(alone, "standby")
    assert (commits.level, reads.level) == ("warn", "ok")
    assert "waits for the primary's disk alone" in commits.text
    await pair.primary.set("synchronous_standby_names", STANDBY)
    (commits, _) = await report.examine(alone, "standby")
    await pair.primary.set("synchronous_standby_names", "")
    assert (commits.level, "on two disks before it leaves the stream" in commits.text) == ("ok", True)


async def test_primary_is_found_among_servers_that_are_silent_gone_or_standbys(pair: Pair) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, socket.socket() as gone:
        gone.bind(("127.0.0.1", 0))
        ports = [silent.getsockname()[1], gone.getsockname()[1], pair.standby.port, pair.primary.port]
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
        pool = await open_pool(f"postgresql://{ROLE}@{hosts}/tracker", connect_seconds=4.0)
        assert await pool.fetchval("SELECT inet_server_port()") == pair.primary.port
        await pool.close()
    with pytest.raises(NotPrimaryError):
        await connect(pair.standby.dsn)


async def test_write_to_a_server_that_has_become_read_only_is_503_and_connects_anew(
    settings: Settings, pair: Pair
) -> None:
    wrong = {"click_id": hash_at(NOW), "goal_id": 30}
    async with api_of(settings, scopes=SCOPES) as client:
        await pair.primary.set("default_transaction_read_only", "on")
        assert (await client.post(CONVERSIONS, json=wrong)).status_code == 503
        await pair.primary.set("default_transaction_read_only", "off")
        assert (await client.post(CONVERSIONS, json=wrong)).status_code == 200
    pool = await open_pool(pair.standby.dsn, size=1, role="any")
    pid = await pool.fetchval("SELECT pg_backend_pid()")
    with pytest.raises(UNREACHABLE) as refused:
        await pool.execute("UPDATE offer SET name = name")
    await drop_read_only(pool, refused.value)
    assert await pool.fetchval("SELECT pg_backend_pid()") != pid
    await pool.close()


Call = Callable[[asyncpg.Connection], Awaitable[object]]


async def a_batch_of_clicks(connection: asyncpg.Connection) -> None:
    await clicks.prepare(connection)
    arrival = Arrival(1 << 20, a_row(a_click(hash=hash_at(NOW, 77))))
    await clicks.store(connection, Writer(0, 0), [arrival])


async def a_postback(connection: asyncpg.Connection) -> None:
    await conversion_lock.begin_writing(connection)
    async with connection.transaction():
        told = read_postback(hash_at(NOW, 5), Source.POSTBACK, "192.0.2.1", 1, {"click_id": hash_at(NOW)})
        await apply_postback.take(connection, [told], None)


async def called(call: Call, dsn: str) -> None:
    connection = await connect(dsn)
    try:
        await call(connection)
    finally:
        connection.terminate()


@pytest.mark.parametrize("call", [a_batch_of_clicks, a_postback])
async def test_repeated_call_waits_for_the_second_disk(settings: Settings, pair: Pair, call: Call) -> None:
    """After a crash commits are visible that no standby has. Nothing is acknowledged for that alone."""
    dsn = str(settings.postgres_dsn)
    waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    await pair.primary.set("synchronous_standby_names", STANDBY)
    pair.standby.signal(signal.SIGSTOP)
    try:
        cut_off = asyncio.create_task(called(call, dsn))
        await until(lambda: pair.primary.ask(waits))
        await pair.primary.kill()
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
            await cut_off
        await pair.primary.start()
        repeated = asyncio.create_task(called(call, dsn))
        await until(lambda: pair.primary.ask(waits))
        assert not repeated.done()
    finally:
        pair.standby.signal(signal.SIGCONT)
        await repeated
        await pair.primary.set("synchronous_standby_names", "")
    await pair.caught_up()
