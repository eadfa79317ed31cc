"""Affiliate postbacks: from a change of a conversion to the affiliate's server, and their log."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any

import pytest
from httpx import AsyncClient

from tests.factories.clicks import HASH, a_click, a_row
from tests.factories.postbacks import AN_HOUR, a_postback
from tests.integration.api_client import api_of, run_sql, store
from tests.integration.fake_affiliate import RESET, SILENCE, FakeAffiliate, status
from tests.integration.metrics_client import metrics_of
from tracker.domain.click_id import millis_of
from tracker.domain.postback import ConversionStatus, Source
from tracker.ops.doctor import report
from tracker.outbound_http import Caller
from tracker.settings import Settings
from tracker.store.catalogue.demo import load_demo
from tracker.store.conversions import affiliate_postbacks, apply_postback, sending
from tracker.store.conversions import status as conversion_status
from tracker.store.db import connect, open_pool
from workers import housekeeping, postback_sender, sender

pytestmark = pytest.mark.anyio

USERS = "/backend/open-api/v1/users"
LOG = f"{USERS}/sent-postbacks"
TEST_HASH = HASH[:-1] + "4"
HERE = (ip_network("127.0.0.1/32"),)


@pytest.fixture
async def partner() -> AsyncIterator[FakeAffiliate]:
    async with FakeAffiliate().listening() as partner:
        yield partner


@pytest.fixture
async def client(database: Settings) -> AsyncIterator[AsyncClient]:
    """The demo's catalogue, a click of affiliate 513, a test click, and a client to manage it."""
    assert database.postgres_dsn
    await load_demo(database.postgres_dsn)
    await store(database, [a_row(), a_row(a_click(hash=TEST_HASH, is_test=True))])
    scopes = ("offers:read", "offers:write", "conversions:read", "conversions:write")
    async with api_of(database, scopes=scopes) as client:
        yield client


async def asks(client: AsyncClient, partner: FakeAffiliate, host: str = "p.example", **fields: Any) -> int:
    """Subscribe affiliate 513 to postbacks. Its host is resolved by the look-up."""
    url = f"http://{host}:{partner.port}/in?{fields.pop('query', 'c={hash}&s={status}')}"
    answer = await client.post(f"{USERS}/affiliates/513/postbacks", json={"url": url, **fields})
    assert answer.status_code == 201, answer.text
    id_: int = answer.json()["id"]
    return id_


async def converts(database: Settings, n: int = 0, after: int = AN_HOUR, **parameters: str) -> int:
    assert database.postgres_dsn
    connection = await connect(database.postgres_dsn)
    try:
        async with connection.transaction():
            (taken,) = await apply_postback.take(
                connection, [a_postback(n=n, after=after, **parameters)], None
            )
        assert taken.conversion_id, taken
        return taken.conversion_id
    finally:
        await connection.close()


async def becomes(database: Settings, conversion_id: int, name: ConversionStatus) -> None:
    assert database.postgres_dsn
    connection = await connect(database.postgres_dsn)
    try:
        async with connection.transaction():
            await conversion_status.set_status(
                connection, [conversion_id], name, source=Source.API, author="me"
            )
    finally:
        await connection.close()


async def send(database: Settings, seconds: float = 5.0, **hosts: str) -> None:
    """Send all due postbacks. Hosts resolve to this machine, unless named."""

    async def look_up(host: str, _port: int) -> list[str]:
        return [hosts.get(host.partition(".")[0], "127.0.0.1")]

    caller = Caller(HERE, look_up=look_up, answer_seconds=seconds)
    await postback_sender.run(database, burst=True, caller=caller)


async def later(database: Settings) -> None:
    """Pauses and leases are over."""
    await run_sql(database, "UPDATE sent_postback SET next_attempt_at = now() WHERE state = 'waiting'")


async def log(client: AsyncClient, **filters: object) -> list[dict[str, Any]]:
    answer = await client.get(LOG, params={name: str(value) for name, value in filters.items()})
    assert answer.status_code == 200, answer.text
    rows: list[dict[str, Any]] = answer.json()["data"]
    return rows


def targets(partner: FakeAffiliate) -> list[str]:
    return sorted(asked.target for asked in partner.asked)


