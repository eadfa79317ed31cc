"""The rows that a batch of postbacks needs, read together."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from tracker.domain.click_id import millis_of
from tracker.domain.conversion import (
    Amounts,
    ConvertedClick,
    Goal,
    Refusal,
    Trust,
    goals_named,
)
from tracker.domain.postback import STATUSES, ConversionStatus, Postback, Source, StatusWords, meaning
from tracker.store import legacy_clicks
from tracker.store.clicks import kept
from tracker.store.conversions import status_words
from tracker.store.conversions.postback_line import Queued
from tracker.store.conversions.sql import CLICKS, CLICKS_OF_CONVERSIONS, GOALS, TRUST, VERSION
from tracker.store.db import Connection
from tracker.store.legacy_clicks import Found


class Existing(NamedTuple):
    """The conversion of a postback."""

    id: int
    click_hash: str
    created_at: datetime
    refunded: Decimal
    corrected: Sequence[str]  # amounts that the operator set
    order_id: str | None
    status: ConversionStatus
    is_over_cap: bool
    told_by_browser: bool  # and only a browser
    is_unpriced: bool
    is_unproven: bool
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
    def of(cls, row: Any) -> Existing:
        id_, click_hash, created_at, refunded_, corrected, order_id, status, *rest = row
        flags, rest = rest[:5], rest[5:]
        money, own = Amounts._make(rest[: len(Amounts._fields)]), tuple(rest[len(Amounts._fields) :])
        facts = click_hash.hex, created_at, refunded_, corrected, order_id, ConversionStatus(status)
        return cls._make((id_, *facts, *flags, money, own))


class Facts(NamedTuple):
    """The clicks that some postbacks name, with related rows. These do not change during the batch."""

    version: int  # of goals and words
    legacy: Found  # by earlier trackers' ids
    clicks: Mapping[str, ConvertedClick]
    goals: Mapping[int, Goal]  # goals of the clicks' offers, and goals that are named by id
    base_goals: Mapping[int, Goal]  # by offer
    words: StatusWords
    trust: Mapping[int, Trust]  # by advertiser

    @classmethod
    async def read(cls, connection: Connection, postbacks: Collection[Postback]) -> Facts:
        version = await connection.fetchval(VERSION)
        own = {hash_ for postback in postbacks if (hash_ := postback.click_hash)}
        clicks = await _clicks(connection, own)
        known = {click.hash: click.hash for click in clicks}
        others = [each for each in postbacks if known.get(each.click_hash or "") != each.click_text]
        legacy_ids = {id_ for postback in others for id_ in (postback.click_text, postback.click_id)}
        legacy = await legacy_clicks.find(connection, legacy_ids)
        earlier = {click.hash for found in legacy.values() for click in found}
        clicks += await _clicks(connection, earlier - known.keys())
        goal_ids = [postback.goal_id for postback in postbacks if postback.goal_id is not None]
        rows = await connection.fetch(GOALS, goal_ids, list({click.offer_id for click in clicks}))
        goals = [(_goal(row), row["is_base"]) for row in rows]
        words = await status_words.read(connection, {postback.word for postback in postbacks})
        trust = await connection.fetch(TRUST, list({click.advertiser_id for click in clicks}))
        return cls(
            version,
            legacy,
            {click.hash: click for click in clicks},
            {goal.id: goal for goal, _ in goals},
            {goal.offer_id: goal for goal, is_base in goals if is_base},
            words,
            {id_: Trust(*rest) for id_, *rest in trust},
        )

    def plus(self, others: Facts) -> Facts:
        return Facts(
            self.version,
            {**self.legacy, **others.legacy},
            {**self.clicks, **others.clicks},
            {**self.goals, **others.goals},
            {**self.base_goals, **others.base_goals},
            {**self.words, **others.words},
            {**self.trust, **others.trust},
        )

    def clicks_of(self, queue: Iterable[Queued]) -> dict[str, ConvertedClick | None]:
        """The stored clicks, by the postbacks that name them."""
        return {one.postback.hash: self.clicks.get(self.hash_of(one.postback) or "") for one in queue}

    def hash_of(self, postback: Postback) -> str | None:
        """The hash of the click that a postback names. None if it names none, or several."""
        meant = self._meant(postback)
        return meant.pop() if len(meant) == 1 else None

    def is_ambiguous(self, postback: Postback) -> bool:
        """Whether its click id is that of several clicks."""
        return len(self._meant(postback)) > 1

    def _meant(self, postback: Postback) -> set[str]:
        """The hashes that a click id may mean.

        An earlier tracker's id is looked up as it was written, then trimmed. Earlier versions took a hash in
        another form than ours for such an id. An id that looks like a hash is one if its click is there.
        """
        own = {postback.click_hash} if postback.click_hash else set()
        return (
            self._earlier(postback, postback.click_text) or own or self._earlier(postback, postback.click_id)
        )

    def _earlier(self, postback: Postback, legacy_id: str) -> set[str]:
        """The clicks with an earlier id. Of several only those of the sender count, if it is proven."""
        source, advertiser_id = postback.click_source, postback.click_advertiser_id
        meant = {click.hash for click in self.legacy.get(legacy_id, ()) if not source or click.is_of(source)}
        if len(meant) == 1 or advertiser_id is None:
            return meant
        return {
            hash_
            for hash_ in meant
            if (click := self.clicks.get(hash_)) and click.advertiser_id == advertiser_id
        }

    def goal_of(self, postback: Postback, click: ConvertedClick) -> tuple[Goal | None, Refusal]:
        """The goal of a postback, or why it is unknown."""
        if not postback.goal:
            return self.base_goals.get(click.offer_id), Refusal.UNKNOWN_GOAL
        own = [goal for goal in self.goals.values() if goal.offer_id == click.offer_id]
        named = goals_named(postback.goal, own)
        if len(named) > 1:
            return None, Refusal.AMBIGUOUS_GOAL
        return (named[0] if named else self.goals.get(postback.goal_id or 0)), Refusal.UNKNOWN_GOAL

    def status_of(self, postback: Postback, click: ConvertedClick) -> ConversionStatus | None:
        """The status of a postback's word.

        A status' own name over the API is not looked up as an advertiser's word. Neither is one that the
        postback's form decides.
        """
        if postback.form and postback.form.status:
            return postback.form.status
        if postback.source is Source.API and postback.word in STATUSES:
            return postback.status
        return meaning(postback.word, click.advertiser_id, self.words)

    def trust_of(self, click: ConvertedClick) -> Trust:
        return self.trust.get(click.advertiser_id, _NO_TRUST)


async def _clicks(connection: Connection, hashes: Collection[str]) -> list[ConvertedClick]:
    """Stored clicks, and what conversions have of clicks whose rows are not kept any more."""
    rows = await connection.fetch(CLICKS, list(hashes)) if hashes else []
    clicks = [ConvertedClick._make(row) for row in rows]
    missing = {*hashes}.difference(click.hash for click in clicks)
    if missing:
        since = await kept.since(connection)
        gone = [hash_ for hash_ in missing if millis_of(hash_) < since]
        rows = await connection.fetch(CLICKS_OF_CONVERSIONS, gone) if gone else []
        clicks += map(ConvertedClick._make, rows)
    return clicks


_NO_TRUST = Trust(True, ())


def _goal(row: Any) -> Goal:
    goal = Goal._make(tuple(row)[:-1])
    return goal._replace(initial_status=ConversionStatus(goal.initial_status))
