"""What postbacks do to the tables: conversions, their history, and their money. Each postback is done once.

One transaction at a time changes conversions: so ids are in the order of commits, and two postbacks of one
order never miss each other.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, NamedTuple

import orjson

from tracker.clickhash import millis_of
from tracker.conversion import (
    ADV_SUBS,
    BROWSERS_SALE,
    FUTURE_MILLIS,
    NO_PRICE,
    STATUSES,
    Amounts,
    ConversionStatus,
    ConvertedClick,
    Goal,
    Named,
    Postback,
    Price,
    Refusal,
    Source,
    StatusWords,
    Trust,
    amounts,
    counting,
    goals_named,
    meaning,
    next_status,
    refunded,
    refusal,
    refusal_of_new,
    settled,
    told_faults,
    unreadable,
    unreadable_refund,
)
from tracker.money import show
from tracker.store import booking, goal_prices, postback_log, status_words
from tracker.store.conversion_caps import CapBook
from tracker.store.pool import BACKUP_GATE, Connection
from tracker.store.postback_line import NEW, Line, Queued

LOCK = 0x7C1C_0006
"""Advisory lock of the transaction that changes conversions, or closes their periods."""

WRITER = 0x7C1C_0007
"""Advisory lock of the worker that takes postbacks off the stream."""

HOLDER_IDLES = "60s"
"""How long who changes conversions may say nothing: one that is frozen must not keep the others from it."""

_FROM_CLICK = ConvertedClick._fields[3:]  # after hash, id and status
_OWN = ("advertiser_external_id", *ADV_SUBS)
_COLUMNS = (
    *("hash", "click_hash", "click_id", "goal_id", "order_id", "order_absent", "is_repeatable", "status"),
    *("is_over_cap", "told_by_browser", "is_unpriced", "sale_status", "created_at", "updated_at"),
    *Amounts._fields,
    *_OWN,
    *_FROM_CLICK,
)
_AMENDED = (
    *("order_id", "status", "is_over_cap", "told_by_browser", "is_unpriced", "sale_status"),
    *Amounts._fields,
    *_OWN,
)

_LOCK_IT = """
SELECT set_config('idle_in_transaction_session_timeout', $2, true), pg_advisory_xact_lock($1)
"""
# One writer, however many run; one that is frozen must not keep the others from it for long.
_SESSION = """
SET default_transaction_isolation = 'read committed';
SET idle_in_transaction_session_timeout = '60s';
SET idle_session_timeout = '60s';
SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'
"""
_KNOWN = "SELECT arrival, hash, result, reason, conversion_id FROM postback WHERE hash = ANY ($1::uuid[])"
_LEGACY = "SELECT legacy_id, hash FROM legacy_click WHERE legacy_id = ANY ($1)"
_CLICKS = f"""
SELECT encode(uuid_send(hash), 'hex') AS hash, id, status, {", ".join(_FROM_CLICK)}
FROM click WHERE hash = ANY ($1::uuid[])
"""  # noqa: S608
_GOALS = f"""
SELECT {", ".join("status = 'active'" if name == "is_active" else name for name in Goal._fields)}, is_base
FROM goal WHERE id = ANY ($1) OR offer_id = ANY ($2)
"""  # noqa: S608
# Read before all else: what is added afterwards has a higher version, and held postbacks are tried with it.
_VERSION = """
SELECT greatest((SELECT max(version) FROM goal), (SELECT max(version) FROM status_word), 0)
"""
_TRUST = """
SELECT id, postback_check = 'required', postback_addresses FROM advertiser WHERE id = ANY ($1)
"""

_EXISTING = ("id", "click_hash", "created_at", "refunded", *_AMENDED)
# By its order id, as it was written or in its normal form; else as the one conversion of click and goal, or
# as the one whose order id was absent. What was written for an absent one ($6) means only this click's.
_FOUND = f"""
SELECT {", ".join(_EXISTING)} FROM conversion
WHERE (advertiser_id, goal_id) = ($1, $2) AND order_id = ANY ($3::text[])
        AND (click_hash = $4 OR NOT $6::boolean)
    OR click_hash = $4 AND goal_id = $2 AND (NOT $5::boolean OR ($6::boolean AND order_absent))
ORDER BY array_position($3::text[], order_id), id LIMIT 1
"""  # noqa: S608
_ONE = f"SELECT {', '.join(_EXISTING)} FROM conversion WHERE id = $1"  # noqa: S608
_GIVE_UP_ORDER = "UPDATE conversion SET order_id = NULL, updated_at = clock_timestamp() WHERE id = $1"
_HAS_CONVERSION = """
SELECT EXISTS (SELECT FROM conversion WHERE click_hash = $1 AND goal_id = $2 AND status <> 'rejected')
"""

_CREATE = f"""
INSERT INTO conversion ({", ".join(_COLUMNS)})
VALUES ({", ".join(f"${n}" for n in range(1, len(_COLUMNS) + 1))}) RETURNING id
"""  # noqa: S608
_AMEND = f"""
UPDATE conversion SET ({", ".join(_AMENDED)}, updated_at)
    = ({", ".join(f"${n}" for n in range(2, len(_AMENDED) + 2))}, clock_timestamp())
