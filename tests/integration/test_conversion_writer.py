"""The real conversion writer, from the stream into a real Postgres."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from tests.factories.clicks import a_click, a_row
from tests.factories.clicks import store as store_rows
from tests.factories.postbacks import AN_HOUR, a_postback
from tests.integration.edge_client import PATIENCE
from tests.integration.ledger_entries import streams_of
from tracker.domain.click_id import Mint, hash_at, millis_of
from tracker.domain.postback import Postback, Source, read_postback
from tracker.ops.doctor import report
from tracker.settings import Settings
from tracker.store.catalogue import read as stored_catalogue
from tracker.store.catalogue.demo import load_demo
from tracker.store.clicks import insert as clicks
from tracker.store.conversions import postbacks as postback_log
from tracker.store.conversions.apply_postback import take
from tracker.store.db import Connection, connect
from tracker.store.locks import Lock
from tracker.stream.client import open_client
from tracker.stream.ledger import StreamLedger
from tracker.stream.postbacks import PostbackStream, decode, encode
from tracker.stream.reader import UNREACHABLE
from workers import conversion_writer, housekeeping, retry

pytestmark = pytest.mark.anyio

OLD = 1_700_000_000_000

mint = Mint()


async def connected(settings: Settings) -> Connection:
    assert settings.postgres_dsn
    await load_demo(settings.postgres_dsn)
    connection = await connect(settings.postgres_dsn)
    await clicks.prepare(connection)
    return connection


async def append(settings: Settings, *postbacks: Postback) -> None:
    assert settings.redis_url
    async with PostbackStream(settings.redis_url) as stream:
        for postback in postbacks:
            await stream.append(postback)


async def left(settings: Settings) -> tuple[int, int]:
    assert settings.redis_url
    async with PostbackStream(settings.redis_url) as stream:
        return await stream.waiting()


def of_click(click_hash: str, **parameters: str) -> Postback:
    said = {"click_id": click_hash} | parameters
    return read_postback(mint.hash(), Source.POSTBACK, "198.51.100.9", 1, said)


async def results(connection: Connection) -> list[tuple[str, str]]:
    return [tuple(row) for row in await connection.fetch("SELECT result, reason FROM postback ORDER BY hash")]


async def until(happened: Any) -> Any:
    async with asyncio.timeout(PATIENCE):
        while not (result := await happened()):
            await asyncio.sleep(0.02)
        return result


async def test_postbacks_are_stored_once_and_leave_the_stream(database: Settings) -> None:
    connection = await connected(database)
    hashes = [mint.hash() for _ in range(3)]
    await store_rows(connection, [a_row(a_click(hash=hash_)) for hash_ in hashes])
    postbacks = [of_click(hash_) for hash_ in hashes]
    await append(database, *postbacks, *postbacks)  # as calls whose answer was lost
    await conversion_writer.run(database, burst=True)
    assert await left(database) == (0, 0)
    await append(database, postbacks[0])  # as after a kill between commit and removal
    await conversion_writer.run(database, burst=True)
    assert await left(database) == (0, 0)
    assert await results(connection) == [("stored", "")] * 3
    assert await connection.fetchval("SELECT count(*) FROM conversion") == 3
    await connection.close()


async def test_unreadable_entry_goes_to_the_dead_letters_and_unstorable_is_logged(database: Settings) -> None:
    connection = await connected(database)
    await connection.execute("ALTER TABLE conversion ADD CHECK (sale_amount < 1000)")
    click = mint.hash()
    await store_rows(connection, [a_row(a_click(hash=click))])
    too_much = of_click(click, sale_amount="1000")
    await append(database, too_much)
    assert database.redis_url
    async with open_client(database.redis_url) as client:
        for record in (
            b"",
            b"\x63later",
            b"\x01{",
            b"\x01[1]",
            encode(too_much).replace(b"postback", b"nonsense"),
            encode(too_much._replace(hash="damaged")),
            encode(too_much._replace(hash=mint.hash(), ip="\0")),
        ):
            await client.xadd("postbacks:{0}", {"r": record})
        await client.xadd("postbacks:{0}", {"no": "record"})
        await append(database, of_click(click, status="pending"))
        await conversion_writer.run(database, burst=True)
        dead = await client.xrange("dead-postbacks:{0}")
    assert len(dead) == 8
    assert all(fields[b"reason"] for _, fields in dead)
    assert await left(database) == (0, 8)
    (bad, _), good = await results(connection)
    assert (bad, good) == ("rejected", ("stored", ""))
    await connection.close()


async def test_parked_postback_waits_for_its_click_and_no_longer(
    database: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversion_writer, "PARKED_SECONDS", 0.02)
    connection = await connected(database)
    comes, never = mint.hash(), mint.hash()
    await append(database, of_click(comes), of_click(never))
    stopping = asyncio.Event()
    writing = asyncio.create_task(conversion_writer.run(database, stopping))
    await until(lambda: is_logged(connection, ["parked", "parked"]))
    await store_rows(connection, [a_row(a_click(hash=comes))])
    await until(lambda: is_logged(connection, ["stored", "parked"]))
    async with streams_of(database) as streams:
        await streams.say("0", millis_of(never) + 1)
    await until(lambda: is_logged(connection, ["stored", "rejected"]))
    assert await results(connection) == [("stored", ""), ("rejected", "unknown click")]
    stopping.set()
    await writing
    await connection.close()


async def test_click_is_waited_for_though_the_clock_has_gone_back(
    database: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversion_writer, "PARKED_SECONDS", 0.02)
    connection = await connected(database)
    never, comes = mint.hash(), mint.hash()
    stopping = asyncio.Event()
    assert database.redis_url
    async with (
        PostbackStream(database.redis_url) as stream,
        StreamLedger(database.redis_url) as books,
        streams_of(database) as streams,
    ):
        await streams.say("0", millis_of(never) + AN_HOUR)
        writer = conversion_writer.ConversionWriter(database, stream, books, stopping, burst=False)
        writing = asyncio.create_task(writer.run())
        await append(database, of_click(never))
        await until(lambda: is_logged(connection, ["rejected"]))
        await streams.say("0", millis_of(never))
        while writer._complete_until is not None:
            await asyncio.sleep(0.01)
        await append(database, of_click(comes))
        await until(lambda: is_logged(connection, ["rejected", "parked"]))
        stopping.set()
        await writing
    await connection.close()


async def is_logged(connection: Connection, wanted: list[str]) -> bool:
    return [result for result, _ in await results(connection)] == wanted


async def test_parked_postbacks_beyond_a_batch_are_tried_in_one_round(
    database: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversion_writer, "PARKED_SECONDS", 3600.0)
    monkeypatch.setattr(conversion_writer, "BATCH", 3)
    connection = await connected(database)
    hashes = [mint.hash() for _ in range(10)]
    await append(database, *map(of_click, hashes))
    await conversion_writer.run(database, burst=True)
    await store_rows(connection, [a_row(a_click(hash=hashes[-1]))])
    stopping = asyncio.Event()
    writing = asyncio.create_task(conversion_writer.run(database, stopping))
    await until(lambda: is_logged(connection, ["parked"] * 9 + ["stored"]))
    stopping.set()
    await writing
    await connection.close()


async def test_writer_is_taken_over_by_another(database: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversion_writer, "_STAND_BY_SECONDS", 0.02)
    connection = await connected(database)
    stopping = asyncio.Event()
    writers = [asyncio.create_task(conversion_writer.run(database, stopping)) for _ in range(3)]
    holder = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = $1 AND granted"
    pids = set()
    for number in range(1, 4):
        click = mint.hash()
        await store_rows(connection, [a_row(a_click(hash=click))])
        await append(database, of_click(click))
        await until(lambda n=number: is_logged(connection, ["stored"] * n))  # type: ignore[misc]
        held = await connection.fetch(holder, Lock.POSTBACK_WRITER)
        assert len(held) == 1
        pids.add(held[0]["pid"])
        await connection.execute("SELECT pg_terminate_backend($1)", held[0]["pid"])
    assert len(pids) == 3
    stopping.set()
    await asyncio.gather(*writers)
    await connection.close()


async def test_backup_has_clicks_stored_after_the_copy_of_the_stream(database: Settings) -> None:
    connection = await connected(database)
    click = mint.hash()
    await store_rows(connection, [a_row(a_click(hash=click))])
    await append(database, of_click(click))
    await connection.execute("SELECT pg_advisory_lock($1)", Lock.BACKUP_GATE)
    stopping = asyncio.Event()
    writing = asyncio.create_task(conversion_writer.run(database, stopping))
    await until(lambda: is_waiting(connection))
    assert (await results(connection), await left(database)) == ([], (1, 0))
    await connection.execute("SELECT pg_advisory_unlock($1)", Lock.BACKUP_GATE)
    await until(lambda: is_logged(connection, ["stored"]))
    await until(lambda: is_left(database, (0, 0)))
    stopping.set()
    await writing
    await connection.close()


async def is_waiting(connection: Connection) -> bool:
    waiting = "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted)"
    return bool(await connection.fetchval(waiting))


async def is_left(settings: Settings, wanted: tuple[int, int]) -> bool:
    return await left(settings) == wanted


async def test_conversion_writer_without_its_engines_reports_it_and_goes_on(
    database: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    away = replace(database, redis_url="unix:///nonexistent/valkey.sock")
    with pytest.raises(UNREACHABLE):
        await conversion_writer.run(away, burst=True)
    monkeypatch.setattr(retry, "FIRST_PAUSE", 0.01)
    stopping = asyncio.Event()
    writing = asyncio.create_task(conversion_writer.run(away, stopping))
    async with asyncio.timeout(PATIENCE):
        while caplog.text.count("trying again") < 2:
            await asyncio.sleep(0.01)
    stopping.set()
    await writing


async def test_old_postbacks_without_effect_are_forgotten(
    database: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postback_log, "_FORGOTTEN_AT_ONCE", 1)
    connection = await connected(database)
    for n, (hash_, result, conversion_id) in enumerate(
        (
            (hash_at(OLD), "rejected", None),
            (hash_at(OLD), "rejected", None),
            (hash_at(OLD), "stored", 1),
            (hash_at(OLD), "parked", None),
            (mint.hash(), "rejected", None),
        )
    ):
        logged = (hash_[:-1] + str(n), "postback", "", "{}", result, conversion_id)
        await connection.execute(
            "INSERT INTO postback (hash, source, ip, parameters, result, conversion_id)"
            " VALUES ($1, $2, $3, $4, $5, $6)",
            *logged,
        )
    await housekeeping.once(database)
    kept = await connection.fetch("SELECT result FROM postback ORDER BY result")
    assert [result for (result,) in kept] == ["parked", "rejected", "stored"]
    await connection.close()


async def test_doctor_names_stalled_parts(database: Settings) -> None:
    connection = await connected(database)
    assert [finding.level for finding in await report.examine(database, "postbacks")] == ["ok"]
    async with connection.transaction():
        await take(connection, [a_postback(), of_click(mint.hash())], None)
    assert database.redis_url
    async with open_client(database.redis_url) as client:
        await client.xadd("dead-postbacks:{0}", {"r": "?", "reason": "nobody knows"})
    found = await report.examine(database, "postbacks")
    assert [(finding.level, finding.text) for finding in found] == [
        ("ok", "0 on the stream, 2 waiting for their clicks"),
        ("warn", "waiting for their clicks for more than an hour: 1"),
        ("warn", "postbacks that no worker can read: 1"),
    ]
    away = replace(database, redis_url="unix:///nonexistent/valkey.sock")
    assert [finding.level for finding in await report.examine(away, "postbacks")] == ["fail"]
    await connection.close()


async def test_caps_on_conversions_are_unknown_to_edges(database: Settings) -> None:
    connection = await connected(database)
    await connection.execute(
        "INSERT INTO cap (offer_id, affiliate_id, counts, period, amount, currency) VALUES"
        " (3, NULL, 'conversions', 'day', 1, NULL), (3, 513, 'payout', 'day', 1, 'EUR'),"
        " (3, 513, 'clicks', 'day', 7, NULL)"
    )
    ((_, offer),) = await stored_catalogue.read_some(connection, "offer", ["3"])
    ((_, terms),) = await stored_catalogue.read_some(connection, "terms", ["3:513"])
    assert offer["caps"] == []
    assert [cap["counts"] for cap in terms["caps"]] == ["clicks"]
    await connection.close()


def test_record_is_read_back_as_written() -> None:
    postback = a_postback(order_id="ä😀", revenue="0.000001", adv_sub="x" * 500)
    assert decode(encode(postback)) == postback
