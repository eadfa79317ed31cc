"""Imports the made-up history: its catalogue, its clicks, then its conversions."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, NamedTuple

import orjson

from tracker.domain.csv_rows import Columns
from tracker.domain.normalise import amount
from tracker.errors import UserError
from tracker.importing import catalogue, entries
from tracker.importing import run as importing
from tracker.importing.clicks import ClickReader
from tracker.importing.conversions import ConversionReader
from tracker.importing.demo.traffic import SOURCE, Goal, Network, Offer, Row, Span, Url, events
from tracker.importing.files import RowFile
from tracker.importing.progress import Progress
from tracker.importing.run import Job, Store
from tracker.store.catalogue import edit
from tracker.store.conversions import status_words
from tracker.store.db import Connection
from tracker.store.imports import progress as imports
from tracker.store.imports.clicks import ClickStore
from tracker.store.imports.conversions import ConversionStore
from tracker.store.imports.progress import Run

CATALOGUE = Path(__file__).with_name("network.yaml")
_EXTERNAL_ID = "demo-"
_PROGRESS_ROWS = 1_000
_TIME = "%Y%m%dT%H%M%SZ"
_TAKE_BACK = f"`tracker import undo --source {SOURCE} --reverse-booked` takes it back"


class Wanted(NamedTuple):
    """What is wanted of a run."""

    span: Span
    keeps_until: bool  # the end of a history that is there already replaces that of `span`
    into_existing: bool  # the tracker may have other clicks
    data_dir: Path  # for the files of the history until they are imported
    defaults: Mapping[str, str]  # of new objects, as in catalogue.resource.Editor


class Filled(NamedTuple):
    """What a run stored, and what was there already."""

    span: Span
    clicks: Run
    conversions: Run


async def fill(connection: Connection, wanted: Wanted) -> Filled:
    """Import the network and its history. A killed run goes on, and a finished one stores nothing again.

    Raises:
        UserError: the tracker has clicks of its own, or another history, or objects of the same names.
            Nothing is stored.
    """
    span = await _begun(connection, wanted)
    if span is None:
        if not wanted.into_existing and await imports.has_other_clicks(connection, SOURCE):
            raise UserError(
                "this tracker has clicks of its own: nothing is stored. --into-existing adds the demo to them"
            )
        span = wanted.span
        await _bring(connection, wanted.defaults)
    network = await _network(connection)
    wanted.data_dir.mkdir(parents=True, exist_ok=True)
    # Without names, so that they vanish with the process.
    with (
        TemporaryFile(dir=wanted.data_dir) as of_clicks,
        TemporaryFile(dir=wanted.data_dir) as of_conversions,
    ):
        await asyncio.to_thread(_write, network, span, of_clicks, of_conversions)
        return Filled(
            span,
            await _import(connection, await _clicks(connection, span, of_clicks)),
            await _import(connection, await _conversions(connection, span, of_conversions)),
        )


async def _import(connection: Connection, job: Job) -> Run:
    outcome = await importing.run(connection, job)
    if not outcome.is_proven:
        raise UserError(f"{job.file.path}: the table has other rows than the demo. {_TAKE_BACK}")
    return outcome.run


async def _clicks(connection: Connection, span: Span, content: IO[bytes]) -> Job:
    reader = ClickReader.of(SOURCE, UTC, await imports.known(connection))
    return _job("clicks", span, content, reader, ClickStore(connection, SOURCE))


async def _conversions(connection: Connection, span: Span, content: IO[bytes]) -> Job:
    reader = ConversionReader.of(SOURCE, UTC, await status_words.every(connection))
    return _job("conversions", span, content, reader, ConversionStore(connection, SOURCE))


def _job(
    kind: str, span: Span, content: IO[bytes], reader: ClickReader | ConversionReader, store: Store
) -> Job:
    file = RowFile(Path(_name(kind, span)), Columns(reader.readers), content)
    return Job(kind, SOURCE, file, "demo", reader, store, bad_rows=None, is_dry=False)


def _name(kind: str, span: Span) -> str:
    """The name under which a file of the history is noted. It says which history it is."""
    return f"demo-{kind}-{span.days}d-{span.clicks}-seed{span.seed}-{span.until.astimezone(UTC):{_TIME}}"


async def _begun(connection: Connection, wanted: Wanted) -> Span | None:
    """The history that an earlier run has begun. None: no run has begun one.

    Raises:
        UserError: it is another one than is wanted.
    """
    names = await imports.files_of(connection, SOURCE, "clicks")
    if not names:
        return None
    span = wanted.span
    if wanted.keeps_until:
        until = datetime.strptime(names[0].rpartition("-")[2], _TIME).replace(tzinfo=UTC)
        span = span._replace(until=until)
    if _name("clicks", span) not in names:
        raise UserError(f"this tracker has another demo history, {names[0]}: nothing is stored. {_TAKE_BACK}")
    return span


async def _bring(connection: Connection, defaults: Mapping[str, str]) -> None:
    kinds = entries.Kinds(catalogue.RESOURCES)
    wanted = list(entries.read(CATALOGUE, kinds))
    for is_dry in (True, False):
        done = await catalogue.bring(
            connection, wanted, is_dry=is_dry, confirmed=frozenset(), defaults=defaults
        )
        if done.errors:
            raise UserError(f"the demo's catalogue cannot be stored: {done.errors[0]}")
        # A new offer brings a base goal with it, which the file then changes.
        own = [each.path for each in done.changes if not each.is_new and "/goals/" not in each.path]
        if own:
            raise UserError(
                f"the demo would change {', '.join(own)}, because they have names of its objects: rename "
                "them. Nothing is stored"
            )


async def _network(connection: Connection) -> Network:
    """The objects that the catalogue's file made, as they are now."""
    kinds = entries.Kinds(catalogue.RESOURCES).top

    async def of(kind: str) -> list[Row]:
        return await edit.every(connection, kinds[kind].table)

    urls, goals = await of("offer_urls"), await of("offer_goals")
    offers = {
        name: Offer(
            id_,
            tuple(Url(url["id"], url["url"], url["weight"]) for url in urls if url["offer_id"] == id_),
            {goal["name"]: _goal(goal) for goal in goals if goal["offer_id"] == id_},
        )
        for name, id_ in _by_external_id(await of("offers")).items()
    }
    return Network(offers, _by_external_id(await of("affiliates")))


def _by_external_id(rows: list[Row]) -> dict[str, int]:
    return {
        row["external_id"]: row["id"]
        for row in rows
        if (row["external_id"] or "").startswith(_EXTERNAL_ID) and not row["is_archived"]
    }


def _goal(row: Row) -> Goal:
    return Goal(
        id=row["id"],
        name=row["name"],
        is_percent=row["payout_type"] == "percent",
        payout=amount(row["payout"]),
        revenue=amount(row["revenue"]),
        currency=row["currency"],
    )


def _write(network: Network, span: Span, clicks: IO[bytes], conversions: IO[bytes]) -> None:
    """Write the history as files of rows, without keeping it in memory."""
    written = 0
    progress = Progress(f"demo of {span.days} days", "made up", lambda: written / span.clicks)
    for written, event in enumerate(events(network, span), 1):
        clicks.write(orjson.dumps(event.click, option=orjson.OPT_APPEND_NEWLINE))
        for row in event.conversions:
            conversions.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
        if not written % _PROGRESS_ROWS:
            progress.add(_PROGRESS_ROWS)
    progress.end()
    clicks.flush()
    conversions.flush()
