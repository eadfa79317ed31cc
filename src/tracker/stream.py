"""The stream between edges and writers, and the only importer of redis.

Keys of one partition share a hash tag, so that they live on one node of a cluster:
    clicks:{p}                       stream of recorded clicks, read by the group "writers"
    dead:{p}                         what could not be stored, with the reason
    lane:{p}:<lane>                  an appending connection's last sequence and answer
    unique:{p}:<window>:<slice>:<n>  buckets of visitors seen (record_clicks.lua)
    writer:{p}:<slot>                who holds a writer's slot
"""

from __future__ import annotations

import asyncio
import secrets
import struct
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from hashlib import sha1
from importlib.resources import files
from typing import Any, NamedTuple, Self

import hiredis
import orjson
import redis.asyncio
from redis.exceptions import NoScriptError, OutOfMemoryError, RedisError, ResponseError

from tracker.clickhash import is_click_hash, millis_of
from tracker.model import Click, ClickRow, Outcomes, Status

VERSION = b"\x01"
"""First byte of a record; a writer reads this one and the one before."""

GROUP = b"writers"
LANE_SECONDS = 30 * 86400
"""How long a lane is remembered: longer than any spool may wait for the stream."""

_ANSWER_BYTES = 17
_NO_HASH = bytes(16)
_LAST_MILLIS = 253_402_300_799_999  # the end of the year 9999, beyond which Python and Postgres part ways
_CONTROL = struct.Struct(">cI8s16s")
_MASK = (1 << 64) - 1
_OFFER_SPREAD, _AFFILIATE_SPREAD = 0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F
_SCRIPT = files(__package__).joinpath("record_clicks.lua").read_bytes()
_SHA = sha1(_SCRIPT, usedforsecurity=False).hexdigest().encode()

Entry = tuple[bytes, bytes]
"""A click on its way to the stream: what the script needs to know of it, and its record."""


class AppendError(Exception):
    """The stream did not take a batch, or did not say so in time; the message is the cause."""


class Undecodable(ValueError):  # noqa: N818 - says what the entry is
    """An entry of the stream that is no click; the message says why."""


class Answer(NamedTuple):
    """What the stream decided of one click."""

    outcome: int  # place in Outcomes
    first_hash: str | None  # of the visitor's first click in the window


class Receipt:
    """What the stream decided of a batch of clicks, in their order."""

    def __init__(self, packed: bytes) -> None:
        self._packed = packed

    @property
    def outcomes(self) -> list[int]:
        """The places of the outcomes in Outcomes."""
        return [digit - 0x30 for digit in self._packed[::_ANSWER_BYTES]]

    @property
    def answers(self) -> list[Answer]:
        packed = self._packed
        return [_answer(packed[at : at + _ANSWER_BYTES]) for at in range(0, len(packed), _ANSWER_BYTES)]


class Delivery(NamedTuple):
    """One entry as read by a writer."""

    id: bytes
    fields: dict[bytes, bytes]


def encode(click: Click, outcomes: Outcomes) -> Entry:
    """The entry of a click. Positional, and mirrored by `decode`: change both, and VERSION, together."""
    unique, duplicate, capped = outcomes
    distinct = (unique,) if unique is duplicate is capped else outcomes
    record = orjson.dumps(
        (
            click.hash,
            click.bot_reason,
            click.is_test,
            click.visitor_key,
            click.affiliate.id,
            click.affiliate.group_id,
            tuple(click.link),
            tuple(click.visitor),
            tuple(click.device),
            tuple(click.geo),
            [tuple(outcome) for outcome in distinct],
        )
    )
    return _control(click, outcomes), VERSION + record


def _control(click: Click, outcomes: Outcomes) -> bytes:
    takes = outcomes.unique.status is Status.ACCEPTED and click.bot_reason is None and not click.is_test
    offer = click.offer
    fingerprint = click.visitor_key ^ offer.id * _OFFER_SPREAD
    if offer.unique_per_affiliate:
        fingerprint ^= click.affiliate.id * _AFFILIATE_SPREAD
    return _CONTROL.pack(
        b"U" if takes else b"L",
        offer.unique_window,
        (fingerprint & _MASK).to_bytes(8, "big"),
        bytes.fromhex(click.hash),
    )


