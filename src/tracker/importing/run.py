"""Imports files of rows: each file is checked as a whole, stored in batches, and compared with the table.

A batch and the progress of the file are committed together, so a killed import continues where it stopped. A
row always has the same hash, so a repeated row is recognised. The proof covers every row of the file: the
table is queried for each of them after its batch is committed.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from datetime import date
from hashlib import file_digest, sha256
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import orjson

from tracker.errors import UserError, tell
from tracker.importing.files import Line, RowFile
from tracker.importing.progress import Progress
from tracker.importing.values import RowError
from tracker.importing.wrong_rows import WrongRows
from tracker.store.db import Connection
from tracker.store.imports import progress as imports
from tracker.store.imports.progress import Batch, Comparison, Run, Sums, added

BATCH = 5_000
"""Rows of one transaction: other writers of the same quarter-hours wait for it."""
BATCH_BYTES = 32 << 20
"""Bytes of one batch, except for a single large row. Two batches are in memory."""

_MOST_DIFFERENCES = 20


class Reader(Protocol):
    """Reads the rows of one kind."""

    def read(self, fields: Mapping[str, Any], /) -> Any: ...


class Store(Protocol):
    """Stores them."""

    async def prepare(self, items: Sequence[Any], /) -> None: ...
    async def store(self, items: Sequence[Any], /) -> Batch: ...
    async def begin_check(self) -> None: ...
    async def check(self, items: Sequence[Any], /) -> dict[int, str]: ...
    async def compare(self, items: Sequence[Any], /) -> Comparison: ...


class Job(NamedTuple):
    """A file, and how it is imported."""

    kind: str
    source: str
    file: RowFile
    reading: str  # everything besides the file that the reading depends on
    reader: Reader
    store: Store
    bad_rows: Path | None  # the file for bad rows. None: the first bad row ends the import
    is_dry: bool
    replaces: bool = False  # rows that imports of the source stored


class Outcome(NamedTuple):
    """The result of a file."""

    run: Run
    expected: Sums
    found: Sums
    differing: Counter[str]  # rows that are there with other values, by field
    rows_differing: int
    rows_staying: int  # of them, those that an import that replaces leaves as they are

    @property
    def is_proven(self) -> bool:
        return self.expected == self.found

    @property
    def days_that_differ(self) -> list[date]:
        days = self.expected.keys() | self.found.keys()
        return sorted(day for day in days if self.expected.get(day) != self.found.get(day))


class _Rows(NamedTuple):
    """Some consecutive lines of a file."""

    number: int  # the number of lines, bad ones included
    lines: list[Line]  # the valid lines
    items: list[Any]  # the rows of these lines
    bad: list[tuple[Line, str]]


async def run(connection: Connection, job: Job) -> Outcome:
    """Import a file.

    Raises:
        UserError: rows are bad and named. If the file was checked first, no row was stored.
    """
    digest = await asyncio.to_thread(_digest, job)
    so_far = await imports.run_of(connection, digest)
    wrong = 0
    if job.is_dry or (so_far is None and job.bad_rows is None):
        wrong = await _check(job)
    if not job.is_dry:
        await imports.start(connection, digest, job.kind, job.source, job.file.path.name)
    outcome = await _store_and_compare(connection, job, digest, so_far.rows if so_far else 0)
    if job.is_dry:
        outcome = outcome._replace(run=outcome.run._replace(refused=wrong))
    # Another file may replace the rows of this one. Then this file is another change, not a known one.
    # Rows that were refused are tried again by the next import: their offer may be there then.
    if not job.is_dry and (job.replaces or outcome.run.refused or not outcome.is_proven):
        await imports.forget(connection, digest)
    return outcome


def _digest(job: Job) -> bytes:
    with job.file.open() as file:
        content = file_digest(file, "sha256").digest()
    how = f"{job.reading} replacing" if job.replaces else job.reading
    return sha256(content + f"{job.kind}\0{job.source}\0{how}".encode()).digest()


async def _check(job: Job) -> int:
    """Check that all rows can be read and stored. Bad rows are named before anything is stored.

    Returns how many would be put aside.
    """
    all_wrong = WrongRows(job.file.path.name)
    await job.store.begin_check()
    async for rows in _batches(job, "checked"):
        refused = [(rows.lines[place], why) for place, why in (await job.store.check(rows.items)).items()]
        wrong = sorted([*rows.bad, *refused], key=lambda each: each[0].number)
        all_wrong.add(wrong)
    if all_wrong.number and job.bad_rows is None:
        _refuse(all_wrong, job, "Nothing is stored")
    all_wrong.end()
    return all_wrong.number


async def _store_and_compare(connection: Connection, job: Job, digest: bytes, done: int) -> Outcome:
    """Store the rows that are not `done` yet, and look for every row in the table."""
    expected: Sums = {}
    found: Sums = {}
    differing: Counter[str] = Counter()
    number = rows_differing = rows_staying = 0
    async for rows in _batches(job, "compared" if job.is_dry else "stored"):
        number += rows.number
        if number > done and not job.is_dry:
            await _store(connection, job, digest, rows)
        compared = await job.store.compare(rows.items)
        expected, found = added(expected, compared.expected), added(found, compared.found)
        differing.update(chain.from_iterable(compared.differing.values()))
        others = [
            (rows.lines[place], _otherwise(names, compared.stay.get(place)))
            for place, names in compared.differing.items()
        ]
        _name(job, others[: max(_MOST_DIFFERENCES - rows_differing, 0)])
        rows_differing += len(others)
        rows_staying += len(compared.stay)
    run = await imports.run_of(connection, digest) if not job.is_dry else None
    run = run or Run(number, 0, 0, 0, 0)
    return Outcome(run, expected, found, differing, rows_differing, rows_staying)


def _otherwise(names: Sequence[str], why_it_stays: str | None) -> str:
    there = f"is there with another {', '.join(names)}"
    return f"{there}. It stays, because {why_it_stays}" if why_it_stays else there


async def _store(connection: Connection, job: Job, digest: bytes, rows: _Rows) -> None:
    await job.store.prepare(rows.items)
    async with connection.transaction():
        batch = await job.store.store(rows.items)
        refused = [(rows.lines[place], why) for place, why in batch.refused.items()]
        _put_aside(job, [*rows.bad, *refused])
        await imports.go_on(connection, digest, batch, len(rows.bad))


def _put_aside(job: Job, bad: Sequence[tuple[Line, str]]) -> None:
    if not bad:
        return
    if job.bad_rows is None:
        wrong = WrongRows(job.file.path.name)
        wrong.add(bad)
        _refuse(wrong, job, "Earlier rows stay stored")
    assert job.bad_rows
    with open(job.bad_rows, "ab", opener=_private) as file:
        file.writelines(_as_json({"line": line.number, "why": why, "row": line.fields}) for line, why in bad)


def _private(path: str, flags: int) -> int:
    """Opens a file that only we may read if it is new."""
    return os.open(path, flags, 0o600)


def _as_json(row: Mapping[str, Any]) -> bytes:
    """A line of NDJSON, also for a row that is bad because it is not UTF-8 or nested too deeply."""
    try:
        return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)
    except orjson.JSONEncodeError:
        return (
            json.dumps({**row, "row": {name: _shown(text) for name, text in row["row"].items()}}).encode()
            + b"\n"
        )


def _shown(value: Any) -> Any:
    return value if isinstance(value, str) else None


def _refuse(wrong: WrongRows, job: Job, state: str) -> None:
    wrong.end()
    are = "1 row is" if wrong.number == 1 else f"{wrong.number:,} rows are"
    raise UserError(f"{job.file.path.name}: {are} wrong. {state}")


def _name(job: Job, wrong: Iterable[tuple[Line, str]]) -> None:
    for line, why in wrong:
        tell(f"{job.file.path.name}:{line.number}: {why}")


async def _batches(job: Job, done: str) -> AsyncIterator[_Rows]:
    """The rows of a file. A thread reads the next rows while some are stored."""
    lines = job.file.lines()
    progress = Progress(job.file.path.name, done, lambda: job.file.part_read)
    ahead = asyncio.create_task(asyncio.to_thread(_read, job, lines))
    try:
        while (rows := await ahead).number:
            ahead = asyncio.create_task(asyncio.to_thread(_read, job, lines))
            yield rows
            progress.add(rows.number)
    finally:
        await asyncio.wait([ahead])
        progress.end()


def _read(job: Job, lines: Iterator[Line]) -> _Rows:
    taken: list[Line] = []
    before = job.file.taken
    while len(taken) < BATCH and job.file.taken - before < BATCH_BYTES and (line := next(lines, None)):
        taken.append(line)
    rows = _Rows(len(taken), [], [], [])
    for line in taken:
        if line.error:
            rows.bad.append((line, line.error))
            continue
        try:
            rows.items.append(job.reader.read(line.fields))
            rows.lines.append(line)
        except RowError as error:
            rows.bad.append((line, error.about(line.fields, job.file.theirs)))
        except ValueError as error:
            rows.bad.append((line, str(error)))
    return rows
