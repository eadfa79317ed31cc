"""What this version sees differently in rows that an earlier one has saved: `tracker doctor --upgrade`.

No migration changes saved rows. A check finds the rows of one kind and says what they do as they stand. If a
change is safe, the concern carries it, and `tracker doctor --fix` makes it.

A further check is a module here with a function `async def find(connection) -> list[Concern]`, and a line in
CHECKS. Each is about one kind of row.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from tracker.store.pool import Connection
from tracker.upgrade import addresses, device_ids, goals, names, order_ids, targeting, urls, words
from tracker.upgrade.concern import Concern

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
"""By what they are about. The first four are about the catalogue alone, and quick."""

OF_CATALOGUE = ("targeting", "goal-terms", "urls", "names")


async def concerns(connection: Connection, *names: str) -> dict[str, list[Concern]]:
    """What the checks of these names find, all checks unless any is named."""
    return {name: await CHECKS[name](connection) for name in names or CHECKS}
