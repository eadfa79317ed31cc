"""Finds clicks by the ids that they have in earlier trackers.

An id belongs to a source, the operator's name of its tracker. Ids of the API, and of imports by earlier
versions, are stored without one. A hash that was made from a source's name tells it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from tracker.domain.click_id import is_legacy_hash
from tracker.store.db import Connection, Pool

_FIND = (
    "SELECT legacy_id, encode(uuid_send(hash), 'hex'), source FROM legacy_click WHERE legacy_id = ANY ($1)"
)


class LegacyClick(NamedTuple):
    legacy_id: str
    hash: str
    source: str  # "": not noted

    def is_of(self, source: str) -> bool:
        """Whether the id is one of a source."""
        return self.source == source or (
            not self.source and is_legacy_hash(self.hash, source, self.legacy_id)
        )


async def find(source: Connection | Pool, legacy_ids: Collection[str]) -> Mapping[str, Sequence[LegacyClick]]:
    """The clicks with some earlier ids, of all sources, by id."""
    found = defaultdict(list)
    for row in await source.fetch(_FIND, list(legacy_ids)) if legacy_ids else ():
        click = LegacyClick._make(row)
        found[click.legacy_id].append(click)
    return found


def only(found: Iterable[LegacyClick]) -> str | None:
    """The hash of the click that an id means, if it means one."""
    hashes = {click.hash for click in found}
    return hashes.pop() if len(hashes) == 1 else None
