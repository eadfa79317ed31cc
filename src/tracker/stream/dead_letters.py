"""Entries that could not be stored: on dead:{p}, with the reason, until they are replayed or dropped."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

from tracker.errors import UserError
from tracker.settings import MAX_PARTITIONS
from tracker.stream import keys, ledger_scripts
from tracker.stream.client import StreamClient, open_client
from tracker.stream.record import hash_of, in_oldest

_ID = re.compile(r"([0-9]{1,2}):([0-9]{1,20}-[0-9]{1,20})")
_CHUNK = 500
_PATIENCE_SECONDS = 5  # a chunk of hostile records is large


class NoSuchLetterError(UserError):
    """No dead letter has this id. The message says so."""


class DeadLetter(NamedTuple):
    """One entry that could not be stored."""

    partition: int
    place: bytes  # its id on the dead-letter stream
    fields: dict[bytes, bytes]  # the entry's fields, its id on the stream, and the reason

    @property
    def id(self) -> str:
        return f"{self.partition}:{self.place.decode()}"

    @property
    def millis(self) -> int:
        """When it became a dead letter, in Unix milliseconds."""
        return int(self.place.partition(b"-")[0])

    @property
    def entry(self) -> str:
        return self.fields.get(b"id", b"").decode(errors="replace")

    @property
    def reason(self) -> str:
        return self.fields.get(b"reason", b"").decode(errors="replace")

    @property
    def hash(self) -> str | None:
        return hash_of(self.fields)

    @property
    def minute(self) -> int:
        """The Unix minute that it counts for in the ledger."""
        return ledger_scripts.minute_of(self.fields)


class DeadLetters(StreamClient):
    """The dead letters of all partitions. Its methods raise UNREACHABLE of tracker.stream.reader."""

    def __init__(self, url: str) -> None:
        super().__init__(open_client(url, socket_timeout=_PATIENCE_SECONDS))
        self._replay = self._client.register_script(ledger_scripts.script("replay.lua"))
        self._drop = self._client.register_script(ledger_scripts.script("drop.lua"))

    async def count(self) -> int:
        """How many there are."""
        async with self._client.pipeline(transaction=False) as pipe:
            for partition in range(MAX_PARTITIONS):
                pipe.xlen(keys.dead(partition))
            return sum(map(int, await pipe.execute()))

    async def all(self) -> AsyncIterator[DeadLetter]:
        """All dead letters of this moment, by partition, oldest first. Later ones are left out."""
        for partition in range(MAX_PARTITIONS):
            if newest := await self._client.xrevrange(keys.dead(partition), count=1):
                async for letter in self._upto(partition, newest[0][0]):
                    yield letter

    async def _upto(self, partition: int, newest: bytes) -> AsyncIterator[DeadLetter]:
        after = b"-"
        while entries := await self._client.xrange(keys.dead(partition), after, newest, count=_CHUNK):
            for place, fields in entries:
                yield DeadLetter(partition, place, fields)
            if place == newest:
                break
            after = b"(" + place

    async def get(self, id_: str) -> DeadLetter:
        """The dead letter of an id.

        Raises:
            NoSuchLetterError: no dead letter has it.
        """
        match = _ID.fullmatch(id_)
        if match is None:
            raise NoSuchLetterError(f"{id_!r} is not the id of a dead letter, such as 0:1764086401234-0")
        partition, place = int(match[1]), match[2].encode()
        entries = await self._client.xrange(keys.dead(partition), place, place) if _fits(place) else []
        if not entries:
            raise NoSuchLetterError(f"there is no dead letter {id_}: replayed or dropped already?")
        return DeadLetter(partition, *entries[0])

    async def replay(self, letter: DeadLetter) -> bool:
        """Put a dead letter back on the stream, for writers to try again. False if it is gone.

        Its record gets the oldest version. So a worker of the former release stores it too.
        """
        streams = [keys.dead(letter.partition), keys.clicks(letter.partition)]
        record = in_oldest(letter.fields.get(b"r", b""))
        return bool(await self._replay(streams, [*_arguments(letter), record]))

    async def drop(self, letter: DeadLetter) -> bool:
        """Delete a dead letter for good. False if it is gone."""
        return bool(await self._drop([keys.dead(letter.partition)], _arguments(letter)))


def _fits(place: bytes) -> bool:
    return all(int(number) < 1 << 64 for number in place.split(b"-"))


def _arguments(letter: DeadLetter) -> list[Any]:
    return [
        *ledger_scripts.first_arguments(letter.partition),
        letter.place,
        letter.minute,
    ]