async def test_affiliate_gets_each_subscribed_status(
    client: AsyncClient, database: Settings, partner: FakeAffiliate
) -> None:
    await asks(client, partner, statuses=["pending", "rejected"])
    await asks(client, partner, query="p={payout}{currency}&a={aff_sub}&g={goal_id}")
    conversion = await converts(database, status="pending")
    await send(database)
    assert targets(partner) == [f"/in?c={HASH}&s=pending"]
    for name in (ConversionStatus.APPROVED, ConversionStatus.REJECTED):
        await becomes(database, conversion, name)
        await send(database)
    await send(database)
    assert targets(partner)[:2] == [f"/in?c={HASH}&s=pending", f"/in?c={HASH}&s=rejected"]
    assert len(partner.asked) == 3
    rows = await log(client)
    assert {row["key"] for row in rows} == {asked.headers["Idempotency-Key"] for asked in partner.asked}
    assert {(row["state"], row["attempts"], row["last_status"]) for row in rows} == {("sent", 1, 200)}


async def test_affiliate_postbacks_go_only_to_subscribed_affiliates(
    client: AsyncClient, database: Settings, partner: FakeAffiliate
) -> None:
    base = (await client.get(f"{USERS}/offers/3/goals")).json()["data"][0]["id"]
    other = (await client.post(f"{USERS}/offers/3/goals", json={"name": "Other"})).json()["id"]
    await asks(client, partner, query="offer", offer_id=3)
    await asks(client, partner, query="goal", offer_id=3, goal_id=base)
    for fields in (
        {"offer_id": 4},
        {"offer_id": 3, "goal_id": other},
        {"status": "paused"},
        {"statuses": ["rejected"]},
    ):
        await asks(client, partner, query="wrong", **fields)
    archived = await asks(client, partner, query="archived")
    assert (await client.delete(f"{USERS}/affiliates/513/postbacks/{archived}")).status_code == 204
    await converts(database, click_id=TEST_HASH)
    await send(database)
    assert partner.asked == [], "tests are not told of"
    await converts(database, 1)
    await send(database)
    assert targets(partner) == ["/in?goal", "/in?offer"]


async def test_imported_conversions_send_no_postbacks(
    client: AsyncClient, database: Settings, partner: FakeAffiliate
) -> None:
    await asks(client, partner)
    await converts(database)
    await run_sql(database, "UPDATE conversion_change SET source = 'import'")
    await send(database)
    assert partner.asked == []


async def test_postback_is_retried_under_the_same_key(
    client: AsyncClient, database: Settings, partner: FakeAffiliate
) -> None:
    await asks(client, partner)
    await converts(database)
    wrong = [
        status(500),
        RESET,
        RESET,
        SILENCE,
        b"nonsense\r\n\r\n",
        status(404),
        status(302, "Location: /x"),
    ]
    partner.answers.extend(wrong)
    for attempt in range(1, len(wrong)):  # a reset is asked about twice
        await send(database, seconds=0.3)
        (row,) = await log(client)
        assert (row["state"], row["attempts"]) == ("waiting", attempt)
        assert row["next_attempt_at"]
        await later(database)
    await send(database)
    (row,) = await log(client)
    assert (row["state"], row["attempts"], row["last_status"], row["last_error"]) == (
        "sent",
        len(wrong),
        200,
        "",
    )
    assert len(partner.asked) == len(wrong) + 1
    assert len({asked.headers["Idempotency-Key"] for asked in partner.asked}) == 1
    assert len(set(targets(partner))) == 1


async def test_dead_host_delays_no_other(
    client: AsyncClient, database: Settings, partner: FakeAffiliate
) -> None:
    """A silent host does not delay another one."""
    async with FakeAffiliate().listening() as dead:
        dead.answers.extend([SILENCE] * 99)
        await run_sql(database, "UPDATE goal SET multiple = true")
        await asks(client, dead, host="dead.example")
        await asks(client, partner, host="live.example")
        for n in range(12):
            await converts(database, n, order_id=str(n))
        sending = asyncio.create_task(send(database, seconds=60))
        async with asyncio.timeout(30):
            while len(partner.asked) < 12 or len(dead.asked) < sender.AT_ONCE_TO_HOST:
                await asyncio.sleep(0.01)
        assert len(dead.asked) == sender.AT_ONCE_TO_HOST
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