WHERE id = $1
"""  # noqa: S608
_REFUND = """
UPDATE conversion
SET refunded = $2, status = $3, payout = $4, revenue = $5, updated_at = clock_timestamp()
WHERE id = $1
"""
_NOTE_REFUND = """
INSERT INTO conversion_refund (conversion_id, refund_id, amount, postback_hash) VALUES ($1, $2, $3, $4)
"""
_IS_REFUNDED = "SELECT EXISTS (SELECT FROM conversion_refund WHERE (conversion_id, refund_id) = ($1, $2))"
_LOG = """
INSERT INTO postback
    (hash, source, ip, advertiser_id, parameters, click, result, reason, conversion_id, held_at, click_hash,
     order_id)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
ON CONFLICT (hash) DO UPDATE
    SET (result, reason, conversion_id, held_at, click_hash)
        = (excluded.result, excluded.reason, excluded.conversion_id, excluded.held_at, excluded.click_hash)
    WHERE excluded.result <> 'parked'
"""

_TO_CHANGE = """
SELECT id, status, offer_id, affiliate_id, created_at, is_test FROM conversion WHERE id = ANY ($1) ORDER BY id
"""
_SETTLE = """
UPDATE conversion
SET payout = $2, payout_currency = $3, revenue = $4, revenue_currency = $5, is_unpriced = false
WHERE id = $1
"""
_CLICKS_OF = "SELECT DISTINCT click_hash FROM conversion WHERE id = ANY ($1)"
_SET_STATUS = """
UPDATE conversion AS known
SET status = $3, sale_status = coalesce(told.sale_status, known.sale_status), updated_at = clock_timestamp()
FROM unnest($1::bigint[], $2::text[]) AS told (id, sale_status)
WHERE known.id = told.id
    AND (known.status, known.sale_status) IS DISTINCT FROM ($3, coalesce(told.sale_status, known.sale_status))
