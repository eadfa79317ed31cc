"""Goals for which nobody has set a price: their conversions wait on hold."""

from __future__ import annotations

from tracker.store import doubtful_rows
from tracker.store.doubtful_rows import UnpricedGoal
from tracker.store.pool import Connection
from tracker.upgrade.concern import Concern


async def find(connection: Connection) -> list[Concern]:
    """Active goals. What they pay is the operator's to say."""
    return [_of_goal(goal) for goal in await doubtful_rows.goals_without_price(connection)]


def _of_goal(goal: UnpricedGoal) -> Concern:
    return Concern(
        f"offers/{goal.offer_id}/goals/{goal.id}",
        f"goal {goal.name} of offer {goal.offer_name} has no price: set one, and 0 is one "
        f"(tracker goals set {goal.offer_id} {goal.id} payout=…)",
    )
