"""What reports group by: columns of clicks, a text computed of one, columns of conversions, and times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tracker.domain import click_fields
from tracker.domain.click_fields import ADVERTISER, AFFILIATE, BOTH


class Dimension(NamedTuple):
    """A group that is not a time. Its keys are texts, "" for null."""

    key: str  # its name in rows
    columns: tuple[str, ...]  # of clicks. () = only conversions have it, and the key of a click is ""
    of_click: str  # SQL
    of_conversion: str  # SQL, of a conversion with the columns of its click
    kind: type = str  # what a key is in rows
    is_nullable: bool = True
    names: str = ""  # the table that has names for its keys
    seen_by: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The key of the name in rows, or ""."""
        return self.key.removesuffix("id") + "name" if self.names else ""


_NAMED = {"offer": "offer", "requested_offer": "offer", "affiliate": "affiliate", "advertiser": "advertiser"}
# RFC 3986: scheme, "//", user, host. An address of IPv6 keeps its brackets.
_REFERRER_HOST = (
    r"coalesce(lower(substring(referrer FROM "
    r"'^[A-Za-z][A-Za-z0-9+.-]*://(?:[^/?#@]*@)?(\[[^]]*\]|[^/:?#]+)')), '')"
)


def _of(dimension: str, field: click_fields.Field) -> Dimension:
    text = f"coalesce({field.name}::text, '')"
    return Dimension(
        field.name,
        (field.name,),
        text,
        text,
        field.kind,
        field.is_nullable,
        _NAMED.get(dimension, ""),
        field.seen_by,
    )


DIMENSIONS: Mapping[str, Dimension] = {
    **{name: _of(name, field) for name, field in click_fields.DIMENSIONS.items()},
    "referrer_host": Dimension(
        "referrer_host", ("referrer",), _REFERRER_HOST, _REFERRER_HOST, seen_by=AFFILIATE
    ),
    "goal": Dimension("goal_id", (), "''", "goal_id::text", int, names="goal", seen_by=BOTH),
    "sale_status": Dimension("sale_status", (), "''", "sale_status", seen_by=ADVERTISER),
}

TIMES: Mapping[str, tuple[str, ...]] = {
    "month": (
        "(extract(year FROM date '1970-01-01' + ((second + ahead) / 86400)::integer) * 12 - 1"
        " + extract(month FROM date '1970-01-01' + ((second + ahead) / 86400)::integer))::integer",
    ),
    "week": ("((second + ahead) / 86400 + 3) / 7",),
    "day": ("(second + ahead) / 86400",),
    "hour": ("(second + ahead) / 3600", "ahead"),
}
"""The groups of time, the longest first, and their keys in SQL. They are numbers of local months since the
year 0, of weeks since Monday, 29 December 1969, of days and hours since 1970. An hour also has its offset,
`ahead`."""


class Key(NamedTuple):
    """A column of the answer: the key of a group, or one of the two of an hour."""

    column: str
    group: str
    sql: str  # of the key's columns in the parts, and of `second` and `ahead`

    @property
    def order(self) -> str:
        """SQL: what the key is sorted by."""
        is_number = self.group in DIMENSIONS and DIMENSIONS[self.group].kind is int
        return f"NULLIF({self.column}, '')::bigint" if is_number else self.column


def keys_of(groups: Sequence[str]) -> list[Key]:
    told = [(group, sql) for group in groups for sql in TIMES.get(group, (group,))]
    return [Key(f"key{number}", group, sql) for number, (group, sql) in enumerate(told)]