"""
_NOTHING_SAID: Mapping[int, str] = {}


class Result(StrEnum):
    """What became of a postback."""

    STORED = "stored"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    PARKED = "parked"  # its click may come yet
    HELD = "held"  # what it needs may come yet: its goal, its status word, the approval of what it refunds
    REJECTED = "rejected"
    REFUSED = "refused"  # by an edge: nothing was done, and its sender knows


WAITS = "an earlier postback of its click or order waits"
"""Why a postback of a stored click is parked."""


class Taken(NamedTuple):
    """What became of a postback, and why, where it was not simply stored."""

    hash: str
    result: Result
    reason: str = ""
    conversion_id: int | None = None
    held_at: int | None = None  # the catalogue's version, if it is held


class Changed(NamedTuple):
    """A conversion whose status was set. Both are the same if that changed nothing."""

    id: int
    before: ConversionStatus
    after: ConversionStatus
    doubt: str = ""  # why it is not approved


class _Existing(NamedTuple):
    """The conversion that a postback speaks of."""

    id: int
    click_hash: str
    created_at: datetime
    refunded: Decimal
    order_id: str | None
    status: ConversionStatus
    is_over_cap: bool
    told_by_browser: bool  # and by nobody else
    is_unpriced: bool
    sale_status: str
    amounts: Amounts
    own: tuple[str, ...]  # advertiser_external_id, adv_sub …

    @property
    def is_decided(self) -> bool:
        return self.status in (ConversionStatus.APPROVED, ConversionStatus.REJECTED)

    @property
    def is_approved(self) -> bool:
        return self.status is ConversionStatus.APPROVED

    @classmethod
    def of(cls, row: Any) -> _Existing:
        id_, click_hash, created_at, refunded_, order_id, status, *rest = row
        flags, rest = rest[:4], rest[4:]
        money, own = Amounts._make(rest[: len(Amounts._fields)]), tuple(rest[len(Amounts._fields) :])
        facts = click_hash.hex, created_at, refunded_, order_id, ConversionStatus(status)
        return cls._make((id_, *facts, *flags, money, own))


async def lock(connection: Connection) -> None:
    """Be the one who changes conversions, until the end of this transaction."""
    await connection.execute(_LOCK_IT, LOCK, HOLDER_IDLES)


async def begin_writing(connection: Connection) -> bool:
    """Become the writer of postbacks, as long as this connection lasts; False while another is."""
    await connection.execute(_SESSION)
    return bool(await connection.fetchval("SELECT pg_try_advisory_lock($1)", WRITER))


@asynccontextmanager
async def no_backup(connection: Connection) -> AsyncIterator[None]:
    """What is done meanwhile a backup finds done as a whole, or not at all."""
    await connection.execute("SELECT pg_advisory_lock_shared($1)", BACKUP_GATE)
    try:
        yield
    finally:
        if not connection.is_closed():
            await connection.execute("SELECT pg_advisory_unlock_shared($1)", BACKUP_GATE)


async def take(
    connection: Connection, postbacks: Sequence[Postback], complete_until: int | None
) -> list[Taken]:
    """Do what postbacks say, each once, in the order of the stream, and log it; within a transaction.

    Those that were parked before them, and that have to be done first, are done too. `complete_until` (Unix
    milliseconds, as tracker.ledger has it) was known before this transaction began: a click of an earlier
    time that is not there does not exist. Those of later ones are waited for.
    """
    await lock(connection)
    done, arrivals = await _known(connection, postbacks)
    todo = {postback.hash: postback for postback in postbacks if postback.hash not in done}
    if todo:
        queue = [Queued(arrivals.get(hash_, NEW), postback) for hash_, postback in todo.items()]
        done |= await _take_in_line(connection, queue, complete_until)
    return [done[postback.hash] for postback in postbacks]


async def _take_in_line(
    connection: Connection, queue: list[Queued], complete_until: int | None
) -> dict[str, Taken]:
    line, caps = Line(connection), CapBook(connection)
    facts = await _Facts.read(connection, [one.postback for one in queue])
    while beside := await line.beside(queue, facts.clicks_of(queue)):
        queue = [*queue, *beside]
        facts = facts.plus(await _Facts.read(connection, [one.postback for one in beside]))
    done: dict[str, Taken] = {}
    for one in sorted(queue, key=lambda one: one.arrival):
        taker = _Taker(connection, facts, caps, one.postback)
        is_held_up = taker.has_say and (click := taker.click) is not None and line.holds(one, click)
        taken = taker.parked(WAITS) if is_held_up else await taker.take(complete_until)
        if taken.result is Result.PARKED:
            line.wait(one, facts.hash_of(one.postback) or "")
        done[one.postback.hash] = taken
    await _log(connection, facts, [(one.postback, done[one.postback.hash]) for one in queue])
    await _refund_what_is_held(connection, facts, caps, done.values())
    return done


async def _refund_what_is_held(
    connection: Connection, facts: _Facts, caps: CapBook, done: Iterable[Taken]
) -> None:
    """Apply refunds that came before their order was approved."""
    changed = [taken.conversion_id for taken in done if taken.result in (Result.STORED, Result.UPDATED)]
    if changed:
        await refund(connection, [id_ for id_ in changed if id_ is not None], caps)


async def refund(connection: Connection, conversion_ids: Collection[int], caps: CapBook) -> None:
    """Apply the refunds that are held for conversions, if they can be applied now; within a transaction."""
    hashes = [hash_ for (hash_,) in await connection.fetch(_CLICKS_OF, list(conversion_ids))]
    held = await postback_log.held_refunds(connection, hashes)
    if not held:
        return
    facts = await _Facts.read(connection, held)
    done = [(postback, await _Taker(connection, facts, caps, postback).take(None)) for postback in held]
    await _log(
        connection, facts, [(postback, taken) for postback, taken in done if taken.result != Result.HELD]
    )


async def give_up(connection: Connection, postback: Postback, why: str) -> None:
    """Log one that the tables cannot take."""
    taken = Taken(postback.hash, Result.REJECTED, f"cannot be stored: {why}")
    await connection.execute(_LOG, *_logged(postback, taken, postback.click_hash))


async def set_status(
    connection: Connection,
    conversion_ids: Collection[int],
    status: ConversionStatus,
    *,
    source: Source,
    author: str,
    sale_statuses: Mapping[int, str] = _NOTHING_SAID,
) -> list[Changed]:
    """Have conversions be what the operator says, as far as that may be; within a transaction.

    A status alone approves neither a percentage of a browser's sale_amount nor what has no price: it is on
    hold. Returns those of them that there are.
    """
    await lock(connection)
    rows = await connection.fetch(_TO_CHANGE, list(conversion_ids))
    doubts = await _settle(connection, conversion_ids) if status is ConversionStatus.APPROVED else {}
    changed = [
        _changed(row["id"], ConversionStatus(row["status"]), status, doubts.get(row["id"], ""))
        for row in rows
    ]
    for before, after in {(each.before, each.after) for each in changed}:
        ids = [each.id for each in changed if each[1:3] == (before, after)]
        await connection.execute(_SET_STATUS, ids, [sale_statuses.get(id_) for id_ in ids], after)
        if after is not before:
            await booking.change(connection, ids, before, after, (source, author, None))
    caps = CapBook(connection)
    if status is ConversionStatus.APPROVED:
        moved = {each.id for each in changed if each.before is not each.after}
        await caps.close_full([row[2:5] for row in rows if row["id"] in moved and not row["is_test"]])
        await refund(connection, moved, caps)
    return changed


async def amend(connection: Connection, postback: Postback, conversion_id: int, author: str) -> Taken:
    """Do what the operator says of one conversion, whichever order it names, and log it; in a transaction."""
    await lock(connection)
    facts = await _Facts.read(connection, [postback])
    caps = CapBook(connection)
    taker = _Taker(connection, facts, caps, postback, author, by_operator=True)
    taken = await taker.take_of(_Existing.of(await connection.fetchrow(_ONE, conversion_id)))
    await _log(connection, facts, [(postback, taken)])
    await _refund_what_is_held(connection, facts, caps, [taken])
    return taken


async def _settle(connection: Connection, conversion_ids: Collection[int]) -> dict[int, str]:
    """Have amounts be what they are booked as; returns why some are not approved by a status alone, by id."""
    doubts = {}
    for id_, is_unpriced, money, price in await goal_prices.open_amounts(connection, conversion_ids):
        if is_unpriced and not price.is_set:
            doubts[id_] = NO_PRICE
            continue
        after = settled(money, price, is_unpriced=is_unpriced)
        if is_unpriced or after != money:
            await connection.execute(_SETTLE, id_, *after[3:])
        if money.sale_by_browser:
            doubts[id_] = price.doubt(after)
    return doubts


def _changed(id_: int, before: ConversionStatus, status: ConversionStatus, doubt: str) -> Changed:
    is_held = doubt and before is not ConversionStatus.APPROVED
    after = next_status(before, ConversionStatus.HOLD if is_held else status, by_operator=True)
    return Changed(id_, before, after, doubt if is_held else "")


class _Facts(NamedTuple):
    """What is known of the clicks that some postbacks name; none of it changes while they are taken."""

    version: int  # of goals and words
    hashes: Mapping[str, str]  # of earlier trackers' ids
    clicks: Mapping[str, ConvertedClick]
    goals: Mapping[int, Goal]  # those of the clicks' offers, and those that are named by their ids
    base_goals: Mapping[int, Goal]  # by offer
    words: StatusWords
    trust: Mapping[int, Trust]  # by advertiser

    @classmethod
    async def read(cls, connection: Connection, postbacks: Collection[Postback]) -> _Facts:
        version = await connection.fetchval(_VERSION)
        others = [postback for postback in postbacks if postback.click_hash is None]
        legacy_ids = {id_ for postback in others for id_ in (postback.click_text, postback.click_id)}
        legacy = {id_: hash_.hex for id_, hash_ in await connection.fetch(_LEGACY, list(legacy_ids))}
        hashes = {_hash_of(postback, legacy) for postback in postbacks} - {None}
        found = [ConvertedClick._make(row) for row in await connection.fetch(_CLICKS, list(hashes))]
        goal_ids = [postback.goal_id for postback in postbacks if postback.goal_id is not None]
        rows = await connection.fetch(_GOALS, goal_ids, list({click.offer_id for click in found}))
        goals = [(_goal(row), row["is_base"]) for row in rows]
        words = await status_words.read(connection, {postback.word for postback in postbacks})
        trust = await connection.fetch(_TRUST, list({click.advertiser_id for click in found}))
        return cls(
            version,
            legacy,
            {click.hash: click for click in found},
            {goal.id: goal for goal, _ in goals},
            {goal.offer_id: goal for goal, is_base in goals if is_base},
            words,
            {id_: Trust(*rest) for id_, *rest in trust},
        )

    def plus(self, others: _Facts) -> _Facts:
        return _Facts(
            self.version,
            {**self.hashes, **others.hashes},
            {**self.clicks, **others.clicks},
            {**self.goals, **others.goals},
            {**self.base_goals, **others.base_goals},
            {**self.words, **others.words},
            {**self.trust, **others.trust},
        )

    def clicks_of(self, queue: Iterable[Queued]) -> dict[str, ConvertedClick | None]:
        """The clicks that are stored, by the postbacks that name them."""
        return {one.postback.hash: self.clicks.get(self.hash_of(one.postback) or "") for one in queue}

    def hash_of(self, postback: Postback) -> str | None:
        return _hash_of(postback, self.hashes)

    def goal_of(self, postback: Postback, click: ConvertedClick) -> tuple[Goal | None, Refusal]:
        """The goal that is meant; without one, why not."""
        if not postback.goal:
            return self.base_goals.get(click.offer_id), Refusal.UNKNOWN_GOAL
        own = [goal for goal in self.goals.values() if goal.offer_id == click.offer_id]
        named = goals_named(postback.goal, own)
        if len(named) > 1:
            return None, Refusal.AMBIGUOUS_GOAL
        return (named[0] if named else self.goals.get(postback.goal_id or 0)), Refusal.UNKNOWN_GOAL

    def status_of(self, postback: Postback, click: ConvertedClick) -> ConversionStatus | None:
        """What its word means. What the API is told by a status' own name is no advertiser's word."""
        if postback.source is Source.API and postback.word in STATUSES:
            return postback.status
        return meaning(postback.word, click.advertiser_id, self.words)

    def trust_of(self, click: ConvertedClick) -> Trust:
        return self.trust.get(click.advertiser_id, _NO_TRUST)


_NO_TRUST = Trust(True, ())


def _hash_of(postback: Postback, legacy: Mapping[str, str]) -> str | None:
    """The hash of the click that is named. An earlier tracker's id counts as it was written, then trimmed."""
    return postback.click_hash or legacy.get(postback.click_text) or legacy.get(postback.click_id)


