"""Applies postbacks to the tables: conversions, their history and their money. Each postback is applied once.

One transaction at a time changes conversions. So ids are in commit order, and two postbacks of one order
always see each other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import NamedTuple

from tracker.domain.conversion import (
    BROWSERS_SALE,
    NO_PRICE,
    UNPROVEN,
    Amounts,
    ConvertedClick,
    Goal,
    Price,
    Refusal,
    amounts,
    counting,
    is_unproven,
    keeping,
    next_status,
    refunded,
    refusal,
    refusal_of_new,
    unreadable,
    unreadable_refund,
)
from tracker.domain.money import show
from tracker.domain.postback import ConversionStatus, Postback, Result, Source
from tracker.domain.unstored import AskUnstored, nothing_unstored
from tracker.store.conversions import booking, goal_prices, reasons, results
from tracker.store.conversions import postbacks as postback_log
from tracker.store.conversions.caps import CapBook
from tracker.store.conversions.lock import lock
from tracker.store.conversions.lookups import Existing, Facts
from tracker.store.conversions.missing_clicks import MissingClicks
from tracker.store.conversions.postback_line import NEW, Line, Queued
from tracker.store.conversions.results import Applied
from tracker.store.conversions.sql import (
    AMEND,
    AMENDED,
    CREATE,
    FOUND,
    GIVE_UP_ORDER,
    HAS_CONVERSION,
    IS_REFUNDED,
    NOTE_REFUND,
    ONE,
    REFUND,
)
from tracker.store.db import Connection, commit_anew

# Imported conversions may be refunded in full. Approving one again clears the refund.
SELL_AGAIN = """
UPDATE conversion SET refunded = 0
WHERE id = ANY ($1) AND status = 'rejected' AND refunded > 0 AND refunded = sale_amount
"""
_CHANGED = """
SELECT click_hash, order_id, NOT multiple AS is_only_one
FROM conversion JOIN goal ON goal.id = goal_id WHERE conversion.id = ANY ($1)
"""

WAITS = "an earlier postback of its click or order waits"
"""Why a postback of a stored click is parked."""


async def take(
    connection: Connection,
    postbacks: Sequence[Postback],
    complete_until: int | None,
    ask_unstored: AskUnstored = nothing_unstored,
) -> list[Applied]:
    """Apply postbacks once, in the order of the stream, and log them. Call it within a transaction.

    Earlier parked postbacks that must come first are applied too. `complete_until` (Unix milliseconds, see
    tracker.ops.ledger) was read before this transaction began. A missing click of a later time is waited for.
    A missing click of an earlier time does not exist, unless `ask_unstored` says that its minute has clicks
    outside the table.
    """
    await lock(connection)
    done, arrivals = await results.known(connection, postbacks)
    todo = {postback.hash: postback for postback in postbacks if postback.hash not in done}
    if todo:
        queue = [Queued(arrivals.get(hash_, NEW), postback) for hash_, postback in todo.items()]
        missing = MissingClicks(connection, complete_until, ask_unstored)
        done |= await _take_in_line(connection, queue, missing)
    else:  # the caller acknowledges what other transactions have stored
        await commit_anew(connection)
    return [done[postback.hash] for postback in postbacks]


async def _take_in_line(
    connection: Connection, queue: list[Queued], missing: MissingClicks
) -> dict[str, Applied]:
    line, caps = Line(connection), CapBook(connection)
    facts = await missing.read([one.postback for one in queue])
    while beside := await line.beside(queue, facts.clicks_of(queue)):
        queue = [*queue, *beside]
        facts = facts.plus(await Facts.read(connection, [one.postback for one in beside]))
    done: dict[str, Applied] = {}
    for one in sorted(queue, key=lambda one: one.arrival):
        taker = _PostbackApplier(connection, facts, caps, one.postback)
        is_held_up = taker.has_say and (click := taker.click) is not None and line.holds(one, click)
        applied = taker.parked(WAITS) if is_held_up else await taker.take(missing)
        if applied.result is Result.PARKED:
            line.wait(one, facts.hash_of(one.postback) or "")
        done[one.postback.hash] = applied
    await _log(connection, facts, ((one.postback, done[one.postback.hash]) for one in queue))
    await _refund_what_is_held(connection, facts, caps, done.values())
    return done


async def _refund_what_is_held(
    connection: Connection, facts: Facts, caps: CapBook, done: Iterable[Applied]
) -> None:
    """Apply refunds that arrived before their order was approved."""
    changed = [applied.conversion_id for applied in done if applied.result in (Result.STORED, Result.UPDATED)]
    if changed:
        await refund(connection, [id_ for id_ in changed if id_ is not None], caps)


async def refund(connection: Connection, conversion_ids: Collection[int], caps: CapBook) -> None:
    """Apply the held refunds of conversions if possible. Call it within a transaction."""
    held = await _held_refunds(connection, conversion_ids)
    if not held:
        return
    facts, missing = await Facts.read(connection, held), MissingClicks(connection)
    done = [
        (postback, await _PostbackApplier(connection, facts, caps, postback).take(missing))
        for postback in held
    ]
    await _log(
        connection,
        facts,
        [(postback, applied) for postback, applied in done if applied.result != Result.HELD],
    )


async def _held_refunds(connection: Connection, conversion_ids: Collection[int]) -> list[Postback]:
    """The held refunds of some conversions' clicks, except those of other orders."""
    changed = await connection.fetch(_CHANGED, list(conversion_ids))
    held = await postback_log.held_refunds(connection, {row["click_hash"] for row in changed})
    if any(row["is_only_one"] for row in changed):  # a refund with any order id is of it
        return held
    orders = {row["order_id"] for row in changed}
    return [one for one in held if one.order_id is None or not orders.isdisjoint(one.order_texts)]


