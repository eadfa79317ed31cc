"""Saved rows that this version treats differently than the one that saved them: `tracker doctor --upgrade`.

No migration changes saved rows. A check finds the rows of one kind and says what they do unchanged. If a
change is safe, the concern contains it, and `tracker doctor --fix` makes it.

To add a check, add a module here with a function `async def find(connection) -> list[Concern]`, and a line in
CHECKS. Each is about one kind of row.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from tracker.ops.upgrade import addresses, device_ids, goals, names, order_ids, targeting, urls, words
from tracker.ops.upgrade.concern import Concern
from tracker.store.db import Connection

Check = Callable[[Connection], Awaitable[list[Concern]]]

CHECKS: Mapping[str, Check] = {
    "targeting": targeting.find,
    "goal-terms": targeting.find_terms,
    "urls": urls.find,
    "names": names.find,
    "order-ids": order_ids.find,
    "goals": goals.find,
    "goal-names": goals.find_names,
    "windows": goals.find_windows,
    "amounts": goals.find_amounts,
    "booked-at-0": goals.find_booked,
    "device-ids": device_ids.find,
    "addresses": addresses.find,
    "words": words.find,
}
"""Each check by its name. The first four read only the catalogue, and are fast."""

OF_CATALOGUE = ("targeting", "goal-terms", "urls", "names")


async def concerns(connection: Connection, *names: str) -> dict[str, list[Concern]]:
    """The findings of the named checks, or of all checks."""
    return {name: await CHECKS[name](connection) for name in names or CHECKS}