class _Taker(NamedTuple):
    """One postback on its way into the tables."""

    connection: Connection
    facts: _Facts
    caps: CapBook
    postback: Postback
    author: str = ""
    by_operator: bool = False  # and not told of by anybody, be it over the API

    @property
    def click(self) -> ConvertedClick | None:
        return self.facts.clicks.get(self.facts.hash_of(self.postback) or "")

    @property
    def has_say(self) -> bool:
        """Whether it is for this postback to say anything of its click, which is stored."""
        click = self.click
        if click is None:
            return False
        goal, _ = self.facts.goal_of(self.postback, click)
        why = refusal(self.postback, click, goal, self.facts.trust_of(click))
        return goal is not None and why is None

    async def take_of(self, found: _Existing) -> Taken:
        """Do what a postback says of a conversion that was found by its id."""
        click = self.facts.clicks.get(found.click_hash)
        goal = self.facts.goal_of(self.postback, click)[0] if click else None
        if click is None or goal is None:
            return self._rejected(Refusal.UNKNOWN_CLICK if click is None else Refusal.UNKNOWN_GOAL)
        return await self._amend(click, goal, found)

    async def take(self, complete_until: int | None) -> Taken:
        click = self.click
        if click is None:
            return self._without_click(complete_until)
        goal, no_goal = self.facts.goal_of(self.postback, click)
        if why := refusal(self.postback, click, goal, self.facts.trust_of(click)):
            return self._rejected(why)
        status = self.facts.status_of(self.postback, click)
        if self.postback.word and status is None and self.postback.source is not Source.PIXEL:
            return self._held(Refusal.UNKNOWN_STATUS)
        if goal is None:
            return self._held(no_goal)
        if fault := unreadable_refund(self.postback):
            return self._rejected(fault)
        meant = self._replace(postback=self.postback._replace(status=status))
        taken = await (meant._refund(click, goal) if meant.postback.is_refund else meant._settle(click, goal))
        return taken if taken.result is Result.REJECTED else _noting(taken, self.postback)

    async def _settle(self, click: ConvertedClick, goal: Goal) -> Taken:
        found = await self._find(click, goal)
        if found is None:
            return await self._create(click, goal)
        if found.order_id in self.postback.order_texts:  # which it may have from before ids were trimmed
            self = self._replace(postback=self.postback._replace(order_id=found.order_id))
        if found.click_hash != click.hash:
            return await self._take_order(click, goal, found)
        if why := await self._other(click, goal, found):
            return self._rejected(why)
        return await self._amend(click, goal, found)

    def _without_click(self, complete_until: int | None) -> Taken:
        hash_ = self.facts.hash_of(self.postback)
        if hash_ is None or millis_of(hash_) > self.postback.millis + FUTURE_MILLIS:
            return self._rejected(Refusal.UNKNOWN_CLICK)
        if complete_until is not None and millis_of(hash_) < complete_until:
            return self._rejected(Refusal.UNKNOWN_CLICK)
        return self.parked("its click is not stored yet")

    def parked(self, why: str) -> Taken:
        return Taken(self.postback.hash, Result.PARKED, why)

    def _rejected(self, why: str) -> Taken:
        return Taken(self.postback.hash, Result.REJECTED, why)

    def _held(self, why: Refusal) -> Taken:
        return Taken(self.postback.hash, Result.HELD, why, held_at=self.facts.version)

    async def _find(self, click: ConvertedClick, goal: Goal) -> _Existing | None:
        postback = self.postback
        key = (click.advertiser_id, goal.id, postback.order_texts, click.hash, goal.multiple)
        row = await self.connection.fetchrow(_FOUND, *key, postback.is_order_absent)
        return row and _Existing.of(row)

    def _outranks(self, found: _Existing) -> bool:
        """Whether what a browser said of an order gives way."""
        is_undecided = found.status is ConversionStatus.PENDING
        return found.told_by_browser and is_undecided and self.postback.source is not Source.PIXEL

    def _replaces(self, found: _Existing) -> bool:
        """Whether it is of an order that a browser knew nothing of, which its own made room for."""
        return self._outranks(found) and self.postback.order_id not in (None, found.order_id)

    async def _take_order(self, click: ConvertedClick, goal: Goal, found: _Existing) -> Taken:
        """Do what a postback says of an order that is another click's so far."""
        if not self._outranks(found):
            return self._rejected(Refusal.OTHER_CLICK)
        taking = self.connection.transaction()
        await taking.start()
        await self.connection.execute(_GIVE_UP_ORDER, found.id)
        taken = await self._settle(click, goal)
        await (taking.rollback() if taken.result is Result.REJECTED else taking.commit())
        return taken

    async def _other(self, click: ConvertedClick, goal: Goal, found: _Existing) -> Refusal | None:
        """Why what was found is not what the postback speaks of, after all."""
        if self._replaces(found):
            return await self._refusal_of_new(click, goal)
        is_other = None not in (found.order_id, self.postback.order_id) and (
            found.order_id != self.postback.order_id
        )
        return Refusal.SECOND if is_other else None

    async def _refusal_of_new(self, click: ConvertedClick, goal: Goal) -> Refusal | None:
        parent = goal.parent_goal_id
        has_parent = parent is not None and await self.connection.fetchval(
            _HAS_CONVERSION, click.hash, parent
        )
        return refusal_of_new(self.postback, click, goal, has_parent=has_parent)

    async def _create(self, click: ConvertedClick, goal: Goal) -> Taken:
        postback, connection = self.postback, self.connection
        if why := await self._refusal_of_new(click, goal):
            return self._rejected(why)
        price = await goal_prices.price_of(connection, click, goal)
        status = _first_status(postback, goal)
        if fault := unreadable(postback, goal, price, is_unpaid=status is ConversionStatus.REJECTED):
            return self._rejected(fault)
        money = amounts(postback.without_faults(), goal, price)
        if money.is_too_much:
            return self._rejected(Refusal.TOO_MUCH)
        is_over_cap = not click.is_test and await self.caps.count(click, status, money, postback.millis)
        is_unpriced = self._is_unpriced(goal, price)
        doubt = self._doubt(goal, price, money, is_over_cap=is_over_cap, is_unpriced=is_unpriced)
        if doubt and status is ConversionStatus.APPROVED:
            status = ConversionStatus.HOLD
        id_ = await self._insert(click, goal, status, money, is_over_cap=is_over_cap, is_unpriced=is_unpriced)
        await self._change(id_, None, status)
        return Taken(postback.hash, Result.STORED, doubt, id_)

    def _is_unpriced(self, goal: Goal, price: Price) -> bool:
        """Whether nobody says what it pays: neither the goal nor the postback."""
        return not price.is_set and counting(self.postback, goal)[0] is None

    async def _insert(
        self,
        click: ConvertedClick,
        goal: Goal,
        status: ConversionStatus,
        money: Amounts,
        *,
        is_over_cap: bool,
        is_unpriced: bool,
    ) -> int:
        postback = self.postback
        at = datetime.fromtimestamp(postback.millis / 1000, UTC)
        id_: int = await self.connection.fetchval(
            _CREATE,
            *(postback.hash, click.hash, click.id, goal.id, postback.order_id),
            *(postback.is_order_absent, goal.multiple, status, is_over_cap),
            *(postback.source is Source.PIXEL, is_unpriced, postback.sale_status, at, at),
            *money,
            *(postback.external_id, *postback.adv_subs),
            *click[3:],
        )
        return id_

    async def _amend(self, click: ConvertedClick, goal: Goal, found: _Existing) -> Taken:
        postback = self.postback
        if postback.source is Source.PIXEL:
            return Taken(postback.hash, Result.UNCHANGED, "a browser changes nothing", found.id)
        price = await goal_prices.price_of(self.connection, click, goal)
        told = self._told_status(goal, found)
        is_unpaid = told is ConversionStatus.REJECTED or self._is_settled(found, told)
        if fault := unreadable(postback, goal, price, is_unpaid=is_unpaid):
            return self._rejected(fault)
        money = self._amounts_after(goal, price, found, told)
        if money.is_too_much:
            return self._rejected(Refusal.TOO_MUCH)
        if money is not found.amounts and (money.sale_amount or 0) < found.refunded:
            return self._rejected(f"{show(found.refunded)} of it is refunded, which is more")
        is_over_cap = found.is_over_cap or await self._grows_over_cap(click, found, money)
        is_unpriced = found.is_unpriced and self._is_unpriced(goal, price)
        doubt = self._doubt(goal, price, money, is_over_cap=is_over_cap, is_unpriced=is_unpriced)
        is_held = told is ConversionStatus.APPROVED and self._is_held(found, doubt)
        after = found._replace(
            order_id=self._order_after(found),
            status=self._status_after(found, ConversionStatus.HOLD if is_held else told or found.status),
            is_over_cap=is_over_cap,
            told_by_browser=False,
            is_unpriced=is_unpriced,
            sale_status=postback.sale_status or found.sale_status,
            amounts=money,
            own=_told((postback.external_id, *postback.adv_subs), found.own),
        )
        late = "" if money is not found.amounts else _too_late(postback, counting(postback, goal), found)
        reason = "; ".join(filter(None, (_reason(told, found, after, doubt, is_held=is_held), late)))
        if after == found:
            return Taken(postback.hash, Result.UNCHANGED, reason or "nothing new", found.id)
        said = [getattr(after, name) for name in _AMENDED if name in _Existing._fields]
        await self.connection.execute(_AMEND, found.id, *said, *after.amounts, *after.own)
        if after.status is not found.status:
            await self._change(found.id, found.status, after.status)
            self.caps.forget()
            await self._close_full(click, found)
        return Taken(postback.hash, Result.UPDATED, reason, found.id)

    async def _close_full(self, click: ConvertedClick, found: _Existing) -> None:
        """One that was rejected counts once more: nobody has looked at the caps since."""
        if found.status is ConversionStatus.REJECTED and not click.is_test:
            await self.caps.close_full([(click.offer_id, click.affiliate_id, found.created_at)])

    async def _refund(self, click: ConvertedClick, goal: Goal) -> Taken:
        """Do what a postback says besides a refund of a part; then apply the refund, or hold it.

        A refund of nothing is one of an approved order only: elsewhere its sender always names that amount.
        """
        found = await self._find(click, goal)
        if not self.postback.refund_amount and (found is None or not found.is_approved):
            sale = self.postback._replace(refund_amount=None, refund_id=None)
            return await self._replace(postback=sale)._settle(click, goal)
        is_sale = self.postback.status not in (None, ConversionStatus.REJECTED)
        if not is_sale and (found is None or found.told_by_browser):
            return self._hold_refund("its order is not there yet", None)
        told = await self._replace(postback=_without_refund(self.postback))._settle(click, goal)
        if told.conversion_id is None:
            return told
        row = await self.connection.fetchrow(_ONE, told.conversion_id)
        return await self._apply(click, goal, _Existing.of(row), told)

    async def _apply(self, click: ConvertedClick, goal: Goal, found: _Existing, told: Taken) -> Taken:
        id_, amount, refund_id = found.id, self.postback.refund_amount, self.postback.refund_id
        assert amount is not None
        if found.status is ConversionStatus.REJECTED:
            return told._replace(reason="it stays rejected")
        if refund_id and await self.connection.fetchval(_IS_REFUNDED, id_, refund_id):
            return told._replace(reason=f"refund {refund_id} was applied before")
        total = found.refunded + amount if refund_id else max(found.refunded, amount)
        if total == found.refunded:
            return told._replace(reason=f"{show(found.refunded)} of it is refunded already")
        if why := _why_held(self.postback, found, total):
            return self._hold_refund(why, id_)
        price = await goal_prices.price_of(self.connection, click, goal)
        await self._book_refund(found, price, total)
        if refund_id:
            await self.connection.execute(_NOTE_REFUND, id_, refund_id, amount, self.postback.hash)
        self.caps.forget()
        return told._replace(result=Result.UPDATED, reason="")

    async def _book_refund(self, found: _Existing, price: Price, total: Decimal) -> None:
        """A refund of all takes everything back; one of a part leaves what the rest of the sale comes to."""
        is_whole = total == found.amounts.sale_amount
        status = ConversionStatus.REJECTED if is_whole else found.status
        money = found.amounts if is_whole else refunded(found.amounts, price, found.refunded, total)
        await self.connection.execute(_REFUND, found.id, total, status, money.payout, money.revenue)
        if is_whole:
            await self._change(found.id, found.status, status)
        else:
            await booking.correct(self.connection, [found.id])

    def _hold_refund(self, why: str, conversion_id: int | None) -> Taken:
        return Taken(self.postback.hash, Result.HELD, why, conversion_id)

    async def _grows_over_cap(self, click: ConvertedClick, found: _Existing, money: Amounts) -> bool:
        if click.is_test or money == found.amounts or self.postback.status is ConversionStatus.REJECTED:
            return False
        return await self.caps.grow(click, found.amounts, money, int(found.created_at.timestamp() * 1000))

    def _order_after(self, found: _Existing) -> str | None:
        first, then = found.order_id, self.postback.order_id
        return then or first if self._outranks(found) else first or then

    def _told_status(self, goal: Goal, found: _Existing) -> ConversionStatus | None:
        """What it calls the conversion. The first word of an advertiser says what any first one would."""
        return self.postback.status or (goal.initial_status if self._outranks(found) else None)

    def _amounts_after(
        self, goal: Goal, price: Price, found: _Existing, told: ConversionStatus | None
    ) -> Amounts:
        if self._is_settled(found, told):
            return found.amounts
        before = None if self._replaces(found) else found.amounts
        is_unpriced = found.is_unpriced and price.is_set
        money = amounts(self.postback.without_faults(), goal, price, before, is_unpriced=is_unpriced)
        has_refund = 0 < found.refunded <= (money.sale_amount or 0)
        return refunded(money, price, Decimal(0), found.refunded) if has_refund else money

    def _is_settled(self, found: _Existing, told: ConversionStatus | None) -> bool:
        """Amounts change until it is decided, and once more when the operator revives it."""
        is_revival = (found.status, told) == (ConversionStatus.REJECTED, ConversionStatus.APPROVED)
        return found.is_decided and not (is_revival and self.by_operator)

    def _doubt(
        self, goal: Goal, price: Price, money: Amounts, *, is_over_cap: bool, is_unpriced: bool
    ) -> str:
        """Why it is for the operator to approve a conversion. Empty if it is not."""
        of_cap, of_price = "over a cap" if is_over_cap else "", NO_PRICE if is_unpriced else ""
        of_sale = price.doubt(money, counting(self.postback, goal))
        return "; ".join(filter(None, (of_cap, of_price, of_sale)))

    def _is_held(self, found: _Existing, doubt: str) -> bool:
        """Whether an approval puts it on hold: what is in doubt is for the operator to pay.

        The operator, too, has to name the amount that only a browser told, and to set a price.
        """
        if self.by_operator:
            is_open = BROWSERS_SALE in doubt or NO_PRICE in doubt
            return is_open and found.status is not ConversionStatus.APPROVED
        return bool(doubt) and not found.is_decided

    def _status_after(self, found: _Existing, told: ConversionStatus) -> ConversionStatus:
        return next_status(found.status, told, by_operator=self.by_operator)

    async def _change(self, id_: int, before: ConversionStatus | None, after: ConversionStatus) -> None:
        by = self.postback.source, self.author, self.postback.hash
        await booking.change(self.connection, [id_], before, after, by)