async def give_up(connection: Connection, postback: Postback, why: str) -> None:
    """Log a postback that the tables cannot hold."""
    applied = Applied(postback.hash, Result.REJECTED, f"cannot be stored: {why}")
    await results.log(connection, [(postback, applied, postback.click_hash)])


async def amend(connection: Connection, postback: Postback, conversion_id: int, author: str) -> Applied:
    """Apply the operator's postback to one conversion and log it. Its order id does not matter.

    Call it within a transaction.
    """
    await lock(connection)
    if postback.status is ConversionStatus.APPROVED:
        await connection.execute(SELL_AGAIN, [conversion_id])
    facts = await Facts.read(connection, [postback])
    caps = CapBook(connection)
    taker = _PostbackApplier(connection, facts, caps, postback, author, by_operator=True)
    applied = await taker.take_of(Existing.of(await connection.fetchrow(ONE, conversion_id)))
    await _log(connection, facts, [(postback, applied)])
    await _refund_what_is_held(connection, facts, caps, [applied])
    return applied


class _PostbackApplier(NamedTuple):
    """One postback on its way into the tables."""

    connection: Connection
    facts: Facts
    caps: CapBook
    postback: Postback
    author: str = ""
    by_operator: bool = False  # and not by anybody else, not even over the API

    @property
    def click(self) -> ConvertedClick | None:
        return self.facts.clicks.get(self.facts.hash_of(self.postback) or "")

    @property
    def has_say(self) -> bool:
        """Whether this postback may change conversions of its stored click."""
        click = self.click
        if click is None:
            return False
        goal, _ = self.facts.goal_of(self.postback, click)
        why = refusal(self.postback, click, goal, self.facts.trust_of(click))
        return goal is not None and why is None and not self.is_unproven(click)

    def is_unproven(self, click: ConvertedClick) -> bool:
        return is_unproven(self.postback, click, self.facts.trust_of(click))

    async def take_of(self, existing: Existing) -> Applied:
        """Apply a postback to a conversion that was found by its id."""
        click = self.facts.clicks.get(existing.click_hash)
        goal = self.facts.goal_of(self.postback, click)[0] if click else None
        if click is None or goal is None:
            return self._rejected(Refusal.UNKNOWN_CLICK if click is None else Refusal.UNKNOWN_GOAL)
        return await self._amend(click, goal, existing)

    async def take(self, missing: MissingClicks) -> Applied:
        click = self.click
        if click is None and self.facts.is_ambiguous(self.postback):
            return self._rejected(Refusal.AMBIGUOUS_CLICK)
        if click is None:
            fate = await missing.fate_of(self.postback, self.facts.hash_of(self.postback))
            return Applied(self.postback.hash, fate.result, fate.reason, waits_until=fate.waits_until)
        goal, no_goal = self.facts.goal_of(self.postback, click)
        if why := refusal(self.postback, click, goal, self.facts.trust_of(click)):
            return self._rejected(why)
        status = self.facts.status_of(self.postback, click)
        if self.is_unproven(click):
            return await self._claim(click, goal, status)
        if self.postback.word and status is None and self.postback.source is not Source.PIXEL:
            return self._held(Refusal.UNKNOWN_STATUS)
        if goal is None:
            return self._held(no_goal)
        if fault := unreadable_refund(self.postback):
            return self._rejected(fault)
        resolved = self._replace(postback=self.postback._replace(status=status))
        applied = await (
            resolved._refund(click, goal) if resolved.postback.is_refund else resolved._settle(click, goal)
        )
        return applied if applied.result is Result.REJECTED else self._noting(applied)

    def _noting(self, applied: Applied) -> Applied:
        """The result with the unreadable values that did not count."""
        return applied._replace(reason=reasons.joined(applied.reason, reasons.left_out(self.postback)))

    async def _claim(
        self, click: ConvertedClick, goal: Goal | None, status: ConversionStatus | None
    ) -> Applied:
        """Apply a postback without proof: it makes a conversion on hold, or does nothing."""
        says_more = status is ConversionStatus.REJECTED or self.postback.is_refund
        if goal is None or says_more or (self.postback.word and status is None):
            return self._rejected(Refusal.UNPROVEN)
        existing = await self._find(click, goal)
        if existing is not None and existing.click_hash != click.hash:
            return self._rejected(Refusal.OTHER_CLICK)
        if existing is not None:
            why = "without a proof it changes nothing"
            return Applied(self.postback.hash, Result.UNCHANGED, why, existing.id)
        claim = self.postback._replace(status=ConversionStatus.HOLD, payout=None, revenue=None)
        return await self._replace(postback=claim)._create(click, goal)

    async def _settle(self, click: ConvertedClick, goal: Goal) -> Applied:
        existing = await self._find(click, goal)
        if existing is None:
            return await self._create(click, goal)
        if existing.order_id in self.postback.order_texts:  # it may be from before ids were trimmed
            self = self._replace(postback=self.postback._replace(order_id=existing.order_id))
        if existing.click_hash != click.hash:
            return await self._take_order(click, goal, existing)
        if why := await self._other(click, goal, existing):
            return self._rejected(why)
        return await self._amend(click, goal, existing)

    def parked(self, why: str) -> Applied:
        return Applied(self.postback.hash, Result.PARKED, why)

    def _rejected(self, why: str) -> Applied:
        return Applied(self.postback.hash, Result.REJECTED, why)

    def _held(self, why: Refusal) -> Applied:
        return Applied(self.postback.hash, Result.HELD, why, held_at=self.facts.version)

    async def _find(self, click: ConvertedClick, goal: Goal) -> Existing | None:
        postback = self.postback
        key = (click.advertiser_id, goal.id, postback.order_texts, click.hash, goal.multiple)
        row = await self.connection.fetchrow(FOUND, *key, postback.is_order_absent)
        return row and Existing.of(row)

    def _outranks(self, existing: Existing) -> bool:
        """Whether the order's conversion of a browser, or without a proof, gives way."""
        is_told = existing.told_by_browser and existing.status is ConversionStatus.PENDING
        is_claimed = existing.is_unproven and existing.status is ConversionStatus.HOLD
        return (is_told or is_claimed) and self.postback.source is not Source.PIXEL

    def _is_first_proof(self, existing: Existing) -> bool:
        """Whether the conversion is a stranger's word until now, so that nothing of it counts.

        The operator decides about what the stranger said.
        """
        return existing.is_unproven and self._outranks(existing) and not self.by_operator

    def _replaces(self, existing: Existing) -> bool:
        """Whether the order is unknown to the browser's conversion that its own postback replaced."""
        return self._outranks(existing) and self.postback.order_id not in (None, existing.order_id)

    async def _take_order(self, click: ConvertedClick, goal: Goal, existing: Existing) -> Applied:
        """Apply a postback whose order id belongs to another click."""
        if not self._outranks(existing):
            return self._rejected(Refusal.OTHER_CLICK)
        taking = self.connection.transaction()
        await taking.start()
        await self.connection.execute(GIVE_UP_ORDER, existing.id)
        applied = await self._settle(click, goal)
        await (taking.rollback() if applied.result is Result.REJECTED else taking.commit())
        return applied

    async def _other(self, click: ConvertedClick, goal: Goal, existing: Existing) -> Refusal | None:
        """Why the conversion that was found is not the one that the postback means."""
        is_rejection = self.postback.status is ConversionStatus.REJECTED
        if self._replaces(existing) or (self._is_first_proof(existing) and not is_rejection):
            return await self._refusal_of_new(click, goal)
        is_other = None not in (existing.order_id, self.postback.order_id) and (
            existing.order_id != self.postback.order_id
        )
        return Refusal.SECOND if is_other else None

    async def _refusal_of_new(self, click: ConvertedClick, goal: Goal) -> Refusal | None:
        parent = goal.parent_goal_id
        has_parent = parent is not None and await self.connection.fetchval(HAS_CONVERSION, click.hash, parent)
        return refusal_of_new(self.postback, click, goal, has_parent=has_parent)

    async def _create(self, click: ConvertedClick, goal: Goal) -> Applied:
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
        is_claim = self.is_unproven(click)
        if is_claim:
            money = money._replace(sale_by_browser=money.sale_amount is not None)
        counts = not (click.is_test or is_claim)
        is_over_cap = counts and await self.caps.count(click, status, money, postback.millis)
        is_unpriced = self._is_unpriced(goal, price)
        doubt = self._doubt(goal, price, money, is_over_cap=is_over_cap, is_unpriced=is_unpriced)
        doubt = reasons.joined(UNPROVEN if is_claim else "", doubt)
        if doubt and status is ConversionStatus.APPROVED:
            status = ConversionStatus.HOLD
        id_ = await self._insert(click, goal, status, money, is_over_cap=is_over_cap, is_unpriced=is_unpriced)
        await self._change(id_, None, status)
        return Applied(postback.hash, Result.STORED, doubt, id_)

    def _is_unpriced(self, goal: Goal, price: Price) -> bool:
        """Whether neither the goal nor the postback has a price."""
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
            CREATE,
            *(postback.hash, click.hash, click.id, click.status, goal.id, postback.order_id),
            *(postback.is_order_absent, goal.multiple, status, is_over_cap),
            *(postback.source is Source.PIXEL, is_unpriced, self.is_unproven(click)),
            *(postback.sale_status, at, at),
            *money,
            *(postback.external_id, *postback.adv_subs),
            *click[3:],
        )
        return id_

    async def _amend(self, click: ConvertedClick, goal: Goal, existing: Existing) -> Applied:
        postback = self.postback
        if postback.source is Source.PIXEL:
            return Applied(postback.hash, Result.UNCHANGED, "a browser changes nothing", existing.id)
        price = await goal_prices.price_of(self.connection, click, goal)
        requested = self._requested_status(goal, existing)
        is_unpaid = requested is ConversionStatus.REJECTED or self._is_settled(existing, requested)
        if fault := unreadable(postback, goal, price, is_unpaid=is_unpaid):
            return self._rejected(fault)
        money = self._amounts_after(goal, price, existing, requested)
        if money.is_too_much:
            return self._rejected(Refusal.TOO_MUCH)
        if money is not existing.amounts and (money.sale_amount or 0) < existing.refunded:
            return self._rejected(f"{show(existing.refunded)} of it is refunded, which is more")
        is_over_cap = existing.is_over_cap or await self._comes_over_cap(click, existing, requested, money)
        is_unpriced = existing.is_unpriced and self._is_unpriced(goal, price)
        doubt = self._doubt(goal, price, money, is_over_cap=is_over_cap, is_unpriced=is_unpriced)
        is_held = requested is ConversionStatus.APPROVED and self._is_held(existing, doubt)
        status = ConversionStatus.HOLD if is_held else requested or existing.status
        after = self._after(existing, status, money, is_over_cap=is_over_cap, is_unpriced=is_unpriced)
        reason = reasons.of_update(requested, existing, after, doubt, is_held=is_held)
        if money is existing.amounts:
            reason = reasons.joined(reason, reasons.too_late(postback, counting(postback, goal), existing))
        if after == existing:
            return Applied(postback.hash, Result.UNCHANGED, reason or "nothing new", existing.id)
        await self._store(click, existing, after)
        return Applied(postback.hash, Result.UPDATED, reason, existing.id)

    def _after(
        self,
        existing: Existing,
        status: ConversionStatus,
        money: Amounts,
        *,
        is_over_cap: bool,
        is_unpriced: bool,
    ) -> Existing:
        postback = self.postback
        if self._is_first_proof(existing):
            existing = existing._replace(order_id=None, sale_status="", own=("",) * len(existing.own))
        return existing._replace(
            order_id=self._order_after(existing),
            status=self._status_after(existing, status),
            is_over_cap=is_over_cap,
            told_by_browser=False,
            is_unpriced=is_unpriced,
            is_unproven=existing.is_unproven and self.by_operator and status is ConversionStatus.HOLD,
            sale_status=postback.sale_status or existing.sale_status,
            amounts=money,
            own=_merged((postback.external_id, *postback.adv_subs), existing.own),
        )

    async def _store(self, click: ConvertedClick, existing: Existing, after: Existing) -> None:
        values = [getattr(after, name) for name in AMENDED if name in Existing._fields]
        await self.connection.execute(AMEND, existing.id, *values, *after.amounts, *after.own)
        if after.status is not existing.status:
            await self._change(existing.id, existing.status, after.status)
            self.caps.forget()
            await self._close_full(click, existing)

    async def _close_full(self, click: ConvertedClick, existing: Existing) -> None:
        """A rejected conversion counts again, because caps have not counted it since."""
        if existing.status is ConversionStatus.REJECTED and not click.is_test:
            await self.caps.close_full([(click.offer_id, click.affiliate_id, existing.created_at)])

    async def _refund(self, click: ConvertedClick, goal: Goal) -> Applied:
        """Apply everything except a partial refund, then apply the refund or hold it.

        A refund of 0 needs an approved order. In other states senders always send that parameter.
        """
        existing = await self._find(click, goal)
        if not self.postback.refund_amount and (existing is None or not existing.is_approved):
            sale = self.postback._replace(refund_amount=None, refund_id=None)
            return await self._replace(postback=sale)._settle(click, goal)
        is_sale = self.postback.status not in (None, ConversionStatus.REJECTED)
        if not is_sale and (existing is None or existing.told_by_browser or existing.is_unproven):
            return self._hold_refund("its order is not there yet", None)
        applied = await self._replace(postback=_without_refund(self.postback))._settle(click, goal)
        if applied.conversion_id is None:
            return applied
        row = await self.connection.fetchrow(ONE, applied.conversion_id)
        return await self._apply(click, goal, Existing.of(row), applied)

    async def _apply(
        self, click: ConvertedClick, goal: Goal, existing: Existing, applied: Applied
    ) -> Applied:
        id_, amount, refund_id = existing.id, self.postback.refund_amount, self.postback.refund_id
        assert amount is not None
        if existing.status is ConversionStatus.REJECTED:
            return applied._replace(reason="it stays rejected")
        if refund_id and await self.connection.fetchval(IS_REFUNDED, id_, refund_id):
            return applied._replace(reason=f"refund {refund_id} was applied before")
        total = existing.refunded + amount if refund_id else max(existing.refunded, amount)
        if total == existing.refunded:
            return applied._replace(reason=f"{show(existing.refunded)} of it is refunded already")
        if why := reasons.of_held_refund(self.postback, existing, total):
            return self._hold_refund(why, id_)
        price = await goal_prices.price_of(self.connection, click, goal)
        await self._book_refund(existing, price, total)
        if refund_id:
            await self.connection.execute(NOTE_REFUND, id_, refund_id, amount, self.postback.hash)
        self.caps.forget()
        return applied._replace(result=Result.UPDATED, reason="")

    async def _book_refund(self, existing: Existing, price: Price, total: Decimal) -> None:
        """A full refund takes everything back. A partial refund leaves the price of the remaining sale.

        A full refund is a rejection. It keeps earlier refunds, because the operator may approve it again.
        """
        is_whole = total == existing.amounts.sale_amount
        status = ConversionStatus.REJECTED if is_whole else existing.status
        part = existing.refunded if is_whole else total
        money = existing.amounts
        if not is_whole:
            money = keeping(refunded(money, price, existing.refunded, total), money, existing.corrected)
        await self.connection.execute(REFUND, existing.id, part, status, money.payout, money.revenue)
        if is_whole:
            await self._change(existing.id, existing.status, status)
        else:
            await booking.correct(self.connection, {existing.id: "refund"}, self.author)

    def _hold_refund(self, why: str, conversion_id: int | None) -> Applied:
        return Applied(self.postback.hash, Result.HELD, why, conversion_id)

    async def _comes_over_cap(
        self,
        click: ConvertedClick,
        existing: Existing,
        requested: ConversionStatus | None,
        money: Amounts,
    ) -> bool:
        """Whether its amounts exceed a cap. Without a proof it was not counted until now."""
        if not existing.is_unproven or (self.by_operator and requested is None):
            return await self._grows_over_cap(click, existing, money)
        status, millis = requested or existing.status, int(existing.created_at.timestamp() * 1000)
        return not click.is_test and await self.caps.count(click, status, money, millis)

    async def _grows_over_cap(self, click: ConvertedClick, existing: Existing, money: Amounts) -> bool:
        if click.is_test or money == existing.amounts or self.postback.status is ConversionStatus.REJECTED:
            return False
        return await self.caps.grow(
            click, existing.amounts, money, int(existing.created_at.timestamp() * 1000)
        )

    def _order_after(self, existing: Existing) -> str | None:
        first, then = existing.order_id, self.postback.order_id
        return then or first if self._outranks(existing) else first or then

    def _requested_status(self, goal: Goal, existing: Existing) -> ConversionStatus | None:
        """The status to set.

        The first server postback after a pixel is treated like a new conversion.
        """
        return self.postback.status or (goal.initial_status if self._outranks(existing) else None)

    def _amounts_after(
        self, goal: Goal, price: Price, existing: Existing, requested: ConversionStatus | None
    ) -> Amounts:
        if self._is_settled(existing, requested):
            return existing.amounts
        before = None if self._replaces(existing) else existing.amounts
        is_unpriced = existing.is_unpriced and price.is_set
        money = amounts(self.postback.without_faults(), goal, price, before, is_unpriced=is_unpriced)
        has_refund = 0 < existing.refunded <= (money.sale_amount or 0)
        return refunded(money, price, Decimal(0), existing.refunded) if has_refund else money

    def _is_settled(self, existing: Existing, requested: ConversionStatus | None) -> bool:
        """Amounts change until the decision, and once more when the operator revives the conversion.

        What the operator has corrected, no postback changes.
        """
        if existing.corrected and not self.by_operator:
            return True
        is_revival = (existing.status, requested) == (ConversionStatus.REJECTED, ConversionStatus.APPROVED)
        return existing.is_decided and not (is_revival and self.by_operator)

    def _doubt(
        self, goal: Goal, price: Price, money: Amounts, *, is_over_cap: bool, is_unpriced: bool
    ) -> str:
        """Why the operator has to approve a conversion. Empty if it is not needed."""
        of_cap, of_price = "over a cap" if is_over_cap else "", NO_PRICE if is_unpriced else ""
        of_sale = price.doubt(money, counting(self.postback, goal))
        return reasons.joined(of_cap, of_price, of_sale)

    def _is_held(self, existing: Existing, doubt: str) -> bool:
        """Whether an approval puts it on hold, because the operator has to decide about the payment.

        Even the operator has to give an amount that only a browser sent, and to set a price.
        """
        if self.by_operator:
            is_open = BROWSERS_SALE in doubt or NO_PRICE in doubt
            return is_open and existing.status is not ConversionStatus.APPROVED
        return bool(doubt) and not existing.is_decided

    def _status_after(self, existing: Existing, requested: ConversionStatus) -> ConversionStatus:
        return next_status(existing.status, requested, by_operator=self.by_operator)

    async def _change(self, id_: int, before: ConversionStatus | None, after: ConversionStatus) -> None:
        by = self.postback.source, self.author, self.postback.hash
        await booking.change(self.connection, [id_], before, after, by)


def _without_refund(postback: Postback) -> Postback:
    """The postback without a partial refund. Its currency then is the refund's currency too."""
    status = None if postback.status is ConversionStatus.REJECTED else postback.status
    is_of_amounts = (postback.payout, postback.revenue, postback.sale_amount) != (None, None, None)
    currency = postback.currency if is_of_amounts else None
    return postback._replace(status=status, currency=currency, refund_amount=None, refund_id=None)


def _first_status(postback: Postback, goal: Goal) -> ConversionStatus:
    if postback.source is Source.PIXEL:
        return ConversionStatus.PENDING
    return postback.status or goal.initial_status


def _merged(new: Sequence[str], old: Sequence[str]) -> tuple[str, ...]:
    return tuple(text or known for text, known in zip(new, old, strict=True))


async def _log(connection: Connection, facts: Facts, done: Iterable[tuple[Postback, Applied]]) -> None:
    rows = ((postback, applied, facts.hash_of(postback)) for postback, applied in done)
    await results.log(connection, rows)
