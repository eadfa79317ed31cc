"""What postbacks do to the tables: conversions, their history, and their money. Each postback is done once.

One transaction at a time changes conversions: so ids are in the order of commits, and two postbacks of one
order never miss each other.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NamedTuple

import orjson

from tracker.clickhash import millis_of
from tracker.conversion import (
    ADV_SUBS,
    BROWSERS_SALE,
    FUTURE_MILLIS,
    Amounts,
    ConversionStatus,
    ConvertedClick,
    Goal,
    Postback,
    Price,
    Refusal,
    Source,
    Trust,
    amounts,
    counting,
    next_status,
    refusal,
    refusal_of_new,
)
from tracker.store.conversion_caps import CapBook
from tracker.store.pool import BACKUP_GATE, Connection

LOCK = 0x7C1C_0006
"""Advisory lock of the transaction that changes conversions, or closes their periods."""

WRITER = 0x7C1C_0007
"""Advisory lock of the worker that takes postbacks off the stream."""

HOLDER_IDLES = "60s"
"""How long who changes conversions may say nothing: one that is frozen must not keep the others from it."""

_FROM_CLICK = ConvertedClick._fields[3:]  # after hash, id and status
_OWN = ("advertiser_external_id", *ADV_SUBS)
_COLUMNS = (
    *("hash", "click_hash", "click_id", "goal_id", "order_id", "is_repeatable", "status", "is_over_cap"),
    *("told_by_browser", "sale_status", "created_at", "updated_at"),
    *Amounts._fields,
    *_OWN,
    *_FROM_CLICK,
)
_AMENDED = ("order_id", "status", "is_over_cap", "told_by_browser", "sale_status", *Amounts._fields, *_OWN)

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
_KNOWN = "SELECT hash, result, reason, conversion_id FROM postback WHERE hash = ANY ($1::uuid[])"
_LEGACY = "SELECT legacy_id, hash FROM legacy_click WHERE legacy_id = ANY ($1)"
_CLICKS = f"""
SELECT encode(uuid_send(hash), 'hex') AS hash, id, status, {", ".join(_FROM_CLICK)}
FROM click WHERE hash = ANY ($1::uuid[])
"""  # noqa: S608
_GOALS = f"""
SELECT {", ".join("status = 'active'" if name == "is_active" else name for name in Goal._fields)}, is_base
FROM goal WHERE id = ANY ($1) OR (is_base AND offer_id = ANY ($2))
"""  # noqa: S608
_TRUST = """
SELECT id, postback_check = 'required', postback_addresses FROM advertiser WHERE id = ANY ($1)
"""

_EXISTING = ("id", "click_hash", "created_at", *_AMENDED)
_FOUND = f"""
SELECT {", ".join(_EXISTING)} FROM conversion
WHERE (advertiser_id, goal_id, order_id) = ($1, $2, $3)
    OR (click_hash = $4 AND goal_id = $2 AND NOT $5::boolean)
ORDER BY order_id = $3 DESC NULLS LAST, id LIMIT 1
"""  # noqa: S608
_ONE = f"SELECT {', '.join(_EXISTING)} FROM conversion WHERE id = $1"  # noqa: S608
_GIVE_UP_ORDER = "UPDATE conversion SET order_id = NULL, updated_at = clock_timestamp() WHERE id = $1"
_HAS_CONVERSION = """
SELECT EXISTS (SELECT FROM conversion WHERE click_hash = $1 AND goal_id = $2 AND status <> 'rejected')
"""

# The terms that were in force when the click was followed, the most specific ones that pay. What a goal paid
# before anything was noted of it is what was noted first.
_PRICE_OF = f"""
SELECT {", ".join(Price._fields)} FROM (
    SELECT DISTINCT ON (affiliate_id, country_code) * FROM goal_price
    WHERE goal_id = {{goal}} AND (affiliate_id IS NULL OR affiliate_id = {{affiliate}})
        AND (country_code IS NULL OR country_code = {{country}})
        AND (valid_from <= {{at}} OR (affiliate_id, country_code) IS NULL)
    ORDER BY affiliate_id, country_code, valid_from <= {{at}} DESC,
        CASE WHEN valid_from <= {{at}} THEN valid_from END DESC, valid_from
) AS held WHERE payout IS NOT NULL
ORDER BY affiliate_id IS NULL, country_code IS NULL LIMIT 1
"""  # noqa: S608
_PRICE = _PRICE_OF.format(goal="$1", affiliate="$2", country="$3", at="$4")
_BROWSERS_SALES = f"""
SELECT sold.id, {", ".join(f"sold.{name}" for name in Amounts._fields)}, price.*
FROM conversion AS sold, LATERAL ({
    _PRICE_OF.format(
        goal="sold.goal_id",
        affiliate="sold.affiliate_id",
        country="sold.country_code",
        at="to_timestamp(click_millis(sold.click_hash) / 1000.0)",
    )
}) AS price
WHERE sold.id = ANY ($1) AND sold.sale_by_browser
"""  # noqa: S608

_CREATE = f"""
INSERT INTO conversion ({", ".join(_COLUMNS)})
VALUES ({", ".join(f"${n}" for n in range(1, len(_COLUMNS) + 1))}) RETURNING id
"""  # noqa: S608
_AMEND = f"""
UPDATE conversion SET ({", ".join(_AMENDED)}, updated_at)
    = ({", ".join(f"${n}" for n in range(2, len(_AMENDED) + 2))}, clock_timestamp())
