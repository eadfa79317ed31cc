"""The versions of records: each worker says which it reads, and each edge which it writes.

A worker's word stands in the lock of its slot. So it counts while the worker lives. It ends with the lock, by
the server's clock. The next holder of the slot replaces it, even one of another release. Release 0.2.0 has no
word: its lock is a token alone, and it reads version 1.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from importlib.resources import files
from typing import NamedTuple, Self

from redis.exceptions import OutOfMemoryError

from tracker.stream import keys, postbacks, record
from tracker.stream.client import StreamClient

GONE_MILLIS = 10_000
"""A worker that has lost its slot counts for so long after it last read, with the versions of release 0.2.0.

It may live: a process that was stopped for seconds loses its slot, and goes on reading."""
EDGE_SECONDS = 5.0
"""How long an edge's word lasts. It repeats it each second."""

_CLICKS, _POSTBACKS, _PROCESS, _RIVAL = "clicks=", "postbacks=", "process=", "rival="
_WITHOUT_WORD = (1,)  # the versions of workers and edges of release 0.2.0


class Word(NamedTuple):
    """Versions of records by their kind."""

    clicks: Sequence[int]
    postbacks: Sequence[int]
    process: str = ""
    """Of an edge: random, of the process that says it. Two edges with one run id differ in it."""
    rival: str = ""
    """Another process that was heard to say the same edge's word."""

    @classmethod
    def read(cls, text: str) -> Self:
        """A word. Kinds that are missing or cannot be read have the version of release 0.2.0."""
        versions = _versions(text, _CLICKS), _versions(text, _POSTBACKS)
        return cls(*versions, _part(text, _PROCESS) or "", _part(text, _RIVAL) or "")

    def __str__(self) -> str:
        clicks, of_postbacks = (",".join(map(str, versions)) for versions in self[:2])
        texts = (
            (_CLICKS, clicks),
            (_POSTBACKS, of_postbacks),
            (_PROCESS, self.process),
            (_RIVAL, self.rival),
        )
        return " ".join(f"{name}{text}" for name, text in texts if text)


WORD = Word(record.VERSIONS, postbacks.VERSIONS)
"""The word of this release's workers."""


class Worker(NamedTuple):
    """A live worker on one partition."""

    partition: int
    slot: str
    word: Word
    holds_slot: bool = True


def writable(workers: Iterable[Worker], partitions: int) -> int:
    """The newest version of clicks that every live worker reads.

    While a partition has no worker it is the oldest. The next worker may be of this release or of the former
    one, and both read it. So a worker that goes back to the former release finds few clicks that it cannot
    read, and none if the edges had a second to see that the last worker ended.
    """
    common = set(record.VERSIONS)
    served = set[int]()
    for worker in workers:
        common &= set(worker.word.clicks)
        served.add(worker.partition)
    return max(common, default=record.OLDEST) if len(served) == partitions else record.OLDEST


class Formats(StreamClient):
    """Reads and says words. Its methods raise UNREACHABLE of tracker.stream.reader."""

    def __init__(self, url: str, partitions: int) -> None:
        super().__init__(url)
        self._partitions = partitions
        self._writers = self._client.register_script((files(__package__) / "lua" / "writers.lua").read_text())

    async def workers(self) -> list[Worker]:
        """The live workers of all partitions."""
        workers: list[Worker] = []
        for partition in range(self._partitions):
            arguments = [keys.GROUP, keys.CONSUMER, keys.writer_prefix(partition)]
            client = self.of(partition)
            found = await self._writers([keys.clicks(partition)], arguments, client=client)
            for consumer, idle, holder in found:
                if holder or idle < GONE_MILLIS:
                    slot, word = consumer.removeprefix(keys.CONSUMER), Word.read(holder.decode())
                    workers.append(Worker(partition, slot.decode(), word, holds_slot=bool(holder)))
        return workers

    async def say(self, edge: str, version: int, process: str, rival: str = "") -> str:
        """Say that an edge writes clicks of a version, and of lower ones. A full server does not take it.

        Returns the process that said the edge's last word. "" if none has for EDGE_SECONDS.
        """
        word = str(WORD._replace(clicks=(version,), process=process, rival=rival))
        try:
            last = await self._client.set(keys.formats(edge), word, px=int(EDGE_SECONDS * 1000), get=True)
        except OutOfMemoryError:
            return ""
        return Word.read(last.decode()).process if last else ""

    async def edges(self, edges: Collection[str]) -> dict[str, Word | None]:
        """The words of edges. None for an edge without a word."""
        if not edges:
            return {}
        words = await self._client.mget([keys.formats(edge) for edge in edges])
        return {
            edge: Word.read(word.decode()) if word else None for edge, word in zip(edges, words, strict=True)
        }


def _versions(text: str, kind: str) -> tuple[int, ...]:
    if (numbers := _part(text, kind)) is None:
        return _WITHOUT_WORD
    return tuple(int(number) for number in numbers.split(",") if number.isdecimal())


def _part(text: str, name: str) -> str | None:
    """The text behind a name. None if the word does not have it."""
    return next((part.removeprefix(name) for part in text.split() if part.startswith(name)), None)
