"""A writer's end of the stream: its own backlog, the entries of dead peers, new entries."""

from __future__ import annotations

import asyncio
import secrets
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager
from importlib.resources import files
from itertools import islice
from typing import Any, NamedTuple, Self

from redis.exceptions import OutOfMemoryError, RedisError, ResponseError

from tracker.domain.model import fast
from tracker.stream import formats, keys, ledger_scripts
from tracker.stream.client import open_client
from tracker.stream.connection import Connection, RefusedError, Script
from tracker.stream.copies import OneCopyError
from tracker.stream.homes import homes_of
from tracker.stream.record import COPY

PATIENCE_SECONDS = 5.0
"""How long a server may be silent before it counts as away."""

_REPLICA_SECONDS = 0.1  # that a call waits for a replica: a click in the table is safe without one
_MOST_UNSURE = 100_000  # entries: 10 MB
_PAGE = 1000  # entries of one call: more would delay the edges' calls by milliseconds
_ENOUGH_BYTES = 8 << 20  # of records that end a read: hostile ones have 30 KB each
_NEW = b">"
_ACKNOWLEDGE = Script(ledger_scripts.script("acknowledge.lua").encode())


class Delivery(NamedTuple):
    """One entry as read by a writer."""

    id: bytes
    fields: dict[bytes, bytes]

    @property
    def number(self) -> int:
        """The id as one number, in the order of ids."""
        millis, _, sequence = self.id.partition(b"-")
        return int(millis) << 20 | int(sequence)


def _delivery(id_: bytes, flat: list[bytes] | None) -> Delivery:
    """An entry as the server sends it. It has no fields if it was deleted after it was read first."""
    parts = iter(flat or ())
    return fast(Delivery, (id_, dict(zip(parts, parts, strict=True))))


