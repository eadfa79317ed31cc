"""The offers, affiliates, countries, sources and devices with the most clicks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from markupsafe import Markup

from tracker.dashboard import charts
from tracker.dashboard.asking import ask, query_string
from tracker.dashboard.html import ROOT
from tracker.dashboard.overview.state import State
from tracker.dashboard.visit import Visit
from tracker.domain.access import OwnerKind
from tracker.people.seeing import token_of
from tracker.store.reports.groups import DIMENSIONS

REPORTS: Final = f"{ROOT}/reports"

_NAMES: Final[Mapping[str, str]] = {
    "offer": "Offers",
    "affiliate": "Affiliates",
    "country": "Countries",
    "affiliate_source": "Sources",
    "device_type": "Devices",
}
"""What is listed, by the group of its report."""

_KEPT: Final[Mapping[OwnerKind | None, Sequence[str]]] = {
    None: ("offer", "affiliate", "country", "device_type"),
    "affiliate": ("affiliate", "affiliate_source"),
    "advertiser": (),
}
"""The groups whose sums are kept, by whose clicks they are of. For others clicks are read one by one."""
MOST_READ: Final = 100_000
"""Up to this many clicks are read one by one."""
_ROWS = 5


class Place(NamedTuple):
    """One value of a group."""

    name: str
    href: str  # "" for clicks without a value
    clicks: int
    conversions: int  # approved
    strip: Markup


class Top(NamedTuple):
    """The values of a group with the most clicks."""

    name: str
    href: str  # of the whole report
    places: list[Place] | None  # None: too many clicks would have to be read


async def read(visit: Visit, state: State, groups: Iterable[str]) -> list[Top]:
    """The first places of some groups."""
    return await asyncio.gather(*(_top(visit, state, group) for group in groups))


def kept(visit: Visit) -> list[str]:
    """The groups that are quick at any number of clicks."""
    return [group for group in groups_of(visit) if group in _KEPT[_owner(visit)]]


def is_kept_by_time(visit: Visit) -> bool:
    """Whether sums by time are kept for the session's clicks in every zone. Else they are by day of UTC."""
    return _owner(visit) != "advertiser"


async def read_others(visit: Visit, state: State, gross: int) -> list[Top]:
    """The first places of the other groups, unless the span has too many clicks."""
    others = [group for group in groups_of(visit) if group not in _KEPT[_owner(visit)]]
    if gross <= MOST_READ:
        return await read(visit, state, others)
    return [Top(_NAMES[group], _report(state, group), None) for group in others]


def in_order(tops: Iterable[Top]) -> list[Top]:
    names = list(_NAMES.values())
    return sorted(tops, key=lambda top: names.index(top.name))


def groups_of(visit: Visit) -> list[str]:
    """The groups that the session sees."""
    kind = _owner(visit)
    return [group for group in _NAMES if kind is None or kind in DIMENSIONS[group].seen_by]


def _owner(visit: Visit) -> OwnerKind | None:
    assert visit.session
    owner = token_of(visit.session).owner
    return owner.kind if owner else None


async def _top(visit: Visit, state: State, group: str) -> Top:
    asked = {
        **state.parameters,
        "group_by": group,
        "sort": "-clicks",
        "limit": _ROWS,
        "measures": "clicks,conversions_approved",
    }
    rows = (await ask(visit, "/reports", asked)).body["data"]
    strips = charts.strips([row["clicks"] for row in rows])
    places = [_place(state, group, row, strip) for row, strip in zip(rows, strips, strict=True)]
    return Top(_NAMES[group], _report(state, group), places)


def _place(state: State, group: str, row: Mapping[str, Any], strip: Markup) -> Place:
    dimension = DIMENSIONS[group]
    value = row[dimension.key]
    name = row.get(dimension.name) or (str(value) if value not in (None, "") else "unknown")
    is_named = value not in (None, "")
    href = _report(state, state.span.grain, **{dimension.key: str(value)}) if is_named else ""
    return Place(name, href, row["clicks"], row["conversions_approved"], strip)


def _report(state: State, group: str, **filters: str) -> str:
    return f"{REPORTS}?{query_string({'group_by': group, **state.parameters, **filters})}"
