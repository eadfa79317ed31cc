"""Goals: what they pay, how late, and what postbacks call them. All of it is the operator's to decide."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from itertools import groupby

from tracker.conversion import goals_named
from tracker.money import show
from tracker.store import doubtful_rows, goal_prices
from tracker.store.doubtful_rows import BookedAt0, NamedGoal
from tracker.store.goal_prices import FineAmount, Unpriced
from tracker.store.pool import Connection
from tracker.upgrade.concern import Concern


async def find(connection: Connection) -> list[Concern]:
    """Active goals without a price, and those at 0 of which nobody can tell whether somebody set it."""
    unpriced = [_unpriced(goal) for goal in await goal_prices.without_price(connection)]
    at_0 = [
        Concern(
            f"offers/{goal.offer_id}/goals/{goal.id}",
            f"goal {goal.name} of offer {goal.offer_name} pays 0, and nothing tells whether somebody set it: "
            "if nobody did, set is_priced=false, and conversions wait on hold for a price",
        )
        for goal in await doubtful_rows.goals_at_0(connection)
    ]
    return unpriced + at_0


async def find_amounts(connection: Connection) -> list[Concern]:
    """Fixed amounts that are finer than the unit of their currency."""
    return [_fine(fine) for fine in await goal_prices.finer_than_units(connection)]


async def find_windows(connection: Connection) -> list[Concern]:
    """Windows of goals with a parent, which earlier versions did not heed."""
    return [
        Concern(
            f"offers/{goal.offer_id}/goals/{goal.id}",
            f"goal {goal.name} has a click_window of {goal.click_window} s beside parent goal "
            f"{goal.parent_goal_id}: later conversions are not made any more, and were before; "
            "click_window=null sets no end",
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
    """Conversions that were approved at 0, as nobody had set a price."""
    return [_booked(found) for found in await doubtful_rows.booked_at_0(connection)]


def _unpriced(goal: Unpriced) -> Concern:
    return Concern(
        f"offers/{goal.offer_id}/goals/{goal.goal_id}",
        f"goal {goal.goal_name} of offer {goal.offer_name} has no price, and {goal.on_hold} conversions wait "
        f"for it: set one, and 0 is one (tracker goals set {goal.offer_id} {goal.goal_id} payout=…)",
    )


def _fine(fine: FineAmount) -> Concern:
    goal = f"offers/{fine.offer_id}/goals/{fine.goal_id}"
    where = f"goals/{fine.goal_id}/terms/{fine.terms_id}" if fine.terms_id else goal
    return Concern(where, f"{fine.side} {fine.text}: it is booked as it is, and nobody can pay it out")


def _of_offer(goals: list[NamedGoal]) -> Iterator[Concern]:
    for goal in goals:
        named = goals_named(goal.name, goals)
        where = f"offers/{goal.offer_id}/goals/{goal.id}"
        if len(named) > 1:
            ids = ", ".join(str(other.id) for other in named)
            yield Concern(
                where, f"name {goal.name!a} is of goals {ids}: postbacks with it are held; give each a code"
            )
        elif named[0] is not goal:
            yield Concern(
                where, f"name {goal.name!a} means goal {named[0].id} in a postback, by its id or code"
            )


def _booked(found: BookedAt0) -> Concern:
    price = "there is no price yet"
    if found.currency is not None:
        price = f"by now their price is up to {show(found.payout or Decimal(0))} {found.currency}"
    return Concern(
        f"offers/{found.offer_id}/goals/{found.goal_id}",
        f"{found.conversions} conversions, first {found.first_id}, were approved at 0.00: {price}; "
        "what was booked stays, so settle the difference with the affiliates",
    )