async def test_silent_host_gets_one_request_at_a_time(
    client: AsyncClient, database: Settings, partner: FakeAffiliate
) -> None:
    await run_sql(database, "UPDATE goal SET multiple = true")
    await asks(client, partner)
    for n in range(10):
        await converts(database, n, order_id=str(n))
    partner.answers.extend([SILENCE] * 9)
    await send(database, seconds=0.3)
    assert sorted(row["state"] for row in await log(client)) == ["sent"] + ["waiting"] * 9


async def test_senders_send_each_postback_once(
    client: AsyncClient, database: Settings, partner: FakeAffiliate
) -> None:
    await run_sql(database, "UPDATE goal SET multiple = true")
    await asks(client, partner)
    for n in range(30):
        await converts(database, n, order_id=str(n))
    await asyncio.gather(*(send(database) for _ in range(4)))
    assert len(partner.asked) == 30
    assert {row["attempts"] for row in await log(client)} == {1}


async def test_request_to_an_internal_address_is_not_sent(
    client: AsyncClient, database: Settings, partner: FakeAffiliate
) -> None:
    await asks(client, partner, host="inner.example")
    await converts(database)
    await send(database, inner="10.0.0.1")
    (row,) = await log(client)
    assert (row["state"], row["last_error"]) == ("waiting", "10.0.0.1 is not a public address")
    await run_sql(database, "UPDATE sent_postback SET attempts = 99, next_attempt_at = now()")
    await send(database, inner="10.0.0.1")
    assert [row["state"] for row in await log(client)] == ["failed"]


async def test_unfillable_postback_fails_before_it_is_sent(
    client: AsyncClient, database: Settings, partner: FakeAffiliate
) -> None:
    await asks(client, partner)
    await run_sql(database, "UPDATE affiliate_postback SET url = 'http://p.example/{nonsense}'")
    await converts(database)
    await send(database)
    (row,) = await log(client)
    assert (row["state"], row["attempts"], row["last_error"]) == ("failed", 0, "unknown macro {nonsense}")
    assert (await client.post(f"{LOG}/{row['id']}/refire")).status_code == 409


async def test_operator_reads_the_log_and_fires_again(
    client: AsyncClient, database: Settings, partner: FakeAffiliate
) -> None:
    wants = await asks(client, partner)
    conversion = await converts(database)
    await send(database)
    (row,) = await log(client)
    one = f"{LOG}/{row['id']}"
    assert (await client.get(one)).json() == row
    for filters, number in (
        ({"affiliate_id": 513, "state": "sent", "conversion_id": conversion}, 1),
        ({"affiliate_postback_id": wants, "host": "p.example"}, 1),
        ({"state": "failed"}, 0),
        ({"affiliate_id": 514}, 0),
        ({"created_from": "2020-01-01", "tz": "Europe/Berlin"}, 1),
        ({"created_to": "2020-01-01"}, 0),
    ):
        assert len(await log(client, **filters)) == number
    again = (await client.post(f"{one}/refire")).json()
    assert (again["state"], again["attempts"], again["key"]) == ("waiting", 0, row["key"])
    await send(database)
    assert len({asked.headers["Idempotency-Key"] for asked in partner.asked}) == 1
    assert len(partner.asked) == 2
    (entry,) = (await client.get(f"{USERS}/audit?resource=sent_postback")).json()["data"]
    assert (entry["path"], entry["before"]["state"]) == (f"sent-postbacks/{row['id']}", "sent")
    for path in ("999", "0", "x"):
        assert (await client.get(f"{LOG}/{path}")).status_code == 404
        assert (await client.post(f"{LOG}/{path}/refire")).status_code == 404
    for query in ("state=odd", "page=0", "page=99999", "nonsense=1"):
        assert (await client.get(f"{LOG}?{query}")).status_code == 422


async def test_clock_that_was_ahead_delays_only_briefly(
    client: AsyncClient, database: Settings, partner: FakeAffiliate
) -> None:
    await asks(client, partner)
    await converts(database)
    partner.answers.append(status(500))
    await send(database)
    for ahead, is_due in (("1 hour", False), ("1 day", True)):
        await run_sql(database, f"UPDATE sent_postback SET next_attempt_at = now() + interval '{ahead}'")
        await housekeeping.once(database)
        await send(database)
        assert [row["state"] for row in await log(client)] == ["sent" if is_due else "waiting"]