WHERE id = $1
"""  # noqa: S608
_NOTE_CHANGE = """
INSERT INTO conversion_change
    (conversion_id, status_before, status_after, source, author, postback_hash, is_announced)
SELECT id, $2, status, $3, $4, $5, is_test FROM conversion WHERE id = ANY ($1) ORDER BY id
"""
_BOOK = """
INSERT INTO conversion_entry (conversion_id, booked_at, kind, is_adjustment, offer_id, advertiser_id,
    affiliate_id, payout, payout_currency, revenue, revenue_currency)
SELECT id,
    CASE WHEN created_at < closed.until THEN greatest(clock_timestamp(), closed.until) ELSE created_at END,
    CASE $2::integer WHEN 1 THEN 'approval' ELSE 'reversal' END, created_at < closed.until,
    offer_id, advertiser_id, affiliate_id, $2 * payout, payout_currency, $2 * revenue, revenue_currency
FROM conversion, (SELECT coalesce(max(until), '-infinity') AS until FROM period_close) AS closed
WHERE id = ANY ($1) AND NOT is_test ORDER BY id
"""
_LOG = """
INSERT INTO postback (hash, source, ip, advertiser_id, parameters, result, reason, conversion_id)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (hash) DO UPDATE
    SET result = excluded.result, reason = excluded.reason, conversion_id = excluded.conversion_id
    WHERE excluded.result <> 'parked'
"""

_TO_CHANGE = "SELECT id, status FROM conversion WHERE id = ANY ($1) ORDER BY id"
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
    REJECTED = "rejected"


class Taken(NamedTuple):
    """What became of a postback, and why, where it was not simply stored."""

    hash: str
    result: Result
    reason: str = ""
    conversion_id: int | None = None


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
    order_id: str | None
    status: ConversionStatus
    is_over_cap: bool
    told_by_browser: bool  # and by nobody else
    sale_status: str
    amounts: Amounts
    own: tuple[str, ...]  # advertiser_external_id, adv_sub …

    @property
    def is_decided(self) -> bool:
        return self.status in (ConversionStatus.APPROVED, ConversionStatus.REJECTED)

    @classmethod
    def of(cls, row: Any) -> _Existing:
        id_, click_hash, created_at, order_id, status, *rest = row
        (is_over_cap, told_by_browser, sale_status), rest = rest[:3], rest[3:]
        texts = order_id, ConversionStatus(status), is_over_cap, told_by_browser, sale_status
        money, own = rest[: len(Amounts._fields)], rest[len(Amounts._fields) :]
        return cls(id_, click_hash.hex, created_at, *texts, Amounts._make(money), tuple(own))


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
    """Do what postbacks say, each once, in their order, and log it; within a transaction.

    `complete_until` (Unix milliseconds, as tracker.ledger has it) was known before this transaction began:
    a click of an earlier time that is not there does not exist. Those of later ones are waited for.
    """
    await lock(connection)
    done = await _done(connection, postbacks)
    todo = list({postback.hash: postback for postback in postbacks if postback.hash not in done}.values())
    if todo:
        facts = await _Facts.read(connection, todo)
        caps = CapBook(connection)
        for postback in todo:
            done[postback.hash] = await _Taker(connection, facts, caps, postback).take(complete_until)
        await connection.executemany(_LOG, [_logged(postback, done[postback.hash]) for postback in todo])
    return [done[postback.hash] for postback in postbacks]


async def give_up(connection: Connection, postback: Postback, why: str) -> None:
    """Log one that the tables cannot take."""
    taken = Taken(postback.hash, Result.REJECTED, f"cannot be stored: {why}")
    await connection.execute(_LOG, *_logged(postback, taken))


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

    Nobody approves a percentage of a browser's sale_amount by a status alone: it is on hold.
    Returns those of them that there are.
    """
    await lock(connection)
    olds = [
        (id_, ConversionStatus(old)) for id_, old in await connection.fetch(_TO_CHANGE, list(conversion_ids))
    ]
    doubts = await _doubts(connection, conversion_ids) if status is ConversionStatus.APPROVED else {}
    changed = [_changed(id_, old, status, doubts.get(id_, "")) for id_, old in olds]
    for before, after in {(each.before, each.after) for each in changed}:
        ids = [each.id for each in changed if each[1:3] == (before, after)]
        await connection.execute(_SET_STATUS, ids, [sale_statuses.get(id_) for id_ in ids], after)
        if after is not before:
            await _change(connection, ids, before, after, (source, author, None))
    return changed


