"""A worker as release 0.2.0 was: it says no word, and reads version 1 of records only. A frozen copy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson

from tracker.edge.record.ending import end
from tracker.settings import Settings
from tracker.store.clicks import insert as clicks
from tracker.store.clicks.insert import Arrival, Writer
from tracker.store.db import Connection, connect
from tracker.stream.client import open_client
from tracker.stream.reader import Delivery, Reader
from tracker.stream.record import decode

_SLOT_MILLIS = 3000


@asynccontextmanager
async def former_worker(settings: Settings, slot: int) -> AsyncIterator[None]:
    """Work until the context ends. The slot is then free, as after SIGTERM."""
    working = asyncio.create_task(_work(settings, slot))
    try:
        yield
    finally:
        await end(working)


async def _work(settings: Settings, slot: int) -> None:
    assert settings.redis_url
    assert settings.postgres_dsn
    lock, connection = f"writer:{{0}}:{slot}", await connect(settings.postgres_dsn)
    await clicks.prepare(connection)
    async with (
        Reader(settings.redis_url, slot) as reader,
        open_client(settings.redis_url) as client,
    ):
        await reader.create_group()
        try:
            while True:
                await client.set(lock, "0123456789abcdef", px=_SLOT_MILLIS)
                for delivery in await reader.new(100, 0.05):
                    await _store(connection, Writer(0, slot), reader, delivery)
        finally:
            await client.delete(lock)
            await connection.close()


async def _store(connection: Connection, writer: Writer, reader: Reader, delivery: Delivery) -> None:
    version = delivery.fields[b"r"][:1]
    if version != b"\x01":
        return await reader.dead_letter(delivery, f"record version {version!r} is unknown")
    assert orjson.loads(delivery.fields[b"r"][1:])[8] is not None
    await clicks.store(connection, writer, [Arrival(delivery.number, decode(delivery.fields))])
    await reader.acknowledge([delivery])
    await clicks.open_gate(connection)
    return None
