"""Marks of charts: what was changed or noted in a span, each in one line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Final, NamedTuple

from pydantic import Field

from tracker.catalogue import advertisers_affiliates, goals, offers, traffic
from tracker.catalogue.resource import Resource
from tracker.domain.local_time import first_second, in_zone, last_second
from tracker.parameters import From, ParameterError, To
from tracker.reading.query import ZoneQuery
from tracker.store import marks
from tracker.store.catalogue.edit import Row
from tracker.store.db import Pool
from tracker.store.marks import MOST_MARKS, Happened

_DEFAULT_SPAN = timedelta(days=7)
_LAST_SECOND = 253_000_000_000  # in the year 9987
_LONGEST_VALUE = 40  # characters of a value that is shown
_ACTIONS = {"create": "added", "delete": "deleted", "update": "changed"}

_NOUNS: Final[Mapping[str, str]] = {
    "offer": "offer",
    "offer_url": "URL",
    "offer_affiliate": "affiliate",
    "cap": "cap",
    "goal": "goal",
    "goal_terms": "terms",
    "affiliate": "affiliate",
    "advertiser": "advertiser",
    "block": "block",
    "deployment": "network",
}
"""What charts mark: changes that may move the numbers, by table."""
_PARENTS = {"offers": "offer", "goals": "goal"}
_RESOURCES: Mapping[str, Resource] = {
    resource.table.name: resource
    for module in (advertisers_affiliates, offers, goals, traffic)
    for resource in module.RESOURCES
    if resource.table.name in _NOUNS
}


class MarksQuery(ZoneQuery):
    """Which span."""

    from_: From = Field(
        None, alias="from", description="Its begin, as local time. Default: 7 days before `to`."
    )
    to: To = Field(None, description="Its last second, as local time. Default: now.")

    def span(self, network_zone: str, now: datetime) -> tuple[datetime, datetime]:
        """The begin of the span and its end, exclusive.

        Raises:
            ParameterError: it has no second.
        """
        zone = self.zone(network_zone)
        end = now if self.to is None else _time(last_second(self.to, zone) + 1)
        start = _time(first_second(self.from_, zone)) if self.from_ else end - _DEFAULT_SPAN
        if start >= end:
            raise ParameterError({"from": ["is after to (default: now)"]})
        return start, end


def _time(second: int) -> datetime:
    """The time of a Unix second, or the nearest one that a calendar has in every zone."""
    return datetime.fromtimestamp(min(max(second, 0), _LAST_SECOND), UTC)


class Marks(NamedTuple):
    """What happened, in its order."""

    rows: list[Row]
    is_whole: bool  # False: what happened first is left out


async def read(pool: Pool, span: tuple[datetime, datetime], zone: tzinfo, *, hides_money: bool) -> Marks:
    """The marks of a span. Amounts are left out for a reader who does not see money."""
    found = await marks.read(pool, *span, _RESOURCES)
    rows = [_row(happened, zone, text) for happened, text in _told(found[:MOST_MARKS], hides_money)]
    return Marks(rows[::-1], len(found) <= MOST_MARKS)


def _told(found: list[Happened], hides_money: bool) -> Iterator[tuple[Happened, str]]:
    for happened in found:
        text = happened.path if happened.note_id is not None else text_of(happened, hides_money=hides_money)
        if text:
            yield happened, text


def _row(happened: Happened, zone: tzinfo, text: str) -> Row:
    is_one = happened.note_id is None and happened.number == 1
    return {
        "at": in_zone(happened.at, zone).isoformat(),
        "kind": "change" if happened.note_id is None else "note",
        "text": text,
        "author": happened.author,
        "path": happened.path if is_one else None,
        "note_id": happened.note_id,
    }


def text_of(change: Happened, *, hides_money: bool) -> str:
    """A change in one line, such as "Offer 3 (Puzzle Quest) paused". "" if it is about hidden money only."""
    resource = _RESOURCES[change.resource]
    if change.number > 1:
        return "" if hides_money and resource.is_of_money else _many(change)
    before, after = change.before, change.after
    if hides_money:
        before, after = (row and resource.without_money(row) for row in (before, after))
        if before is None and after is None:
            return ""
    if change.action != "update" or before is None or after is None:
        return f"{_subject(change)} {_ACTIONS[change.action]}"
    return _update(_subject(change), before, after)


def _many(change: Happened) -> str:
    noun = _NOUNS[change.resource]
    return f"{change.number} {noun if noun.endswith('s') else f'{noun}s'} {_ACTIONS[change.action]}"


def _subject(change: Happened) -> str:
    return subject(_NOUNS[change.resource], change.path, change.after or change.before or {})


def subject(noun: str, path: str, row: Mapping[str, Any]) -> str:
    """The changed object at a path of the audit trail: its kind, its id, its name, and its parent."""
    parts = path.split("/")
    id_ = f" {parts[-1]}" if len(parts) > 1 else ""
    name = row.get("name")
    of = f" of {_PARENTS.get(parts[0], parts[0])} {parts[1]}" if len(parts) > 2 else ""
    return f"{noun[0].upper()}{noun[1:]}{id_}{f' ({name})' if name else ''}{of}"


def _update(subject: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    changed = {
        field: (before[field], value)
        for field, value in after.items()
        if field in before and before[field] != value and field != "version"
    }
    if "is_archived" in changed:
        return f"{subject} {'archived' if after['is_archived'] else 'restored'}"
    if changed.keys() == {"status"}:
        return f"{subject} {'is active again' if after['status'] == 'active' else after['status']}"
    return (
        f"{subject} changed: {', '.join(_field(field, *values) for field, values in changed.items())}"
        if changed
        else ""
    )


def _field(field: str, before: object, after: object) -> str:
    shown = [_value(value) for value in (before, after)]
    return f"{field} {' → '.join(shown)}" if all(shown) else field


def _value(value: object) -> str:
    """A short value. "" for others."""
    if value is None or value == "":
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value) if isinstance(value, (str, int, float)) and len(str(value)) <= _LONGEST_VALUE else ""