async def amend(connection: Connection, postback: Postback, conversion_id: int, author: str) -> Taken:
    """Do what the operator says of one conversion, whichever order it names, and log it; in a transaction."""
    await lock(connection)
    facts = await _Facts.read(connection, [postback])
    taker = _Taker(connection, facts, CapBook(connection), postback, author)
    taken = await taker.take_of(_Existing.of(await connection.fetchrow(_ONE, conversion_id)))
    await connection.execute(_LOG, *_logged(postback, taken))
    return taken


async def _doubts(connection: Connection, conversion_ids: Collection[int]) -> dict[int, str]:
    """Why some conversions are not approved by a status alone, by id."""
    rows = [tuple(row) for row in await connection.fetch(_BROWSERS_SALES, list(conversion_ids))]
    end = 1 + len(Amounts._fields)
    return {row[0]: Price._make(row[end:]).doubt(Amounts._make(row[1:end])) for row in rows}


def _changed(id_: int, before: ConversionStatus, status: ConversionStatus, doubt: str) -> Changed:
    is_held = doubt and before is not ConversionStatus.APPROVED
    after = next_status(before, ConversionStatus.HOLD if is_held else status, by_operator=True)
    return Changed(id_, before, after, doubt if is_held else "")


class _Facts(NamedTuple):
    """What is known of the clicks that some postbacks name; none of it changes while they are taken."""

    hashes: Mapping[str, str]  # of earlier trackers' ids
    clicks: Mapping[str, ConvertedClick]
    goals: Mapping[int, Goal]
    base_goals: Mapping[int, Goal]  # by offer
    trust: Mapping[int, Trust]  # by advertiser

    @classmethod
    async def read(cls, connection: Connection, postbacks: Collection[Postback]) -> _Facts:
        legacy_ids = [postback.click_id for postback in postbacks if postback.click_hash is None]
        legacy = {id_: hash_.hex for id_, hash_ in await connection.fetch(_LEGACY, legacy_ids)}
        hashes = {postback.click_hash or legacy.get(postback.click_id) for postback in postbacks} - {None}
        found = [ConvertedClick._make(row) for row in await connection.fetch(_CLICKS, list(hashes))]
        goal_ids = [postback.goal_id for postback in postbacks if postback.goal_id is not None]
        rows = await connection.fetch(_GOALS, goal_ids, list({click.offer_id for click in found}))
        goals = [(_goal(row), row["is_base"]) for row in rows]
        trust = await connection.fetch(_TRUST, list({click.advertiser_id for click in found}))
        return cls(
            legacy,
            {click.hash: click for click in found},
            {goal.id: goal for goal, _ in goals},
            {goal.offer_id: goal for goal, is_base in goals if is_base},
            {id_: Trust(*rest) for id_, *rest in trust},
        )

    def hash_of(self, postback: Postback) -> str | None:
        return postback.click_hash or self.hashes.get(postback.click_id)

    def goal_of(self, postback: Postback, click: ConvertedClick) -> Goal | None:
        if postback.goal_id is None:
            return self.base_goals.get(click.offer_id)
        return self.goals.get(postback.goal_id)

    def trust_of(self, click: ConvertedClick) -> Trust:
        return self.trust.get(click.advertiser_id, _NO_TRUST)


_NO_TRUST = Trust(True, ())