def decode(fields: dict[bytes, bytes]) -> ClickRow:
    """The row of an entry.

    Raises:
        Undecodable: not a record of a version this writer reads, or one that is damaged.
    """
    try:
        answer, record = fields[b"a"], fields[b"r"]
        if record[:1] != VERSION:
            raise Undecodable(f"record version {record[:1]!r} is unknown")
        return _row(_answer(answer), orjson.loads(record[1:]))
    except (KeyError, IndexError, TypeError, ValueError) as error:
        if isinstance(error, Undecodable):
            raise
        raise Undecodable(f"{type(error).__name__}: {error}") from error


def _row(answer: Answer, record: list[Any]) -> ClickRow:
    (
        hash_,
        bot_reason,
        is_test,
        visitor_key,
        affiliate_id,
        aff_group_id,
        link,
        visitor,
        device,
        geo,
        chosen,
    ) = record
    if not is_click_hash(hash_) or millis_of(hash_) > _LAST_MILLIS:
        raise Undecodable(f"{hash_!r} is no click hash of this age")
    status, reason, offer_id, offer_url_id, advertiser_id, brand_id, location = (
        chosen[answer.outcome] if len(chosen) > 1 else chosen[0]
    )
    requested_offer_id, _, requested_url_id, source, external_id, gaid, idfa, aff_subs, adv_subs = link
    ip, user_agent, client_hints, language, referrer, host, requested_link, fetch_dest, fetch_user = visitor
    os, os_version, brand, model, type_, platform, browser, browser_version = device
    country_code, region_code, city, isp, mobile_carrier = geo
    row = (
        hash_,
        answer.first_hash,
        answer.first_hash == hash_,
        status,
        reason,
        bot_reason is not None,
        bot_reason,
        is_test,
        False,
        requested_offer_id,
        requested_url_id,
        offer_id,
        offer_url_id,
        advertiser_id,
        brand_id,
        affiliate_id,
        aff_group_id,
        *aff_subs,
        *adv_subs,
        source,
        external_id,
        gaid,
        idfa,
        visitor_key - (visitor_key >> 63 << 64),  # the column is signed
        ip,
        user_agent,
        client_hints,
        language,
        referrer,
        host,
        fetch_dest,
        fetch_user,
        os,
        os_version,
        brand,
        model,
        type_,
        platform,
        browser,
        browser_version,
        country_code,
        region_code,
        city,
        isp,
        mobile_carrier,
        requested_link,
        location,
    )
    return ClickRow._make(row)  # raises TypeError where a list in it is too short or too long


def _answer(packed: bytes) -> Answer:
    first = packed[1:_ANSWER_BYTES]
    return Answer(packed[0] - 0x30, None if first == _NO_HASH else first.hex())


class Lane:
    """Numbered calls: one of unknown fate is repeated under its number, and is done once."""

    def __init__(self) -> None:
        self.id = secrets.token_hex(8).encode()
        self.sequence = 1

    def next(self) -> None:
        self.sequence += 1