async def _known(
    connection: Connection, postbacks: Iterable[Postback]
) -> tuple[dict[str, Taken], dict[str, int]]:
    """Those that were taken before, except those that wait for something; and the places of these."""
    rows = await connection.fetch(_KNOWN, [postback.hash for postback in postbacks])
    known = {
        hash_.hex: (arrival, Taken(hash_.hex, Result(result), reason, id_))
        for arrival, hash_, result, reason, id_ in rows
    }
    waiting = (Result.PARKED, Result.HELD)
    done = {hash_: taken for hash_, (_, taken) in known.items() if taken.result not in waiting}
    return done, {hash_: arrival for hash_, (arrival, _) in known.items() if hash_ not in done}


def _reason(
    told: ConversionStatus | None, found: _Existing, after: _Existing, doubt: str, *, is_held: bool
) -> str:
    """What the sender of an update should know of it."""
    if told in (None, after.status):
        return doubt if after.is_over_cap and not found.is_over_cap else ""
    if not is_held:
        return f"it stays {after.status}"
    return held(found.status, after.status, doubt)


def _too_late(postback: Postback, named: Named, found: _Existing) -> str:
    """What a postback says of the money of a conversion that has been decided."""
    money = found.amounts
    sides = (
        ("sale_amount", postback.sale_amount, money.sale_amount, money.sale_currency),
        ("payout", named[0], money.payout, money.payout_currency),
        ("revenue", named[1], money.revenue, money.revenue_currency),
    )
    late = [
        f"{name} {show(told)} {postback.currency or currency or ''}".rstrip()
        + f" changes nothing: it is {found.status} with {'none' if known is None else show(known)}"
        + (f" {currency}" if currency else "")
        for name, told, known, currency in sides
        if told is not None and (told, postback.currency or currency) != (known, currency)
    ]
    return "; ".join(late)