class _Taker(NamedTuple):
    """One postback on its way into the tables."""

    connection: Connection
    facts: _Facts
    caps: CapBook
    postback: Postback
    author: str = ""

    @property
    def by_operator(self) -> bool:
        return self.postback.source is Source.API

    async def take_of(self, found: _Existing) -> Taken:
        """Do what a postback says of a conversion that was found by its id."""
        click = self.facts.clicks.get(found.click_hash)
        goal = click and self.facts.goal_of(self.postback, click)
        if click is None or goal is None:
            return self._rejected(Refusal.UNKNOWN_CLICK if click is None else Refusal.UNKNOWN_GOAL)
        return await self._amend(click, goal, found)

    async def take(self, complete_until: int | None) -> Taken:
        hash_ = self.facts.hash_of(self.postback)
        click = self.facts.clicks.get(hash_ or "")
        if click is None:
            return self._without_click(hash_, complete_until)
        goal = self.facts.goal_of(self.postback, click)
        why = refusal(self.postback, click, goal, self.facts.trust_of(click))
        if why is not None or goal is None:
            return self._rejected(why or Refusal.UNKNOWN_GOAL)
        return await self._settle(click, goal)

    async def _settle(self, click: ConvertedClick, goal: Goal) -> Taken:
        found = await self._find(click, goal)
        if found is None:
            return await self._create(click, goal)
        if found.click_hash != click.hash:
            return await self._take_order(click, goal, found)
        if why := await self._other(click, goal, found):
            return self._rejected(why)
        return await self._amend(click, goal, found)

    def _without_click(self, hash_: str | None, complete_until: int | None) -> Taken:
        if hash_ is None or millis_of(hash_) > self.postback.millis + FUTURE_MILLIS:
            return self._rejected(Refusal.UNKNOWN_CLICK)
        if complete_until is not None and millis_of(hash_) < complete_until:
            return self._rejected(Refusal.UNKNOWN_CLICK)
        return Taken(self.postback.hash, Result.PARKED, "its click is not stored yet")

    def _rejected(self, why: Refusal) -> Taken:
        return Taken(self.postback.hash, Result.REJECTED, why)

    async def _find(self, click: ConvertedClick, goal: Goal) -> _Existing | None:
        postback = self.postback
        key = (click.advertiser_id, goal.id, postback.order_id, click.hash, goal.multiple)
        row = await self.connection.fetchrow(_FOUND, *key)
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
        price = await _price(connection, click, goal)
        money = amounts(postback, goal, price)
        if money.is_too_much:
            return self._rejected(Refusal.TOO_MUCH)
        status = _first_status(postback, goal)
        is_over_cap = not click.is_test and await self.caps.count(click, status, money, postback.millis)
        doubt = self._doubt(goal, price, money, is_over_cap=is_over_cap)
        if doubt and status is ConversionStatus.APPROVED:
            status = ConversionStatus.HOLD
        id_ = await self._insert(click, goal, status, money, is_over_cap=is_over_cap)
        await self._change(id_, None, status)
        return Taken(postback.hash, Result.STORED, doubt, id_)

    async def _insert(
        self,
        click: ConvertedClick,
        goal: Goal,
        status: ConversionStatus,
        money: Amounts,
        *,
        is_over_cap: bool,
    ) -> int:
        postback = self.postback
        at = datetime.fromtimestamp(postback.millis / 1000, UTC)
        id_: int = await self.connection.fetchval(
            _CREATE,
            *(postback.hash, click.hash, click.id, goal.id, postback.order_id, goal.multiple),
            *(status, is_over_cap, postback.source is Source.PIXEL, postback.sale_status, at, at),
            *money,
            *(postback.external_id, *postback.adv_subs),
            *click[3:],
        )
        return id_

    async def _amend(self, click: ConvertedClick, goal: Goal, found: _Existing) -> Taken:
        postback = self.postback
        if postback.source is Source.PIXEL:
            return Taken(postback.hash, Result.UNCHANGED, "a browser changes nothing", found.id)
        price = await _price(self.connection, click, goal)
        told = self._told_status(goal, found)
        money = self._amounts_after(goal, price, found, told)
        if money.is_too_much:
            return self._rejected(Refusal.TOO_MUCH)
        is_over_cap = found.is_over_cap or await self._grows_over_cap(click, found, money)
        doubt = self._doubt(goal, price, money, is_over_cap=is_over_cap)
        is_held = told is ConversionStatus.APPROVED and self._is_held(found, doubt)
        after = found._replace(
            order_id=self._order_after(found),
            status=self._status_after(found, ConversionStatus.HOLD if is_held else told or found.status),
            is_over_cap=is_over_cap,
            told_by_browser=False,
            sale_status=postback.sale_status or found.sale_status,
            amounts=money,
            own=_told((postback.external_id, *postback.adv_subs), found.own),
        )
        reason = _reason(told, found, after, doubt, is_held=is_held)
        if after == found:
            return Taken(postback.hash, Result.UNCHANGED, reason or "nothing new", found.id)
        said = (after.order_id, after.status, after.is_over_cap, after.told_by_browser, after.sale_status)
        await self.connection.execute(_AMEND, found.id, *said, *after.amounts, *after.own)
        if after.status is not found.status:
            await self._change(found.id, found.status, after.status)
            self.caps.forget()
        return Taken(postback.hash, Result.UPDATED, reason, found.id)

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
        """They change until it is decided, and once more when the operator revives it."""
        is_revival = (found.status, told) == (ConversionStatus.REJECTED, ConversionStatus.APPROVED)
        if found.is_decided and not (is_revival and self.by_operator):
            return found.amounts
        return amounts(self.postback, goal, price, None if self._replaces(found) else found.amounts)

    def _doubt(self, goal: Goal, price: Price, money: Amounts, *, is_over_cap: bool) -> str:
        """Why it is for the operator to approve a conversion. Empty if it is not."""
        of_sale = price.doubt(money, counting(self.postback, goal))
        return "; ".join(filter(None, ("over a cap" if is_over_cap else "", of_sale)))

    def _is_held(self, found: _Existing, doubt: str) -> bool:
        """Whether an approval puts it on hold: what is in doubt is for the operator to pay.

        The operator, too, has to name the amount that only a browser told.
        """
        if self.by_operator:
            return BROWSERS_SALE in doubt and found.status is not ConversionStatus.APPROVED
        return bool(doubt) and not found.is_decided

    def _status_after(self, found: _Existing, told: ConversionStatus) -> ConversionStatus:
        return next_status(found.status, told, by_operator=self.by_operator)

    async def _change(self, id_: int, before: ConversionStatus | None, after: ConversionStatus) -> None:
        by = self.postback.source, self.author, self.postback.hash
        await _change(self.connection, [id_], before, after, by)


