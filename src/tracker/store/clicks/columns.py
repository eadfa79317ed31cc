"""A click as lists and exports show it: keys, their SQL, and the columns from its conversions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, tzinfo
from functools import lru_cache
from typing import Final, NamedTuple

import asyncpg
import orjson

from tracker.domain.click_id import millis_of
from tracker.store.paging import Row
from tracker.store.token_owner import Owner, visible_offers

AFF_SUBS = ("aff_sub", *(f"aff_sub{n}" for n in range(2, 21)))
ADV_SUBS = ("adv_sub", *(f"adv_sub{n}" for n in range(2, 6)))


def _or_null(column: str) -> str:
    return f"NULLIF({column}, '')"


def _hex(column: str) -> str:
    return f"encode(uuid_send({column}), 'hex')"


_NO_COLUMN = ""

# The keys of a response in order: the reference API's, then ours. Absent text is "" in the table.
_COLUMNS: Final[dict[str, str]] = {
    "id": "id",
    "hash": _hex("hash"),
    "group_hash": _hex("group_hash"),
    "offer_id": "offer_id",
    "offer_name": "of_offer.name",
    "offer_url_id": "offer_url_id",
    "advertiser_id": "advertiser_id",
    "advertiser_name": "of_advertiser.name",
    "aff_group_id": "aff_group_id",
    "brand_id": "brand_id",
    "affiliate_id": "affiliate_id",
    "affiliate_name": "of_affiliate.name",
    "device_model": "device_model",
    "device_brand": "device_brand",
    "sale_status": _NO_COLUMN,
    "advertiser_external_id": _NO_COLUMN,
    "adv_sub": _or_null("adv_sub"),
    "adv_sub2": _or_null("adv_sub2"),
    "adv_sub3": _or_null("adv_sub3"),
    "adv_sub4": _or_null("adv_sub4"),
    "adv_sub5": _or_null("adv_sub5"),
    "device_os": "device_os",
    **{name: name for name in AFF_SUBS},
    "affiliate_source": "affiliate_source",
    "user_agent": _or_null("user_agent"),
    "browser": _or_null("browser"),
    "ip": _or_null("ip"),
    "device_os_version": "device_os_version",
    "platform": "platform",
    "mobile_carrier": "mobile_carrier",
    "country_code": "country_code",
    "region_code": "region_code",
    "external_id": _or_null("external_id"),
    "has_conversions": _NO_COLUMN,
    "requested_link": "requested_link",
    "redirected_link": _or_null("redirected_link"),
    "is_unique": "is_unique",
    "created_at": _NO_COLUMN,
    "status": "status",
    "reason": "reason",
    "is_bot": "is_bot",
    "bot_reason": "bot_reason",
    "is_test": "is_test",
    "verdict_late": "verdict_late",
    "requested_offer_id": "requested_offer_id",
    "requested_url_id": "requested_url_id",
    "referrer": _or_null("referrer"),
    "host": _or_null("host"),
    "language": _or_null("language"),
    "client_hints": _or_null("client_hints"),
    "gaid": _or_null("gaid"),
    "idfa": _or_null("idfa"),
    "device_type": _or_null("device_type"),
    "browser_version": _or_null("browser_version"),
    "city": "city",
    "isp": "isp",
    "fetch_dest": _or_null("fetch_dest"),
    "fetch_user": _or_null("fetch_user"),
    "visitor_key": "lpad(to_hex(visitor_key), 16, '0')",
}

KEYS = tuple(_COLUMNS)
"""The keys of a row, in their order."""

_FLAGS = ("is_unique", "is_bot", "is_test", "verdict_late")
_NO_TEXTS = frozenset(
    (
        *("id", "offer_id", "offer_url_id", "advertiser_id", "aff_group_id", "brand_id", "affiliate_id"),
        *("requested_offer_id", "requested_url_id", "reason", "has_conversions", "created_at", *_FLAGS),
    )
)
TEXTS = tuple(key for key in KEYS if key not in _NO_TEXTS)
"""Keys with texts or null as values."""

# OFFSET 0: each name is looked up once, although the planner would rather read all affiliates.
_NAME = "LEFT JOIN LATERAL (SELECT name FROM {0} WHERE id = c.{0}_id AND {1} OFFSET 0) AS of_{0} ON true"

# An owner sees a visitor's first click only if that click is its own too.
_OWN_GROUP = f"CASE WHEN group_hash = hash OR group_hash = ANY ({{}}) THEN {_hex('group_hash')} END"
# A click that was forwarded without an offer URL went to the network's URL for refused clicks.
_OWN_REDIRECT = f"""
CASE WHEN status <> 'forwarded' OR offer_url_id IS NOT NULL THEN {_or_null("redirected_link")} END"""

_RARE = (*ADV_SUBS, *AFF_SUBS[2:], "external_id", "requested_url_id", "client_hints", "gaid", "idfa")
"""Keys that most clicks lack. They are one column, which is null for these clicks."""

# The columns from conversions: each from the last conversion that has a value.
_TOLD = ("sale_status", "advertiser_external_id", *ADV_SUBS)
_CONVERSIONS = f"""
(SELECT json_agg(json_build_array({", ".join(_TOLD)}) ORDER BY updated_at, id)::text
 FROM conversion WHERE click_hash = c.hash)"""  # noqa: S608

_USUAL = tuple(key for key, column in _COLUMNS.items() if column and key not in _RARE)
_BLANK: Final[Row] = {
    **{key: "" if key in AFF_SUBS else None for key in KEYS},
    "sale_status": "New",
    "has_conversions": False,
}
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


def _from(clicks: str, sort: str, viewer: Viewer | None) -> str:
    conditions = {"offer": visible_offers(viewer and viewer.owner), "advertiser": "true", "affiliate": "true"}
    names = " ".join(_NAME.format(table, condition) for table, condition in conditions.items())
    return f"FROM ({clicks}) AS c {names} ORDER BY c.{sort}"


def select(clicks: str, sort: str, viewer: Viewer | None) -> str:
    """A query of the records of some clicks for `row`, as a viewer sees them. None: the network."""
    columns = _columns(viewer)
    usual = ", ".join(f"{columns[key]} AS {key}" for key in _USUAL)
    return f"SELECT {usual}, {_RARE_COLUMN}, {_CONVERSIONS} {_from(clicks, sort, viewer)}"


def select_json(clicks: str, sort: str, viewer: Viewer | None, keys: Iterable[str]) -> str:
    """A query of columns that COPY can write as JSON values, with one more for the conversions or null.

    created_at is null, and the other columns do not contain the conversions' values yet.
    """
    columns = _columns(viewer)
    own = ", ".join(f"{_json_column(key, columns[key])} AS {key}" for key in keys)
    return f"SELECT {own}, {_CONVERSIONS} {_from(clicks, sort, viewer)}"


def row(record: asyncpg.Record, zone: tzinfo) -> Row:
    *usual, rare, conversions = record
    told = _BLANK.copy()
    told.update(zip(_USUAL, usual, strict=True))
    told["created_at"] = local_second(millis_of(record["hash"]) // 1000, zone)
    if rare is not None:
        told.update(zip(_RARE, orjson.loads(rare), strict=True))
    if conversions is not None:
        tell(told, orjson.loads(conversions))
    return told


def tell(row: Row, conversions: list[list[str]]) -> None:
    """Complete a click with the values of its conversions. The link's own adv_sub* stay."""
    said = {
        name: text for conversion in conversions for name, text in zip(_TOLD, conversion, strict=True) if text
    }
    own = {name: row[name] for name in ADV_SUBS if row.get(name) is not None}
    row.update({**said, **own, "has_conversions": True})


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