def _without_refund(postback: Postback) -> Postback:
    """What a postback says besides a refund of a part. Its currency is then that of the refund, too."""
    status = None if postback.status is ConversionStatus.REJECTED else postback.status
    is_of_amounts = (postback.payout, postback.revenue, postback.sale_amount) != (None, None, None)
    currency = postback.currency if is_of_amounts else None
    return postback._replace(status=status, currency=currency, refund_amount=None, refund_id=None)


def _why_held(postback: Postback, found: _Existing, total: Decimal) -> str:
    """Why a refund cannot be applied yet; "" if it can."""
    sale, currency = found.amounts.sale_amount, found.amounts.sale_currency
    if found.status is not ConversionStatus.APPROVED:
        return f"its order is not approved: it is {found.status}"
    if sale is None:
        return "its order has no sale_amount"
    if postback.currency not in (None, currency):
        return f"the refund is in {postback.currency}, its order in {currency}"
    return f"{show(total)} {currency} is more than its order of {show(sale)}" if total > sale else ""


def held(before: ConversionStatus, after: ConversionStatus, doubt: str) -> str:
    """What became of an approval that is in doubt, and why."""
    return f"it stays {after}: {doubt}" if after is before else f"it is on hold: {doubt}"


def _first_status(postback: Postback, goal: Goal) -> ConversionStatus:
    if postback.source is Source.PIXEL:
        return ConversionStatus.PENDING
    return postback.status or goal.initial_status


