"""Goals: payouts, windows, and their names in postbacks. Only the operator can decide these."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from itertools import groupby

from tracker.domain.conversion import goals_named
from tracker.domain.money import show
from tracker.ops.upgrade.concern import Concern
from tracker.store import doubtful_rows
from tracker.store.conversions import goal_prices
from tracker.store.conversions.goal_prices import FineAmount, Unpriced
from tracker.store.db import Connection
from tracker.store.doubtful_rows import BookedAt0, NamedGoal


async def find(connection: Connection) -> list[Concern]:
    """Active goals without a price, and goals at 0 if it is unknown whether somebody set that price."""
    unpriced = [_unpriced(goal) for goal in await goal_prices.without_price(connection)]
    at_0 = [
        Concern(
            f"offers/{goal.offer_id}/goals/{goal.id}",
            f"goal {goal.name} of offer {goal.offer_name} pays 0, and it is unknown whether somebody set "
            "that: if not, set is_priced=false, and conversions wait on hold for a price",
        )
        for goal in await doubtful_rows.goals_at_0(connection)
    ]
    return unpriced + at_0


async def find_amounts(connection: Connection) -> list[Concern]:
    """Fixed amounts that are too fine for their currency."""
    return [_fine(fine) for fine in await goal_prices.finer_than_units(connection)]


async def find_windows(connection: Connection) -> list[Concern]:
    """Windows of goals with a parent. Earlier versions did not apply them."""
    return [
        Concern(
            f"offers/{goal.offer_id}/goals/{goal.id}",
            f"goal {goal.name} has parent goal {goal.parent_goal_id} and a click_window of "
            f"{goal.click_window} s, which earlier versions ignored: now it refuses later conversions "
            "(click_window=null removes it)",
        )
        for goal in await doubtful_rows.child_windows(connection)
    ]


async def find_names(connection: Connection) -> list[Concern]:
    """Names that mean several goals of an offer, or another goal. Earlier versions did not read names."""
    goals = await doubtful_rows.named_goals(connection)
    return [
        concern for _, own in groupby(goals, lambda goal: goal.offer_id) for concern in _of_offer(list(own))
    ]


async def find_booked(connection: Connection) -> list[Concern]:
    """Conversions that were approved at 0 because their goal had no price."""
    return [_booked(booked) for booked in await doubtful_rows.booked_at_0(connection)]


def _unpriced(goal: Unpriced) -> Concern:
    return Concern(
        f"offers/{goal.offer_id}/goals/{goal.goal_id}",
        f"goal {goal.goal_name} of offer {goal.offer_name} has no price, and {goal.on_hold} conversions wait "
        f"for it: set one, 0 included (tracker goals set {goal.offer_id} {goal.goal_id} payout=…)",
    )


def _fine(fine: FineAmount) -> Concern:
    goal = f"offers/{fine.offer_id}/goals/{fine.goal_id}"
    where = f"goals/{fine.goal_id}/terms/{fine.terms_id}" if fine.terms_id else goal
    return Concern(where, f"{fine.side} {fine.text}: it is booked unchanged, and cannot be paid out")


def _of_offer(goals: list[NamedGoal]) -> Iterator[Concern]:
    for goal in goals:
        named = goals_named(goal.name, goals)
        where = f"offers/{goal.offer_id}/goals/{goal.id}"
        if len(named) > 1:
            ids = ", ".join(str(other.id) for other in named)
            yield Concern(
                where, f"name {goal.name!a} is of goals {ids}: postbacks with it are held. Give each a code"
            )
        elif named[0] is not goal:
            yield Concern(
                where, f"name {goal.name!a} means goal {named[0].id} in a postback, by its id or code"
            )


def _booked(booked: BookedAt0) -> Concern:
    price = "there is no price yet"
    if booked.currency is not None:
        price = f"by now their price is up to {show(booked.payout or Decimal(0))} {booked.currency}"
    return Concern(
        f"offers/{booked.offer_id}/goals/{booked.goal_id}",
        f"{booked.conversions} conversions, first {booked.first_id}, were approved at 0.00: {price}. "
        "Booked amounts stay, so settle the difference with the affiliates",
    )
