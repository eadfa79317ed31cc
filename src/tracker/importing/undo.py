"""Takes back what the imports of a source stored, in batches. A killed undo is run again and goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

from tracker.domain.money import show
from tracker.errors import UserError
from tracker.importing.progress import Progress
from tracker.store.catalogue.edit import Author
from tracker.store.db import Connection
from tracker.store.imports import undo
from tracker.store.imports.undo import Booked, Holder, Kind, Plan


class Undo(NamedTuple):
    """What is taken back, and how."""

    source: str
    kind: Kind
    author: Author
    reverses: bool  # booked conversions, too
    is_dry: bool
    agrees: Callable[[Outcome], bool] = lambda _: True  # asked with what would be taken back


class Outcome(NamedTuple):
    """The result of an undo."""

    plan: Plan
    legacy_ids: int  # earlier ids that were deleted. 0 in a dry run
    holders: list[Holder]  # some conversions that keep clicks


async def run(connection: Connection, wanted: Undo) -> Outcome:
    """Take back what imports stored, or only say what would be taken back.

    Raises:
        UserError: nothing of the source was imported, or conversions are booked and the undo does not reverse
            them, or nobody agrees to it. Nothing is changed.
    """
    source, kind = wanted.source, wanted.kind
    async with _kept_if(connection, is_dry=wanted.is_dry):
        await undo.recognise(connection, source)
        planned = await undo.plan(connection, source, kind)
        holders = await undo.holders(connection, source, kind)
    await _see_that_it_is_known(connection, source, planned)
    if planned.reversed and not wanted.reverses and not wanted.is_dry:
        raise UserError(
            f"{planned.reversed:,} conversions are booked ({in_words(planned.booked)}). Nothing is taken "
            "back. --reverse-booked rejects them, and books their reversals"
        )
    would_be = Outcome(planned, 0, holders)
    if wanted.is_dry:
        return would_be
    if not wanted.agrees(would_be):
        raise UserError("nothing is taken back. --yes takes it back without asking")
    await undo.begin(connection, wanted.author, source, kind, planned)
    deleted = reversed_ = 0
    if Kind.CONVERSIONS in kind.parts:
        deleted, reversed_ = await _conversions(connection, wanted, planned)
    clicks, legacy_ids = await _clicks(connection, source, planned) if Kind.CLICKS in kind.parts else (0, 0)
    done = planned._replace(clicks=clicks, conversions=deleted, reversed=reversed_)
    return Outcome(done, legacy_ids, holders)


async def _see_that_it_is_known(connection: Connection, source: str, planned: Plan) -> None:
    """Reject a source of which nothing is there, and no file was imported: its name may be mistyped."""
    is_there = any(planned._replace(unmarked=0))
    known = [] if is_there else await undo.sources(connection)
    if not is_there and source not in known:
        names = f". Files were imported of {', '.join(map(repr, known))}" if known else ""
        raise UserError(f"--source: no import of {source!r} has stored anything{names}")


def in_words(booked: Sequence[Booked]) -> str:
    """Booked amounts, as people read them."""
    return ", ".join(
        f"{show(each.payout)} {each.currency} payout and {show(each.revenue)} {each.currency} revenue"
        for each in booked
    )


@asynccontextmanager
async def _kept_if(connection: Connection, *, is_dry: bool) -> AsyncIterator[None]:
    """In a dry run a transaction that is rolled back."""
    if not is_dry:
        yield
        return
    transaction = connection.transaction()
    await transaction.start()
    try:
        yield
    finally:
        await transaction.rollback()


async def _conversions(connection: Connection, wanted: Undo, planned: Plan) -> tuple[int, int]:
    """Returns how many were deleted, and how many were reversed."""
    all_ = planned.conversions + planned.reversed + planned.reversed_before + planned.changed
    progress = Progress(wanted.source, "of conversions taken back", lambda: progress.number / (all_ or 1))
    last = deleted = reversed_ = 0
    while True:
        batch = await undo.take_back_conversions(connection, wanted.author, wanted.source, last)
        if not batch.seen:
            break
        last, deleted, reversed_ = batch.last, deleted + batch.deleted, reversed_ + batch.reversed
        progress.add(batch.seen)
    progress.end()
    return deleted, reversed_


async def _clicks(connection: Connection, source: str, planned: Plan) -> tuple[int, int]:
    """Returns how many clicks and how many earlier ids were deleted."""
    all_ = planned.clicks + planned.clicks_kept
    progress = Progress(source, "of clicks taken back", lambda: progress.number / (all_ or 1))
    last, deleted, legacy_ids = undo.BEFORE_ALL, 0, 0
    while True:
        batch = await undo.take_back_clicks(connection, source, last)
        if not batch.seen:
            break
        last, deleted, legacy_ids = batch.last, deleted + batch.deleted, legacy_ids + batch.legacy_ids
        progress.add(batch.seen)
    progress.end()
    return deleted, legacy_ids
