"""Rows of the catalogue that edges cannot use, or that do not do what they should."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from tracker.edge.catalogue.catalogue import Catalogue
from tracker.ops.doctor.finding import Finding, cannot_read
from tracker.ops.doctor.servers import StreamResult
from tracker.ops.upgrade import checks as upgrade
from tracker.ops.upgrade.concern import Concern
from tracker.settings import Settings
from tracker.store import db, feeds
from tracker.store.catalogue import read as stored_catalogue
from tracker.store.conversions import goal_prices
from tracker.store.conversions.goal_prices import FineAmount, Unpriced
from tracker.store.db import Connection

_MOST_GOALS_NAMED = 5
_MOST_ROWS_NAMED = 5
_AGE = """
SELECT pg_postmaster_start_time(), date_trunc('hour', now()), oid
FROM pg_database WHERE datname = current_database()
"""


class _Rows(NamedTuple):
    """What is found in the rows of a catalogue."""

    unusable: Sequence[Finding]
    strange: Sequence[Finding]


_found: Final[dict[tuple[object, ...], _Rows]] = {}  # of the last version that was read


async def check(settings: Settings, _: StreamResult) -> list[Finding]:
    """The rows that edges leave out of the catalogue, goals without a price, and odd rows."""
    assert settings.postgres_dsn
    try:
        connection = await db.connect(settings.postgres_dsn)
        try:
            rows = await _rows(connection)
            unpriced = await goal_prices.without_price(connection)
            fine = await goal_prices.finer_than_units(connection)
        finally:
            await connection.close()
    except (*db.UNREACHABLE, db.REFUSED) as error:
        return [cannot_read("catalogue", error, "run `tracker migrate`")]
    return [*rows.unusable, *_prices(unpriced, fine), *rows.strange]


async def _rows(connection: Connection) -> _Rows:
    """What is found in the rows. They are read once for each version of the catalogue, because all are read.

    The start of the server is a part of the version: a crash can take the numbers back. So is the hour:
    terms end by themselves.
    """
    reach = await feeds.reach(connection, feeds.CATALOGUE)
    version = (*await connection.fetchrow(_AGE), reach.upto)
    if version not in _found:
        rows = await _read(connection)
        _found.clear()
        _found[version] = rows
    return _found[version]


async def _read(connection: Connection) -> _Rows:
    catalogue = Catalogue()
    secret = await stored_catalogue.visitor_secret(connection)
    await catalogue.load(secret, stored_catalogue.read_all(connection))
    concerns = await upgrade.concerns(connection, *upgrade.OF_CATALOGUE)
    advice = "correct the row: edges apply it within a second"
    findings = [
        Finding("catalogue", "fail", f"{table} {key}: {why}", advice)
        for (table, key), whys in catalogue.problems.items()
        for why in whys
    ]
    sound = f"{len(catalogue.offers)} offers, {len(catalogue.affiliates)} affiliates"
    return _Rows(findings or [Finding("catalogue", "ok", sound)], _strange(concerns))


def _strange(concerns: Mapping[str, Sequence[Concern]]) -> list[Finding]:
    """Rows that edges accept, but that do not do what they should."""
    rows = [concern for of_check in concerns.values() for concern in of_check]
    findings = [
        Finding("catalogue", "warn", f"{concern.where}: {concern.text}")
        for concern in rows[:_MOST_ROWS_NAMED]
    ]
    if rows:
        text = f"rows of the catalogue that do not do what they should: {len(rows)}"
        findings.append(Finding("catalogue", "warn", text, "see tracker doctor --upgrade"))
    return findings


def _prices(unpriced: Sequence[Unpriced], fine: Sequence[FineAmount]) -> list[Finding]:
    """Goals without a price, and amounts that are too fine for their currency."""
    findings = [_unpriced(goal) for goal in unpriced[:_MOST_GOALS_NAMED]]
    if len(unpriced) > _MOST_GOALS_NAMED:
        more = len(unpriced) - _MOST_GOALS_NAMED
        findings.append(Finding("catalogue", "warn", f"and {more} more goals without a price"))
    advice = "set an amount that its currency has: booked amounts stay"
    return findings + [_fine(amount, advice) for amount in fine[:_MOST_GOALS_NAMED]]


def _fine(fine: FineAmount, advice: str) -> Finding:
    of_terms = f"terms {fine.terms_id} of " if fine.terms_id else ""
    text = f"{of_terms}goal {fine.goal_id}: {fine.side} {fine.text}"
    return Finding("catalogue", "warn", text, advice)


def _unpriced(goal: Unpriced) -> Finding:
    text = (
        f"goal {goal.goal_id} ({goal.goal_name}) of offer {goal.offer_id} ({goal.offer_name}) has no price: "
        f"{goal.on_hold} conversions wait for it"
    )
    command = f"tracker goals set {goal.offer_id} {goal.goal_id} payout=…"
    advice = f"set one (0 is a price) and then approve them: {command}"
    return Finding("catalogue", "warn", text, advice)
