"""Postbacks on their way from edges to the conversion writer: `encode` next to `decode`.

One stream, without consumer groups: a postback stays on it until it is in the database, and a reader begins
with the oldest one. Backlogs and take-overs are not needed: a postback that is appended or stored twice is
applied once, by its hash.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Final, NamedTuple

import orjson
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError

from tracker.domain.postback import Postback, Source, read_form, read_postback
from tracker.stream import keys
from tracker.stream.client import ASTRAY, StreamClient
from tracker.stream.copies import OneCopyError, Replicas
from tracker.stream.record import Undecodable

_PLAIN, _IN_A_FORM = 1, 2
VERSIONS: Final = (_PLAIN, _IN_A_FORM)
"""The first byte of a record. A writer sends records of another version to the dead letters.

Only a postback in a form has the second version. So a worker of the former release reads all others.
"""

MAX_BYTES = 100 << 20
"""Most bytes of postbacks on the stream: strangers may send many, and clicks need the memory."""

_COUNTED = [keys.POSTBACKS, keys.POSTBACK_BYTES]  # KEYS of both scripts
_ENTRY_BYTES = 100  # of the server's own for each, about
_CONNECTIONS = 8
_REPLICA_SECONDS = 1.0  # that two waits for a replica may take. A connection answers within OPTIONS' two
_RECORD, _REASON = b"r", b"reason"


class Delivery(NamedTuple):
    """One entry as read by a writer."""

    id: bytes
    record: bytes


def encode(postback: Postback) -> bytes:
    """The record of a postback, mirrored by `decode`. Change both and VERSIONS together."""
    fields = (postback.hash, postback.source, postback.ip, postback.advertiser_id, dict(postback.parameters))
    if postback.form is None:
        return bytes([_PLAIN]) + orjson.dumps(fields)
    return bytes([_IN_A_FORM]) + orjson.dumps((*fields, postback.form._asdict()))


def decode(record: bytes) -> Postback:
    """The postback of a record.

    Raises:
        Undecodable: its version is unknown, or it is damaged.
    """
    if not record or record[0] not in VERSIONS:
        raise Undecodable(f"record version {record[:1]!r} is unknown")
    try:
        hash_, source, ip, advertiser_id, parameters, *forms = orjson.loads(record[1:])
        form = read_form(forms[0]) if record[0] == _IN_A_FORM else None
        return read_postback(hash_, Source(source), ip, advertiser_id, parameters, form)
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise Undecodable(f"{type(error).__name__}: {error}") from error


class PostbackStream(StreamClient):
    """Both ends of the stream. Its methods raise UNREACHABLE of tracker.stream.reader."""

    def __init__(self, url: str, copies: int = 1) -> None:
        # Also after a lost connection: a postback appended twice is harmless.
        retries = {"retry": Retry(NoBackoff(), 1), "retry_on_error": list(ASTRAY)}
        super().__init__(url, connections=_CONNECTIONS, **retries)
        self._replicas = Replicas() if copies > 1 else None
        self._append = self._client.register_script(_script("append_postback.lua"))
        self._remove = self._client.register_script(_script("remove_postbacks.lua"))

    async def append(self, postback: Postback) -> None:
        """Append a postback. It is on disk when this returns, if the server's settings say so.

        With two copies it is on a replica's disk too.

        Raises:
            OneCopyError: no replica confirms it.
        """
        arguments = [encode(postback), _ENTRY_BYTES, MAX_BYTES]
        if self._replicas is None:
            await self._append(_COUNTED, arguments)
            return
        if self._replicas.is_look_due:
            await self._look_at_replicas(self._replicas)
        async with self._client.pipeline(transaction=False) as pipe:
            await self._append(_COUNTED, arguments, client=pipe)
            for words in self._replicas.waits(_REPLICA_SECONDS):
                pipe.execute_command(*words)
            self._replicas.note(*(await pipe.execute())[1:])
        if not self._replicas.have_it:
            raise OneCopyError("no replica has it on disk")

    async def _look_at_replicas(self, replicas: Replicas) -> None:
        try:
            info = await self._client.info("replication")
        except ResponseError:
            replicas.never_look()
            return
        those = [each for name, each in info.items() if name.startswith("slave") and isinstance(each, dict)]
        online = [each["offset"] for each in those if each["state"] == "online"]
        replicas.look(info["master_repl_offset"], online)

    async def oldest(self, count: int, block_seconds: float | None = None) -> list[Delivery]:
        """The oldest entries. Waits up to `block_seconds` for the first one (None: does not wait)."""
        block = None if block_seconds is None else int(block_seconds * 1000)
        reply = await self._client.xread({keys.POSTBACKS: b"0"}, count=count, block=block)
        return [Delivery(id_, fields.get(_RECORD, b"")) for id_, fields in reply[0][1]] if reply else []

    async def remove(self, ids: list[bytes]) -> None:
        """Remove stored entries. Done twice, it changes nothing."""
        await self._remove(_COUNTED, [_ENTRY_BYTES, *ids])

    async def dead_letter(self, delivery: Delivery, reason: str) -> None:
        """Move an entry that cannot be stored to the dead-letter stream, with the reason."""
        async with self._client.pipeline(transaction=True) as pipe:
            pipe.xadd(keys.DEAD_POSTBACKS, {_RECORD: delivery.record, _REASON: reason})
            await self._remove(_COUNTED, [_ENTRY_BYTES, delivery.id], client=pipe)
            await pipe.execute()

    async def dead_letters(self, count: int) -> list[tuple[Delivery, str]]:
        """The last `count` dead letters with their reasons, newest first."""
        entries = await self._client.xrevrange(keys.DEAD_POSTBACKS, count=count)
        return [
            (Delivery(id_, fields[_RECORD]), fields[_REASON].decode(errors="replace"))
            for id_, fields in entries
        ]

    async def waiting(self) -> tuple[int, int]:
        """The number of entries on the stream, and of dead letters."""
        async with self._client.pipeline(transaction=False) as pipe:
            pipe.xlen(keys.POSTBACKS)
            pipe.xlen(keys.DEAD_POSTBACKS)
            waiting, dead = await pipe.execute()
        return waiting, dead


def _script(name: str) -> str:
    return files(__package__).joinpath("lua", name).read_text()
