"""Finds clicks by the ids that they have in earlier trackers.

An id belongs to a source, the operator's name of its tracker. Ids of the API, and of imports by earlier
versions, are stored without one. A hash that was made from a source's name tells it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from tracker.domain.click_id import is_legacy_hash
from tracker.store.db import Connection, Pool
from tracker.store.token_owner import Owner

OWN: Final = "tracker"
"""The source of this tracker's own ids. No earlier tracker may have this name."""

_FIND = """
SELECT legacy_id, encode(uuid_send(hash), 'hex'), source FROM legacy_click
WHERE legacy_id = ANY ($1) ORDER BY source
"""
# GROUP BY: each click is looked up in its partition by its hash.
_FIND_OWN = """
SELECT legacy_id, encode(uuid_send(hash), 'hex'), source FROM legacy_click CROSS JOIN LATERAL (
    SELECT FROM click WHERE hash = legacy_click.hash AND {owner} = ANY ($2) GROUP BY hash
) AS own
WHERE legacy_id = ANY ($1) ORDER BY source
"""
_FIND_CONVERSIONS = """
SELECT legacy_id, encode(uuid_send(hash), 'hex'), coalesce(legacy_source, import_source, '') AS source
FROM conversion WHERE legacy_id = ANY ($1) AND {owner} = ANY ($2) ORDER BY source
"""

JOINED = """LEFT JOIN LATERAL (
    SELECT legacy_id, NULLIF(source, '') AS legacy_source FROM legacy_click
    WHERE hash = {} ORDER BY source, legacy_id LIMIT 1
) AS earlier ON true"""
"""SQL: joins the earlier id of the click with a hash, and its source. Nulls: it has none."""


class LegacyClick(NamedTuple):
    """A click, or a conversion, with an id of an earlier tracker."""

    legacy_id: str
    hash: str
    source: str  # "": not noted

    def is_of(self, source: str) -> bool:
        """Whether the id is one of a source."""
        return self.source == source or (
            not self.source and is_legacy_hash(self.hash, source, self.legacy_id)
        )


Found = Mapping[str, Sequence[LegacyClick]]
"""What some earlier ids mean, of all sources."""


async def find(pool: Connection | Pool, legacy_ids: Collection[str], owner: Owner | None = None) -> Found:
    """The clicks with some earlier ids. `owner`: only its own."""
    if not legacy_ids:
        return {}
    if owner is None:
        return _by_id(await pool.fetch(_FIND, list(legacy_ids)))
    return _by_id(await pool.fetch(_FIND_OWN.format(owner=owner.column), list(legacy_ids), owner.ids))


async def find_conversions(
    pool: Connection | Pool, legacy_ids: Collection[str], owner: Owner | None = None
) -> Found:
    """The conversions with some earlier ids. `owner`: only its own."""
    if not legacy_ids:
        return {}
    column, ids = ("0", (0,)) if owner is None else (owner.column, owner.ids)
    return _by_id(await pool.fetch(_FIND_CONVERSIONS.format(owner=column), list(legacy_ids), ids))


def _by_id(rows: Iterable[Any]) -> Found:
    found = defaultdict(list)
    for click in map(LegacyClick._make, rows):
        found[click.legacy_id].append(click)
    return found


def source_of(conversion: Mapping[str, Any]) -> str | None:
    """The source of a conversion's own earlier id, if it has one: its own, or the import's."""
    source: str | None = conversion["legacy_source"] or conversion["import_source"]
    return source


def only(found: Iterable[LegacyClick]) -> str | None:
    """The hash of the click that an id means, if it means one."""
    hashes = {click.hash for click in found}
    return hashes.pop() if len(hashes) == 1 else None
