"""A click as lists and exports show it: keys, their SQL, and the columns from its conversions."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, tzinfo
from functools import lru_cache
from typing import Final, NamedTuple

import asyncpg
import orjson

from tracker.domain.click_fields import ADV_SUBS, FIELDS, STORED, Field, Filled, Shown
from tracker.domain.click_id import millis_of
from tracker.store import legacy_clicks
from tracker.store.paging import Row
from tracker.store.token_owner import Owner, visible_offers

_HEX = "encode(uuid_send({0}), 'hex')"
_OR_NULL = "NULLIF({0}, '')"
_SQL: Final[Mapping[Shown, str]] = {
    Shown.AS_IS: "{0}",
    Shown.NULL_IF_BLANK: _OR_NULL,
    Shown.HASH: _HEX,
    Shown.NUMBER: "lpad(to_hex({0}), 16, '0')",
    Shown.NAME: "of_{1}.name",
    Shown.LEGACY: "earlier.{0}",
    Shown.COMPUTED: "",
}


def column(field: Field) -> str:
    """A key in SQL."""
    return _SQL[field.shown].format(field.name, field.name.removesuffix("_name"))


_COLUMNS: Final[dict[str, str]] = {field.name: column(field) for field in FIELDS}
"""The keys of a row in SQL, in their order."""

KEYS = tuple(_COLUMNS)
"""The keys of a row, in their order."""

_FLAGS = frozenset(field.name for field in STORED if field.kind is bool)
TEXTS = tuple(field.name for field in FIELDS if field.shown_kind is str and field.name != "created_at")
"""Keys with texts or null as values. The time is not in the table."""

# OFFSET 0: each name is looked up once, although the planner would rather read all affiliates.
_NAME = "LEFT JOIN LATERAL (SELECT name FROM {0} WHERE id = c.{0}_id AND {1} OFFSET 0) AS of_{0} ON true"

_EARLIER = legacy_clicks.JOINED.format("c.hash")
_OF_EARLIER = frozenset(field.name for field in FIELDS if field.shown is Shown.LEGACY)

# An owner sees a visitor's first click only if that click is its own too.
_OWN_GROUP = f"CASE WHEN group_hash = hash OR group_hash = ANY ({{}}) THEN {_HEX.format('group_hash')} END"
# A click that was forwarded without an offer URL went to the network's URL for refused clicks.
_OWN_REDIRECT = f"""
CASE WHEN status <> 'forwarded' OR offer_url_id IS NOT NULL THEN {_OR_NULL.format("redirected_link")} END"""

_RARE = tuple(field.name for field in STORED if field.filled is Filled.RARELY)
"""Keys that most clicks lack. They are one column, which is null for these clicks."""

# The columns from conversions: each from the last conversion that has a value.
_TOLD = ("sale_status", "advertiser_external_id", *ADV_SUBS)
_CONVERSIONS = f"""
(SELECT json_agg(json_build_array({", ".join(_TOLD)}) ORDER BY updated_at, id)::text
 FROM conversion WHERE click_hash = c.hash)"""  # noqa: S608

_USUAL = tuple(key for key, column in _COLUMNS.items() if column and key not in _RARE)
_BLANK: Final[Row] = {field.name: field.shown_blank for field in FIELDS}
"""The default values of a row, before columns and conversions."""

_RARE_COLUMN = f"""
CASE WHEN concat({", ".join(_RARE)}) <> ''
     THEN json_build_array({", ".join(_COLUMNS[key] for key in _RARE)})::text END"""


class Viewer(NamedTuple):
    """The owner of a token, who sees only its own clicks."""

    owner: Owner
    firsts: str  # a parameter (uuid[]): first clicks of visitors that are the owner's own


def _columns(viewer: Viewer | None) -> Mapping[str, str]:
    """The keys in SQL as a viewer sees them. None: the network."""
    if viewer is None:
        return _COLUMNS
    own = {"group_hash": _OWN_GROUP.format(viewer.firsts)}
    if viewer.owner.kind == "advertiser":
        own["redirected_link"] = _OWN_REDIRECT
    return {**_COLUMNS, **own}


def _json_column(key: str, column: str) -> str:
    if key == "sale_status":
        return "'New'"
    if key == "has_conversions":
        return "false::text"
    return f"{column or 'NULL'}{'::text' if key in _FLAGS else ''}"


def _select(shown: str, clicks: str, sort: str, viewer: Viewer | None, keys: Collection[str]) -> str:
    """The clicks are a CTE: to PostgreSQL a subquery. Citus may read them before it joins other tables."""
    conditions = {"offer": visible_offers(viewer and viewer.owner), "advertiser": "true", "affiliate": "true"}
    joins = [_NAME.format(table, condition) for table, condition in conditions.items()]
    if not _OF_EARLIER.isdisjoint(keys):
        joins.append(_EARLIER)
    return f"WITH c AS ({clicks}) SELECT {shown} FROM c {' '.join(joins)} ORDER BY c.{sort}"  # noqa: S608


def select(clicks: str, sort: str, viewer: Viewer | None) -> str:
    """A query of the records of some clicks for `row`, as a viewer sees them. None: the network."""
    columns = _columns(viewer)
    usual = ", ".join(f"{columns[key]} AS {key}" for key in _USUAL)
    return _select(f"{usual}, {_RARE_COLUMN}, {_CONVERSIONS}", clicks, sort, viewer, KEYS)


def select_json(clicks: str, sort: str, viewer: Viewer | None, keys: Collection[str]) -> str:
    """A query of columns that COPY can write as JSON values, with one more for the conversions or null.

    created_at is null, and the other columns do not contain the conversions' values yet.
    """
    columns = _columns(viewer)
    own = ", ".join(f"{_json_column(key, columns[key])} AS {key}" for key in keys)
    return _select(f"{own}, {_CONVERSIONS}", clicks, sort, viewer, keys)


def row(record: asyncpg.Record, zone: tzinfo) -> Row:
    *usual, rare, conversions = record
    facts = _BLANK.copy()
    facts.update(zip(_USUAL, usual, strict=True))
    facts["created_at"] = local_second(millis_of(record["hash"]) // 1000, zone)
    if rare is not None:
        facts.update(zip(_RARE, orjson.loads(rare), strict=True))
    if conversions is not None:
        tell(facts, orjson.loads(conversions))
    return facts


def tell(row: Row, conversions: list[list[str]]) -> None:
    """Complete a click with the values of its conversions. The link's own adv_sub* stay."""
    shown = {
        name: text for conversion in conversions for name, text in zip(_TOLD, conversion, strict=True) if text
    }
    own = {name: row[name] for name in ADV_SUBS if row.get(name) is not None}
    row.update({**shown, **own, "has_conversions": True})


_TO_THE_SECOND = len("YYYY-MM-DD HH:MM:SS")


def local_second(instant: float, zone: tzinfo) -> str:
    """A moment (Unix seconds) as lists show it, to the second."""
    minute, second = divmod(int(instant), 60)
    start = _minute(minute, zone)
    # Since 1972 zones are ahead of UTC by whole minutes.
    return f"{start[:-2]}{second:02}" if start.endswith("00") else _second(int(instant), zone)


@lru_cache(4096)  # rows read together are often of one minute, and this takes longer than the rest of a row
def _minute(minute: int, zone: tzinfo) -> str:
    return _second(minute * 60, zone)


def _second(second: int, zone: tzinfo) -> str:
    return datetime.fromtimestamp(second, zone).isoformat(" ")[:_TO_THE_SECOND]
