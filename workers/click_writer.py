"""The click writer: from the stream to Postgres, each click exactly once.

It reads its own backlog first, then the entries of dead peers, then new entries. A batch is acknowledged
after its commit, so a kill at any point repeats a batch and never skips one. A repeated click is not stored
again.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from time import monotonic

from tracker.settings import Settings
from tracker.store import db
from tracker.store.clicks import insert as clicks
from tracker.store.clicks.insert import Arrival, Writer
from tracker.stream.reader import UNREACHABLE, Delivery, Reader, is_missing_group
from tracker.stream.record import Undecodable, decode
from tracker.stream.waiting_clicks import waiting_clicks
from workers import measures
from workers.retry import AWAY, Retry

logger = logging.getLogger(__name__)

SLOT_SECONDS = 3.0
"""How long a writer's slot is held after its last renewal."""
ABANDONED_SECONDS = 60.0
"""How long an entry may stay unacknowledged before another writer takes it over. SLOT_SECONDS are enough if
its writer's slot is free. If its writer goes on all the same, the click is still stored once."""
STORE_SECONDS = 60.0
"""How long Postgres may take for one batch before it counts as away."""
_LOOK_SECONDS = 5.0  # between looks for partitions beyond TRACKER_PARTITIONS
_TAKEOVER_SECONDS = 1.0  # between looks for abandoned entries
_BLOCK_SECONDS = 0.5


async def run(
    settings: Settings, slot: int = 0, stopping: asyncio.Event | None = None, *, burst: bool = False
) -> None:
    """Write until `stopping` is set, then finish the batch under way. With `burst`: until nothing is left.

    There is a writer for each partition, and for each further partition with waiting clicks. Such clicks are
    left when the number of partitions is lowered, or come from an edge with a higher number.
    """
    stopping = stopping or asyncio.Event()
    wanted, begun = set(range(settings.partitions)), set[int]()
    async with asyncio.TaskGroup() as writers:
        while True:
            wanted |= await _waiting_partitions(settings)
            for partition in sorted(wanted - begun):
                writers.create_task(_write(settings, slot, partition, stopping, burst=burst))
            begun |= wanted
            if burst or await _comes_within(stopping, _LOOK_SECONDS):
                break


async def _write(
    settings: Settings, slot: int, partition: int, stopping: asyncio.Event, *, burst: bool
) -> None:
    assert settings.redis_url
    async with Reader(settings.redis_url, slot, partition, settings.copies) as reader:
        await ClickWriter(settings, Writer(partition, slot), reader, stopping, burst=burst).run()


async def _waiting_partitions(settings: Settings) -> set[int]:
    assert settings.redis_url
    try:
        return set(await waiting_clicks(settings.redis_url))
    except UNREACHABLE:  # the writers log it, and wait
        return set()


async def _comes_within(event: asyncio.Event, seconds: float) -> bool:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()