class Reader:
    """A writer's end of one partition."""

    def __init__(self, url: str, slot: int, partition: int = 0, copies: int = 1) -> None:
        self._client = open_client(
            url,
            partition,
            health_check_interval=30,
            socket_connect_timeout=PATIENCE_SECONDS,
            socket_timeout=PATIENCE_SECONDS,
        )
        self._connection = Connection(homes_of(url), partition)  # for the calls of every click
        self._has_copies = copies > 1
        self._has_replica = True  # whether one confirmed the last call
        self._unsure: set[int] = set()  # acknowledged, and no replica confirms it
        self._unsure_of = 0  # the connection's opening by which they were
        self._stream = keys.clicks(partition)
        self._dead = keys.dead(partition)
        self._slots = keys.writer_prefix(partition)
        self._slot = keys.writer(partition, slot)
        self._consumer = keys.CONSUMER + b"%d" % slot
        self._token = f"{secrets.token_hex(8)} {formats.WORD}"
        self._first_arguments = ledger_scripts.first_arguments(partition)
        self._dead_letter = self._client.register_script(ledger_scripts.script("dead_letter.lua"))
        self._take_over = self._client.register_script(
            files(__package__).joinpath("lua", "take_over.lua").read_text()
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._connection.close()
        await self._client.aclose()

    async def hold_slot(self, seconds: float) -> bool:
        """Take or keep this writer's slot for some seconds. False while another writer has it.

        Edges see there which formats this writer reads.

        If the server is out of memory, we assume that we hold the slot, so that the writer goes on draining.
        """
        millis = int(seconds * 1000)
        try:
            if await self._client.set(self._slot, self._token, px=millis, nx=True):
                return True
        except OutOfMemoryError:
            return True
        return bool(await self._client.eval(_EXTEND, 1, self._slot, self._token, millis))

    async def release_slot(self) -> None:
        await self._client.eval(_RELEASE, 1, self._slot, self._token)

    async def create_group(self) -> None:
        """Create the group at the stream's beginning, so that earlier entries are read too."""
        try:
            await self._client.xgroup_create(self._stream, keys.GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    async def backlog(self, count: int, after: bytes = b"0") -> list[Delivery]:
        """Entries after an id that an earlier run of this writer read and did not acknowledge."""
        return await self._read(count, after)

    async def abandoned(self, count: int, free_seconds: float, any_seconds: float) -> list[Delivery]:
        """Take over entries that were read and not acknowledged for some time.

        That time is `free_seconds` for writers whose slot is free, and `any_seconds` for all writers.
        """
        arguments = (keys.GROUP, self._consumer, keys.CONSUMER, self._slots, min(count, _PAGE))
        times = (int(seconds * 1000) for seconds in (free_seconds, any_seconds))
        reply = await self._take_over([self._stream], [*arguments, *times])
        return [_delivery(id_, flat) for id_, flat in reply]

    async def new(self, count: int, block_seconds: float | None) -> list[Delivery]:
        """New entries. Waits up to `block_seconds` for the first one (None: does not wait)."""
        return await self._read(count, _NEW, None if block_seconds is None else int(block_seconds * 1000))

    async def _read(self, count: int, after: bytes, block: int | None = None) -> list[Delivery]:
        read: list[Delivery] = []
        size = 0
        while len(read) < count and size < _ENOUGH_BYTES:
            page = await self._read_page(min(count - len(read), _PAGE), after, block)
            read += page
            size += sum([len(delivery.fields.get(b"r", b"")) for delivery in page])
            if len(page) < _PAGE:
                break
            after, block = after if after == _NEW else page[-1].id, None
        return read

    async def _read_page(self, count: int, after: bytes, block: int | None) -> list[Delivery]:
        command = [b"XREADGROUP", b"GROUP", keys.GROUP, self._consumer, b"COUNT", b"%d" % count]
        if block is not None:
            command += (b"BLOCK", b"%d" % block)
        patience = PATIENCE_SECONDS + (block or 0) / 1000
        async with self._connected() as connection:
            (reply,) = await self._ask(connection, patience, [*command, b"STREAMS", self._stream, after])
        return [_delivery(id_, flat) for id_, flat in reply[0][1]] if reply else []

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Connection]:
        connection = self._connection
        try:
            if not connection.is_open:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await connection.open()
            yield connection
        except BaseException:
            await connection.close()  # a late reply must not be taken for another call's
            raise

    async def acknowledge(
        self, deliveries: Iterable[Delivery], duplicates: AbstractSet[int] = frozenset()
    ) -> None:
        """Remove stored entries from the stream. Done twice, it changes nothing.

        `duplicates`: the numbers of entries whose click was stored through another entry. If a copy's click
        was, that entry was lost with its server, and with its count. So the copy counts as stored.
        """
        deliveries = iter(deliveries)
        while page := list(islice(deliveries, _PAGE)):
            await self._acknowledge_page(page, duplicates)

    async def _acknowledge_page(self, deliveries: Sequence[Delivery], duplicates: AbstractSet[int]) -> None:
        ids: dict[tuple[int, bytes], list[bytes]] = defaultdict(list)
        for delivery in deliveries:
            kind = ledger_scripts.STORED
            if duplicates and delivery.number in duplicates and not self._is_stored_by(delivery):
                kind = ledger_scripts.DUPLICATE
            ids[ledger_scripts.minute_of_sound(delivery.fields), kind].append(delivery.id)
        arguments = [b"1", self._stream, *self._first_arguments, keys.GROUP]
        for (minute, kind), those in ids.items():
            arguments += (b"%d" % minute, kind, b"%d" % len(those), *those)
        async with self._connected() as connection:
            await connection.run(_ACKNOWLEDGE, arguments, PATIENCE_SECONDS)
            if self._has_copies:  # the writer's next batch forgets which entries it has stored
                await self._ask(connection, PATIENCE_SECONDS)
                if not self._has_replica and len(self._unsure) < _MOST_UNSURE:
                    self._unsure.update(delivery.number for delivery in deliveries)
                    self._unsure_of = connection.openings

    def _is_stored_by(self, delivery: Delivery) -> bool:
        """Whether a click that was in the table came there by this entry, or by the one whose copy it is.

        A replica that takes over may not have the acknowledgement. It then hands the entry out again.
        """
        return COPY in delivery.fields or delivery.number in self._unsure

    async def _ask(self, connection: Connection, within: float, *commands: Sequence[bytes]) -> list[Any]:
        """The replies. With two copies a replica has what was written, unless that takes too long.

        So a replica that takes over has the entries that are stored. Else the ledger would miss them.
        """
        if not self._has_copies:
            return await connection.ask(commands, within)
        millis = _REPLICA_SECONDS * 1000 if self._has_replica else 1
        *replies, reached = await connection.ask([*commands, (b"WAIT", b"1", b"%d" % millis)], within)
        self._has_replica = reached > 0
        if self._has_replica and connection.openings == self._unsure_of:
            self._unsure.clear()
        return replies

    async def dead_letter(self, delivery: Delivery, reason: str) -> None:
        """Move an entry that cannot be stored to the dead-letter stream, with the reason.

        Raises:
            RedisError: it was not moved, and stays where it was.
        """
        await self._dead_letter(
            [self._stream, self._dead],
            [
                *self._first_arguments,
                keys.GROUP,
                delivery.id,
                reason,
                ledger_scripts.minute_of(delivery.fields),
            ],
        )

    async def waiting(self) -> int:
        """The number of entries on the stream: recorded, not stored yet."""
        return int(await self._client.xlen(self._stream))


_IF_MINE = "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end "
_EXTEND = _IF_MINE + "return redis.call('PEXPIRE', KEYS[1], ARGV[2])"
_RELEASE = _IF_MINE + "return redis.call('DEL', KEYS[1])"


def is_missing_group(error: Exception) -> bool:
    """Whether the stream or its group is missing (a flush, a new server). create_group repairs it."""
    return isinstance(error, ResponseError | RefusedError) and "NOGROUP" in str(error)


UNREACHABLE: tuple[type[Exception], ...] = (RedisError, RefusedError, OneCopyError, OSError, TimeoutError)
"""Errors of a stream server that is down, starting or refusing, or misses its replica: worth waiting for."""