async def _change(
    connection: Connection,
    ids: Sequence[int],
    before: ConversionStatus | None,
    after: ConversionStatus,
    by: tuple[Source, str, str | None],
) -> None:
    """Note a status that conversions have now, and book what follows from it."""
    await connection.execute(_NOTE_CHANGE, ids, before, *by)
    if after is ConversionStatus.APPROVED:
        await connection.execute(_BOOK, ids, 1)
    elif before is ConversionStatus.APPROVED:
        await connection.execute(_BOOK, ids, -1)


async def book(connection: Connection, ids: Sequence[int]) -> None:
    """Book conversions that were approved elsewhere, as what is approved here is booked."""
    await connection.execute(_BOOK, ids, 1)


async def _done(connection: Connection, postbacks: Iterable[Postback]) -> dict[str, Taken]:
    """Those that were taken before, but for the parked ones."""
    rows = await connection.fetch(_KNOWN, [postback.hash for postback in postbacks])
    known = [Taken(hash_.hex, Result(result), reason, id_) for hash_, result, reason, id_ in rows]
    return {taken.hash: taken for taken in known if taken.result is not Result.PARKED}


def _reason(
    told: ConversionStatus | None, found: _Existing, after: _Existing, doubt: str, *, is_held: bool
) -> str:
    """What the sender of an update should know of it."""
    if told in (None, after.status):
        return doubt if after.is_over_cap and not found.is_over_cap else ""
    if not is_held:
        return f"it stays {after.status}"
    return held(found.status, after.status, doubt)


def held(before: ConversionStatus, after: ConversionStatus, doubt: str) -> str:
    """What became of an approval that is in doubt, and why."""
    return f"it stays {after}: {doubt}" if after is before else f"it is on hold: {doubt}"


def _first_status(postback: Postback, goal: Goal) -> ConversionStatus:
    if postback.source is Source.PIXEL:
        return ConversionStatus.PENDING
    return postback.status or goal.initial_status


def _told(new: Sequence[str], old: Sequence[str]) -> tuple[str, ...]:
    return tuple(told or known for told, known in zip(new, old, strict=True))


async def _price(connection: Connection, click: ConvertedClick, goal: Goal) -> Price:
    at = datetime.fromtimestamp(millis_of(click.hash) / 1000, UTC)
    return Price._make(await connection.fetchrow(_PRICE, goal.id, click.affiliate_id, click.country_code, at))


def _goal(row: Any) -> Goal:
    goal = Goal._make(tuple(row)[:-1])
    return goal._replace(initial_status=ConversionStatus(goal.initial_status))


def _logged(postback: Postback, taken: Taken) -> tuple[Any, ...]:
    parameters = orjson.dumps(dict(postback.parameters)).decode()
    return (
        postback.hash,
        postback.source,
        postback.ip,
        postback.advertiser_id,
        parameters,
        taken.result,
        taken.reason,
        taken.conversion_id,
    )