async def test_log_forgets_old_postbacks(
    client: AsyncClient, database: Settings, partner: FakeAffiliate
) -> None:
    await asks(client, partner)
    await converts(database)
    await send(database)
    assert database.postgres_dsn
    connection = await connect(database.postgres_dsn)
    try:
        await affiliate_postbacks.POSTBACKS.forget(connection)
        assert len(await log(client)) == 1
        await connection.execute(
            "UPDATE sent_postback SET created_at = now() - $1::interval", timedelta(days=91)
        )
        await affiliate_postbacks.POSTBACKS.forget(connection)
    finally:
        await connection.close()
    assert await log(client) == []


async def test_waiting_and_failed_postbacks_are_counted(
    client: AsyncClient, database: Settings, partner: FakeAffiliate
) -> None:
    await asks(client, partner)
    await converts(database)
    partner.answers.append(status(500))
    await send(database)
    assert database.postgres_dsn
    pool = await open_pool(database.postgres_dsn)
    try:
        assert await affiliate_postbacks.POSTBACKS.counts(pool) == (1, 0, 0)
        await run_sql(database, "UPDATE sent_postback SET next_attempt_at = now() - interval '2 minutes'")
        assert await affiliate_postbacks.POSTBACKS.counts(pool) == (1, 1, 0)
        (finding, warning) = await report.examine(database, "affiliates")
        assert (finding.level, warning.text) == ("ok", "postbacks to affiliates that are overdue: 1")
        assert 'tracker_affiliate_postbacks{state="overdue"} 1' in await metrics_of(database)
        await run_sql(database, "UPDATE sent_postback SET state = 'failed'")
        assert await affiliate_postbacks.POSTBACKS.counts(pool) == (0, 0, 1)
    finally:
        pool.terminate()


@contextmanager
def worker(database: Settings) -> Iterator[subprocess.Popen[bytes]]:
    """A real `tracker worker` that may send to this machine, killed in the end."""
    assert database.postgres_dsn
    assert database.redis_url
    variables = {
        "TRACKER_POSTGRES_DSN": database.postgres_dsn,
        "TRACKER_REDIS_URL": database.redis_url,
        "TRACKER_DATA_DIR": str(database.data_dir),
        "TRACKER_POSTBACK_NETWORKS": "127.0.0.1/32",
    }
    process = subprocess.Popen([sys.executable, "-m", "tracker", "worker"], env=os.environ | variables)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.02)


async def test_worker_killed_while_it_sends_leaves_it_to_the_next(
    client: AsyncClient, database: Settings, partner: FakeAffiliate
) -> None:
    await asks(client, partner, host="localhost")
    await converts(database)
    partner.answers.append(SILENCE)
    with worker(database):
        await until(lambda: len(partner.asked) == 1)
    (row,) = await log(client)
    assert (row["state"], row["attempts"]) == ("waiting", 1)
    with worker(database) as process:
        await later(database)  # its lease is over
        await until(lambda: len(partner.asked) == 2)
        process.terminate()
        assert await asyncio.to_thread(process.wait) == 0
    first, second = partner.asked
    assert first == second, "the same address under the same key"
    assert [(row["state"], row["attempts"]) for row in await log(client)] == [("sent", 2)]


BETWEEN = datetime.fromtimestamp(millis_of(HASH) / 1000, UTC) + timedelta(hours=2)
BACKUP = f"{BETWEEN:%Y-%m-%d %H:%M:%S} UTC (a backup's time, or that of hold-sending)"


async def becomes_a_copy(database: Settings) -> None:
    """As `tracker restore` leaves it, of a backup two hours after the click."""
    assert database.postgres_dsn
    connection = await connect(database.postgres_dsn)
    try:
        await sending.hold(connection, BETWEEN)
        await sending.hold(connection, BETWEEN + timedelta(days=1))  # a copy of a copy is of the first backup
        assert await sending.copy_of(connection) == BETWEEN
    finally:
        await connection.close()


async def resume_sending(database: Settings, *options: str) -> list[str]:
    return await command(database, "resume-sending", *options)


async def command(database: Settings, *words: str) -> list[str]:
    env = os.environ | {"TRACKER_POSTGRES_DSN": database.postgres_dsn or ""}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tracker", *words),
        env=env | {"TRACKER_DATA_DIR": str(database.data_dir)},
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode().splitlines()