class Appender:
    """Appends batches to one partition over one connection; never two calls at once."""

    def __init__(self, url: str, partition: int = 0) -> None:
        self._connection = redis.asyncio.ConnectionPool.from_url(url, protocol=2).make_connection()  # type: ignore[no-untyped-call]
        self._stream = b"clicks:{%d}" % partition
        self._lane = b"lane:{%d}:" % partition
        self._unique = b"unique:{%d}:" % partition
        self._busy = asyncio.Lock()

    async def append(self, lane: Lane, entries: Sequence[Entry], within: float) -> Receipt:
        """Append a batch.

        Raises:
            AppendError: refused, or no answer within so many seconds. The fate is unknown: repeat the same
                batch under the same lane and sequence, or abandon the lane.
        """
        arguments = [
            self._stream,
            self._lane + lane.id,
            b"%d" % lane.sequence,
            b"%d" % LANE_SECONDS,
            self._unique,
        ]
        for entry in entries:
            arguments += entry
        async with self._connected(within):
            try:
                reply = await self._call(b"EVALSHA", _SHA, arguments)
            except NoScriptError:
                reply = await self._call(b"EVAL", _SCRIPT, arguments)
            packed = reply[1]
            if len(packed) != _ANSWER_BYTES * len(entries):
                raise RedisError(f"{len(entries)} clicks were answered with {len(packed)} bytes")
        return Receipt(packed)

    async def reach(self, within: float) -> None:
        """Connect where that has not been done, or has been undone.

        Raises:
            AppendError: the server cannot be reached.
        """
        async with self._connected(within):
            pass

    @asynccontextmanager
    async def _connected(self, within: float) -> AsyncIterator[None]:
        """The connection, to oneself; AppendError for all that goes wrong with it."""
        try:
            async with asyncio.timeout(within), self._busy:
                try:
                    if not self._connection.is_connected:
                        await self._connection.connect()
                    yield
                except BaseException:
                    # The reply still to come must not be taken for another call's.
                    await self._connection.disconnect(nowait=True)
                    raise
        except TimeoutError as error:
            raise AppendError("no answer in time") from error
        except (RedisError, OSError, RuntimeError) as error:  # RuntimeError: uvloop's, of a closed one
            raise AppendError(f"{type(error).__name__}: {error}") from error

    async def _call(self, command: bytes, script: bytes, arguments: list[bytes]) -> Any:
        packed = hiredis.pack_command((command, script, b"2", *arguments))  # type: ignore[arg-type]
        await self._connection.send_packed_command(packed, check_health=False)
        return await self._connection.read_response(disable_decoding=True)

    async def close(self) -> None:
        await self._connection.disconnect()


