"""What names a click or a conversion: its hash, its id, or its id in an earlier tracker.

A hash of this tracker has one meaning. A number may be an id of this tracker and of earlier ones. If it means
several rows, nothing is guessed: `source` names the tracker.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import tzinfo
from typing import Any, Final, NamedTuple, TypeVar

from tracker.domain import normalise
from tracker.domain.click_id import ZERO_HASH, is_click_hash, millis_of
from tracker.domain.model import MAX_ID
from tracker.domain.normalise import trim
from tracker.edge.read.text import crop
from tracker.parameters import ParameterError, Query, Text, about
from tracker.reading.query import ZoneQuery
from tracker.reading.visibility import Visibility
from tracker.store import legacy_clicks
from tracker.store.clicks import list as click_list
from tracker.store.conversions import list as conversion_list
from tracker.store.db import Pool
from tracker.store.legacy_clicks import OWN, LegacyClick
from tracker.store.paging import Row
from tracker.store.token_owner import Owner

_SOURCE = (
    "The tracker whose id is meant: an earlier one by the name that its imports have, or `tracker` for this "
    "one. Only an id that means several needs it."
)
KEY = "The id, the hash (32 hexadecimal digits), or the id in an earlier tracker."
"""The description of a path's id."""

SomeQuery = TypeVar("SomeQuery", bound=Query)


class SourceQuery(Query):
    """Which of several rows with the same id is meant."""

    source: Text = about(_SOURCE)


class KeyQuery(SourceQuery, ZoneQuery):
    """Which row is meant, and how times are shown."""


class Kind(NamedTuple):
    """How rows of a table are found."""

    find: Callable[..., Awaitable[legacy_clicks.Found]]  # by earlier ids
    hash_of: Callable[[Pool, int], Awaitable[str | None]]  # by an id of this tracker
    one: Callable[[Pool, str, tzinfo, Any], Awaitable[Row | None]]  # by its hash, if it is visible


CLICKS: Final = Kind(legacy_clicks.find, click_list.hash_of, click_list.one)
CONVERSIONS: Final = Kind(legacy_clicks.find_conversions, conversion_list.hash_of, conversion_list.one)


async def find(
    pool: Pool, kind: Kind, key: str, source: str | None, zone: tzinfo, visibility: Visibility
) -> Row | None:
    """The row that a key means, if it exists and is visible.

    Raises:
        ParameterError: it means several.
    """
    key = crop(key, len(key))  # a path may have controls, which no text of PostgreSQL has
    if is_click_hash(key) and source in (None, OWN):
        own = await kind.one(pool, key, zone, visibility.narrow)
        if own is not None:
            return visibility.show([own])[0]
    meant = [*(await _look_up(pool, kind, [key], source, visibility.owner))[key]]
    if (id_ := _number(key)) and source in (None, OWN) and (hash_ := await kind.hash_of(pool, id_)):
        meant.append(LegacyClick(key, hash_, OWN))
    sources = {click.hash: click.source for click in meant}
    rows = {hash_: row for hash_ in sources if (row := await kind.one(pool, hash_, zone, visibility.narrow))}
    if key in rows:  # the hash of a row means that row
        rows = {key: rows[key]}
    if len(rows) > 1:
        raise _ambiguous("id", key, (sources[hash_] for hash_ in rows))
    return visibility.show([*rows.values()])[0] if rows else None


async def is_before(pool: Pool, key: str, source: str | None, owner: Owner | None, millis: int) -> bool:
    """Whether a key, as a hash or an id of an earlier tracker, means only clicks before a time.

    The answer does not tell whether there was such a click: every hash has a time.
    """
    if not millis:
        return False
    key = crop(key, len(key))
    meant = (await _look_up(pool, CLICKS, [key], source, owner))[key]
    return bool(meant) and all(millis_of(click.hash) < millis for click in meant)


async def by_hash(
    pool: Pool, query: SomeQuery, owner: Owner | None, kinds: Mapping[str, Kind], ids: Mapping[str, Kind]
) -> SomeQuery:
    """The query with hashes for the keys in its filters. `kinds` and `ids`: of its filters by hash and by id.

    Raises:
        ParameterError: a key means several rows.
    """
    source = getattr(query, "source", None)
    changed: dict[str, Any] = {}
    for name, kind in kinds.items():
        if keys := getattr(query, name, None):
            meant = await _look_up(pool, kind, keys, source, owner)
            hashes = [hash_ for key, clicks in meant.items() for hash_ in _hashes(name, key, clicks)]
            changed[name] = tuple(dict.fromkeys(hashes)) or (ZERO_HASH,)  # which no row has
    for name, kind in ids.items():
        if keys := getattr(query, name, None):
            await _check_ids(pool, name, kind, keys, source, owner)
    return query.model_copy(update=changed) if changed else query


async def _check_ids(
    pool: Pool, name: str, kind: Kind, ids: Iterable[int], source: str | None, owner: Owner | None
) -> None:
    """See that a filter by ids of this tracker does not mean those of an earlier one."""
    if source == OWN:
        return
    if source is not None:
        raise ParameterError({name: ["is an id of this tracker: send ids of an earlier one as a hash"]})
    for id_, clicks in (await kind.find(pool, [str(id_) for id_ in ids], owner)).items():
        if {click.hash for click in clicks} != {await kind.hash_of(pool, int(id_))}:
            raise _ambiguous(name, id_, (OWN, *(click.source for click in clicks)))


async def _look_up(
    pool: Pool, kind: Kind, keys: Iterable[str], source: str | None, owner: Owner | None
) -> dict[str, list[LegacyClick]]:
    """What keys mean as hashes and as ids of earlier trackers.

    An id of an earlier tracker may look like a hash. Then both are meant.
    """
    forms = {form for key in keys for form in (key, trim(key))}
    found = {} if source == OWN else await kind.find(pool, forms, owner)
    own = {
        id_: [click for click in clicks if source is None or click.is_of(source)]
        for id_, clicks in found.items()
    }
    both = {key: [*own.get(key, ()), *_as_hash(key)] for key in keys if source is None and is_click_hash(key)}
    return {key: own.get(key) or _as_hash(key) or own.get(trim(key), []) for key in keys} | both


def _as_hash(key: str) -> list[LegacyClick]:
    hash_ = normalise.hash_(key)
    return [LegacyClick(key, hash_, OWN)] if hash_ else []


def _hashes(name: str, key: str, clicks: Sequence[LegacyClick]) -> list[str]:
    """The hash that a key is, and the one of the click with that earlier id."""
    earlier = [click for click in clicks if click.source != OWN]
    own = [click.hash for click in clicks if click.source == OWN]
    return [*own, _only(name, key, earlier)] if earlier else own


def _only(name: str, key: str, clicks: Iterable[LegacyClick]) -> str:
    hash_ = legacy_clicks.only(clicks)
    if hash_ is None:
        raise _ambiguous(name, key, (click.source for click in clicks))
    return hash_


def _ambiguous(name: str, key: str, sources: Iterable[str]) -> ParameterError:
    known = " or ".join(f"source={source}" for source in sorted({*sources} - {""}))
    return ParameterError({name: [f"{key} is the id of several: send {known or 'another'}, or the hash"]})


def _number(key: str) -> int | None:
    key = trim(key)
    return int(key) if key.isascii() and key.isdigit() and len(key) <= len(str(MAX_ID)) else None