@pytest.fixture
async def copy(client: AsyncClient, database: Settings, partner: FakeAffiliate) -> Settings:
    """A copy with a waiting postback from before the backup, and one of a later change."""
    await asks(client, partner, statuses=["pending", "rejected"])
    await converts(database, status="pending")
    partner.answers.append(status(500))
    await send(database)
    partner.asked.clear()
    await becomes_a_copy(database)
    await later(database)
    await converts(database, n=1, after=3 * AN_HOUR, status="rejected")
    return database


async def test_restored_copy_sends_nothing(
    client: AsyncClient, copy: Settings, partner: FakeAffiliate, caplog: pytest.LogCaptureFixture
) -> None:
    await send(copy)
    (fired, _) = await log(client, state="waiting")
    assert (await client.post(f"{LOG}/{fired['id']}/refire")).status_code == 200
    await send(copy)
    assert partner.asked == []
    assert [row["state"] for row in await log(client)] == ["waiting", "waiting"]
    assert caplog.text.count("postbacks to affiliates are held since ") == 2
    assert [(one.level, one.text) for one in await report.examine(copy, "affiliates")] == [
        ("ok", "postbacks waiting to be sent to affiliates: 2"),
        ("warn", f"no postback is sent: sending is held since {BACKUP}"),
    ]


async def test_rehearsal_sends_nothing(
    client: AsyncClient, database: Settings, partner: FakeAffiliate
) -> None:
    await asks(client, partner, statuses=["approved"])
    (held,) = await command(database, "hold-sending")
    assert held == "sending is held: postbacks to affiliates and webhooks wait until `tracker resume-sending`"
    (again,) = await command(database, "hold-sending")
    assert again.startswith("sending is held already, since ")
    await converts(database, status="approved")
    await send(database)
    assert partner.asked == []
    await resume_sending(database)
    await send(database)
    assert len(partner.asked) == 1


async def test_running_sender_stops_once_it_is_a_copy(client: AsyncClient, copy: Settings) -> None:
    assert copy.postgres_dsn
    pool = await open_pool(copy.postgres_dsn)
    try:
        assert await affiliate_postbacks.POSTBACKS.take(pool, "p.example", 8) == []
        await resume_sending(copy)
        (earlier,) = await affiliate_postbacks.POSTBACKS.take(pool, "p.example", 8)
        await affiliate_postbacks.POSTBACKS.settle(pool, earlier.id, "sent", None, 200, "")
        assert len(await affiliate_postbacks.POSTBACKS.take(pool, "p.example", 8)) == 1, (
            "a later status waits for the earlier one"
        )
    finally:
        pool.terminate()


@pytest.mark.parametrize(
    ("options", "fate", "sent"),
    [
        ([], "sent, including those that the original has sent since", ["pending", "rejected"]),
        (["--drop-earlier"], "dropped", ["rejected"]),
    ],
)
async def test_sending_is_resumed(
    client: AsyncClient,
    copy: Settings,
    partner: FakeAffiliate,
    options: list[str],
    fate: str,
    sent: list[str],
) -> None:
    await run_sql(copy, "UPDATE sent_postback SET give_up_at = now() - interval '1 day'")
    for end in ("nothing was changed", "sending is resumed"):
        dry = ["--dry-run"] * (end == "nothing was changed")
        first, waiting, earlier, last = await resume_sending(copy, *options, *dry)
        assert first == f"sending is held since {BACKUP}"
        assert waiting.startswith("2 postbacks to 1 hosts wait, of changes from ")
        assert earlier == f"1 of them are from before: {fate}"
        assert last == end
        await send(copy)
        assert (partner.asked == []) is bool(dry)
    assert [target.rpartition("=")[2] for target in targets(partner)] == sent
    dropped = await log(client, state="failed")
    assert len(dropped) == 2 - len(sent)
    assert {row["last_error"] for row in dropped} <= {
        "dropped by resume-sending: the tracker that was backed up may have sent it"
    }
    for row in dropped:
        assert (await client.post(f"{LOG}/{row['id']}/refire")).status_code == 200
    await send(copy)
    assert len(partner.asked) == 2
    assert await resume_sending(copy) == ["nothing is held"]
    (finding,) = await report.examine(copy, "affiliates")
    assert finding.level == "ok"