class ClickWriter:
    """One slot's loop over one partition of the stream."""

    def __init__(
        self, settings: Settings, writer: Writer, reader: Reader, stopping: asyncio.Event, *, burst: bool
    ) -> None:
        assert settings.postgres_dsn
        self._dsn = settings.postgres_dsn
        self._writer = writer
        self._size = settings.batch_size
        self._age = 0.0 if burst else settings.batch_age
        self._reader = reader
        self._stopping = stopping
        self._burst = burst
        self._next_takeover = 0.0  # monotonic seconds
        self._retry = Retry(logger, "writer", stopping, burst=burst)
        self._connection: db.Connection | None = None

    async def run(self) -> None:
        """Work, and start over after every outage: unacknowledged entries are then this slot's backlog."""
        await self._retry.run(self._work)

    async def _work(self) -> None:
        try:
            while True:
                try:
                    return await self._write()
                except AWAY as error:
                    if not (is_missing_group(error) and await self._create_group()):
                        raise
        finally:
            await self._close()

    async def _write(self) -> None:
        """Write this slot's backlog, then what is new."""
        if not await self._take_slot():
            return
        holding = asyncio.create_task(self._hold_slot())
        try:
            after = b"0"
            while batch := await self._reader.backlog(self._size, after):
                await self._store(batch)
                after = batch[-1].id
            while not self._stopping.is_set():
                batch = await self._next_batch()
                if batch:
                    await self._store(batch)
                elif self._burst:
                    break
        finally:
            holding.cancel()
        await self._reader.release_slot()

    async def _create_group(self) -> bool:
        try:
            await self._reader.create_group()
        except UNREACHABLE:
            return False
        return True

    async def _take_slot(self) -> bool:
        """Wait for the slot while another writer holds it. False if `stopping` is set meanwhile."""
        has_warned = False
        while not await self._reader.hold_slot(SLOT_SECONDS):
            if self._stopping.is_set():
                return False
            if not has_warned:
                logger.warning(
                    "writer: another writer holds this slot, or did seconds ago: waiting for it",
                    {"event": "slot_held"},
                )
                has_warned = True
            await asyncio.sleep(SLOT_SECONDS / 10)
        return True

    async def _hold_slot(self) -> None:
        # Losing the slot for a moment is harmless: two writers of one slot store each click once.
        while True:
            await asyncio.sleep(SLOT_SECONDS / 3)
            with suppress(*UNREACHABLE):
                await self._reader.hold_slot(SLOT_SECONDS)

    async def _next_batch(self) -> list[Delivery]:
        if monotonic() > self._next_takeover:
            if batch := await self._reader.abandoned(self._size, SLOT_SECONDS, ABANDONED_SECONDS):
                return batch
            self._next_takeover = monotonic() + _TAKEOVER_SECONDS
        batch = await self._reader.new(self._size, None if self._burst else _BLOCK_SECONDS)
        if batch and len(batch) < self._size and self._age:
            await asyncio.sleep(self._age)
            batch += await self._reader.new(self._size - len(batch), None)
        return batch

    async def _store(self, batch: list[Delivery]) -> None:
        """Store the sound entries, and dead-letter the others with their reasons."""
        sound: list[tuple[Delivery, Arrival]] = []
        for delivery in batch:
            try:
                sound.append((delivery, Arrival(delivery.number, decode(delivery.fields))))
            except Undecodable as error:
                await self._dead_letter(delivery, str(error))
        if sound:
            await self._store_sound(sound)

    async def _store_sound(self, batch: list[tuple[Delivery, Arrival]], *, again: bool = False) -> None:
        """Store a batch in one transaction. If a row is bad, store halves, until the bad row stands alone.

        It is then tried once more: a row for click_default fails while the partition of its day is created.
        """
        try:
            await self._store_all(batch)
        except clicks.BAD_ROW as error:
            if len(batch) > 1:
                middle = len(batch) // 2
                await self._store_sound(batch[:middle])
                await self._store_sound(batch[middle:])
            elif again:
                await self._dead_letter(batch[0][0], f"{type(error).__name__}: {error}")
            else:
                await self._store_sound(batch, again=True)
        else:
            self._retry.succeeded()

    async def _store_all(self, batch: list[tuple[Delivery, Arrival]]) -> None:
        """Commit, then acknowledge. A backup finds both done, or neither."""
        connection = await self._connected()
        # Not a timeout: asyncpg would wait for the server to confirm the cancellation, which may never come.
        watchdog = asyncio.get_running_loop().call_later(STORE_SECONDS, connection.terminate)
        began = monotonic()
        try:
            duplicates = await clicks.store(connection, self._writer, (arrival for _, arrival in batch))
            measures.BATCH_SECONDS.observe(monotonic() - began)
            measures.BATCH_CLICKS.observe(len(batch))
            measures.CLICK_DELAYS.observe(measures.since(batch[0][1].entry >> 20))
            await self._reader.acknowledge((delivery for delivery, _ in batch), duplicates)
            await clicks.open_gate(connection)
        except clicks.BAD_ROW:
            await clicks.open_gate(connection)
            raise
        finally:
            watchdog.cancel()

    async def _dead_letter(self, delivery: Delivery, reason: str) -> None:
        logger.error(
            "writer: entry %(entry)s cannot be stored: %(cause)s",
            {"event": "click_dead_lettered", "entry": delivery.id.decode(), "cause": reason},
        )
        try:
            await self._reader.dead_letter(delivery, reason)
        except UNREACHABLE as error:  # it stays in the backlog, and must not delay the others
            logger.error(
                "writer: entry %(entry)s cannot be dead-lettered either: %(cause)s",
                {"event": "click_stuck", "entry": delivery.id.decode(), "cause": error},
            )

    async def _connected(self) -> db.Connection:
        if self._connection is None or self._connection.is_closed():
            self._connection = await db.connect(self._dsn)
            await clicks.prepare(self._connection)
        return self._connection

    async def _close(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
