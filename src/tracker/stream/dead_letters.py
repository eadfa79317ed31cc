"""Entries that could not be stored: on dead:{p}, with the reason, until they are replayed or dropped."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

from tracker.errors import UserError
from tracker.settings import MAX_PARTITIONS
from tracker.stream import keys, ledger_scripts
from tracker.stream.client import StreamClient
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
        super().__init__(url, socket_timeout=_PATIENCE_SECONDS)
        self._replay = self._client.register_script(ledger_scripts.script("replay.lua"))
        self._drop = self._client.register_script(ledger_scripts.script("drop.lua"))

    async def count(self) -> int:
        """How many there are."""
        lengths = await self.each(range(MAX_PARTITIONS), lambda pipe, number: pipe.xlen(keys.dead(number)))
        return sum(int(length) for (length,) in lengths)

    async def all(self) -> AsyncIterator[DeadLetter]:
        """All dead letters of this moment, by partition, oldest first. Later ones are left out."""
        for partition in range(MAX_PARTITIONS):
            if newest := await self.of(partition).xrevrange(keys.dead(partition), count=1):
                async for letter in self._upto(partition, newest[0][0]):
                    yield letter

    async def _upto(self, partition: int, newest: bytes) -> AsyncIterator[DeadLetter]:
        after, dead = b"-", keys.dead(partition)
        while entries := await self.of(partition).xrange(dead, after, newest, count=_CHUNK):
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
        entries = []
        if partition < MAX_PARTITIONS and _fits(place):
            entries = await self.of(partition).xrange(keys.dead(partition), place, place)
        if not entries:
            raise NoSuchLetterError(f"there is no dead letter {id_}: replayed or dropped already?")
        return DeadLetter(partition, *entries[0])

    async def replay(self, letter: DeadLetter) -> bool:
        """Put a dead letter back on the stream, for writers to try again. False if it is gone.

        Its record gets the oldest version. So a worker of the former release stores it too.
        """
        streams = [keys.dead(letter.partition), keys.clicks(letter.partition)]
        record = in_oldest(letter.fields.get(b"r", b""))
        client = self.of(letter.partition)
        return bool(await self._replay(streams, [*_arguments(letter), record], client=client))

    async def drop(self, letter: DeadLetter) -> bool:
        """Delete a dead letter for good. False if it is gone."""
        client = self.of(letter.partition)
        return bool(await self._drop([keys.dead(letter.partition)], _arguments(letter), client=client))


def _fits(place: bytes) -> bool:
    return all(int(number) < 1 << 64 for number in place.split(b"-"))


def _arguments(letter: DeadLetter) -> list[Any]:
    return [
        *ledger_scripts.first_arguments(letter.partition),
        letter.place,
        letter.minute,
    ]