def _noting(taken: Taken, postback: Postback) -> Taken:
    """With what it said that cannot be read, and did not count."""
    left_out = told_faults((name, f"is left out: {why}") for name, why in postback.faults)
    return taken._replace(reason="; ".join(filter(None, (taken.reason, left_out))))


def _told(new: Sequence[str], old: Sequence[str]) -> tuple[str, ...]:
    return tuple(told or known for told, known in zip(new, old, strict=True))


def _goal(row: Any) -> Goal:
    goal = Goal._make(tuple(row)[:-1])
    return goal._replace(initial_status=ConversionStatus(goal.initial_status))


async def _log(connection: Connection, facts: _Facts, done: Iterable[tuple[Postback, Taken]]) -> None:
    rows = [_logged(postback, taken, facts.hash_of(postback)) for postback, taken in done]
    await connection.executemany(_LOG, rows)


def _logged(postback: Postback, taken: Taken, click_hash: str | None) -> tuple[Any, ...]:
    parameters = orjson.dumps(dict(postback.parameters)).decode()
    return (
        *(postback.hash, postback.source, postback.ip, postback.advertiser_id, parameters),
        postback.click_hash or postback.click_id,
        *(taken.result, taken.reason, taken.conversion_id, taken.held_at, click_hash, postback.order_id),
    )