class Reader:
    """A writer's end of one partition: reads, takes over, acknowledges, buries."""

    def __init__(self, url: str, slot: int, partition: int = 0) -> None:
        # Any: redis-py types every reply as the union of all its protocols' and options' shapes.
        self._client: Any = redis.asyncio.Redis.from_url(url, protocol=2, health_check_interval=30)
        self._stream = b"clicks:{%d}" % partition
        self._dead = b"dead:{%d}" % partition
        self._lock = b"writer:{%d}:%d" % (partition, slot)
        self._consumer = b"writer-%d" % slot
        self._token = secrets.token_hex(8)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def hold_slot(self, seconds: float) -> bool:
        """Take or keep this writer's slot for some seconds; False while somebody else has it.

        A server that is full counts as a slot held: who else is to make room?
        """
        millis = int(seconds * 1000)
        try:
            if await self._client.set(self._lock, self._token, px=millis, nx=True):
                return True
        except OutOfMemoryError:
            return True
        return bool(await self._client.eval(_EXTEND, 1, self._lock, self._token, millis))

    async def release_slot(self) -> None:
        await self._client.eval(_RELEASE, 1, self._lock, self._token)

    async def create_group(self) -> None:
        """Create the group at the stream's beginning, so that what came before it is read too."""
        try:
            await self._client.xgroup_create(self._stream, GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    async def backlog(self, count: int, after: bytes = b"0") -> list[Delivery]:
        """Entries delivered to this consumer's earlier life and not acknowledged, after an id."""
        return await self._read(count, after)

    async def abandoned(self, count: int, idle_seconds: float) -> list[Delivery]:
        """Take over entries that another consumer has left unacknowledged for so long."""
        reply = await self._client.xautoclaim(
            self._stream, GROUP, self._consumer, int(idle_seconds * 1000), "0-0", count=count
        )
        # Redis 6 lists entries that were deleted, too, without an id.
        return [Delivery(id_, fields) for id_, fields in reply[1] if id_ is not None]

    async def new(self, count: int, block_seconds: float | None) -> list[Delivery]:
        """Entries nobody has read; waits up to `block_seconds` for the first one (None: does not wait)."""
        return await self._read(count, b">", None if block_seconds is None else int(block_seconds * 1000))

    async def _read(self, count: int, after: bytes, block: int | None = None) -> list[Delivery]:
        reply = await self._client.xreadgroup(
            GROUP, self._consumer, {self._stream: after}, count=count, block=block
        )
        if not reply:
            return []
        return [Delivery(id_, fields or {}) for id_, fields in reply[0][1]]

    async def acknowledge(self, ids: Iterable[bytes]) -> None:
        """Take stored entries off the stream."""
        ids = list(ids)
        async with self._client.pipeline(transaction=True) as pipe:
            pipe.xack(self._stream, GROUP, *ids)
            pipe.xdel(self._stream, *ids)
            await pipe.execute()

    async def bury(self, delivery: Delivery, reason: str) -> None:
        """Move an entry that cannot be stored to the dead-letter stream, with the reason.

        Raises:
            RedisError: it could not be moved, and stays where it was.
        """
        async with self._client.pipeline(transaction=True) as pipe:
            pipe.xadd(self._dead, {b"id": delivery.id, b"reason": reason, **delivery.fields})
            pipe.xack(self._stream, GROUP, delivery.id)
            pipe.xdel(self._stream, delivery.id)
            await pipe.execute()

    async def waiting(self) -> int:
        """Entries on the stream: recorded and not yet stored."""
        return int(await self._client.xlen(self._stream))

    async def dead(self) -> list[Delivery]:
        return [Delivery(id_, fields) for id_, fields in await self._client.xrange(self._dead)]


_IF_MINE = "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end "
_EXTEND = _IF_MINE + "return redis.call('PEXPIRE', KEYS[1], ARGV[2])"
_RELEASE = _IF_MINE + "return redis.call('DEL', KEYS[1])"


def is_missing_group(error: Exception) -> bool:
    """Whether the stream or its group has gone (a flush, a fresh server): create_group mends it."""
    return isinstance(error, ResponseError) and "NOGROUP" in str(error)


UNREACHABLE: tuple[type[Exception], ...] = (RedisError, OSError, TimeoutError)
"""What reading raises while the stream is down, starting or refusing: worth waiting for."""


class StreamFacts(NamedTuple):
    """What a stream server says of itself."""

    server: str  # valkey or redis
    version: str
    durability: str  # always, everysec, no (left to the kernel), memory (no append-only file) or unknown
    policy: str  # maxmemory-policy, or unknown
    maxmemory: int  # bytes; 0 = no limit
    millis: int  # its clock, Unix milliseconds


async def facts(url: str) -> StreamFacts:
    """Ask a server for its version and the settings that durability rests on.

    Raises:
        UNREACHABLE: it cannot be asked.
    """
    client: Any
    async with redis.asyncio.Redis.from_url(
        url, decode_responses=True, socket_connect_timeout=2, socket_timeout=2
    ) as client:
        server = await client.info("server")
        try:
            config = await client.config_get("appendonly", "appendfsync", "maxmemory", "maxmemory-policy")
        except ResponseError:  # a hosted server that keeps its settings to itself
            config = {
                "appendonly": "yes",
                "appendfsync": "unknown",
                "maxmemory": 0,
                "maxmemory-policy": "unknown",
            }
        seconds, micros = await client.time()
    return StreamFacts(
        server="valkey" if "valkey_version" in server else "redis",
        version=str(server.get("valkey_version", server["redis_version"])),
        durability=str(config["appendfsync"]) if config["appendonly"] == "yes" else "memory",
        policy=str(config["maxmemory-policy"]),
        maxmemory=int(config["maxmemory"]),
        millis=int(seconds) * 1000 + int(micros) // 1000,
    )
