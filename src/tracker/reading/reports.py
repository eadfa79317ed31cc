"""Reports: their parameters, the store's request for them, and their rows as they are shown."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from collections.abc import Set as AbstractSet
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BeforeValidator, Field, WithJsonSchema

from tracker.domain.click_fields import DIMENSIONS
from tracker.domain.local_time import offsets
from tracker.domain.money import show
from tracker.parameters import ParameterError, choice
from tracker.reading.clicks import FilterQuery
from tracker.reading.query import EXCEL, SeparatorQuery
from tracker.reading.visibility import Visibility
from tracker.store.clicks.list import ClickFilter
from tracker.store.db import Pool
from tracker.store.paging import TOO_SLOW
from tracker.store.reports import report as reports
from tracker.store.reports.closes import ChangedSinceClose
from tracker.store.reports.conversions import COUNTS, KINDS
from tracker.store.reports.report import Group, Offset, Report, ReportRequest, Sums
from tracker.store.time_span import Span

_MOST_DAYS = 20 * 366
_EPOCH = date(1970, 1, 1).toordinal()

FIELDS = {**{time: time for time in reports.TIMES}, **reports.DIMENSIONS}
"""What a row calls its groups: as the click list does."""

_NAMES = {"offer": "offer_name", "affiliate": "affiliate_name"}
_COUNTS = tuple(f"conversions_{name}" for name in COUNTS)
_FIRST_COUNT = Sums._fields.index(next(iter(COUNTS)))
_OTHER = "(other)"
_FORMATS = ("json", "csv", "excel")


def groups_of(known: Collection[str]) -> Any:
    """The type of group_by: one or two of some groups."""

    def read(text: str) -> tuple[str, ...]:
        groups = tuple(text.split(","))
        if not 1 <= len(groups) <= 2 or len(set(groups)) < len(groups) or not set(known) >= set(groups):
            raise ValueError(f"is not one or two, separated by a comma, of: {', '.join(known)}")
        return groups

    one = f"({'|'.join(known)})"
    schema = {"type": "string", "pattern": f"^{one}(,{one})?$", "examples": ["offer", "day,country"]}
    return Annotated[
        tuple[str, ...],
        BeforeValidator(read),
        WithJsonSchema(schema),
        Field(description=f"One or two groups, separated by a comma: {', '.join(known)}."),
    ]


def _format(text: str) -> str:
    if text not in _FORMATS:
        raise ValueError(f"is not one of: {', '.join(_FORMATS)}")
    return text


class ReportQuery(FilterQuery, SeparatorQuery):
    """Which clicks, and how they are added up."""

    group_by: groups_of(FIELDS)  # type: ignore[valid-type]
    date_basis: choice("click", "conversion") = Field(  # type: ignore[valid-type]
        default="click",
        description="Whether conversions count at the time of their click or at their own time, in the "
        "time filters and in the groups day and hour. Clicks always count at their own time.",
    )
    format: Annotated[
        Literal["json", "csv", "excel"],
        BeforeValidator(_format),
        WithJsonSchema({"type": "string", "enum": list(_FORMATS)}),
    ] = Field(default="json", description=f"json, or csv: CSV with a header and without totals. {EXCEL}")


class TooManyClicksError(Exception):
    """A report has more clicks than can be read one by one in time. Fewer days or groups would help."""


async def request_of(
    pool: Pool, query: ReportQuery, network_zone: str, visibility: Visibility
) -> ReportRequest:
    """The store's request for a report.

    Raises:
        ParameterError: two parameters contradict each other, or there are too many days.
    """
    basis = query.date_basis
    clicks = visibility.narrow(query.clicks(network_zone))
    if reports.TIMES.keys().isdisjoint(query.group_by):
        return ReportRequest(clicks, query.group_by, basis=basis)
    clicks = _clamped(clicks, await reports.extent(pool, basis))
    low, high = clicks.span.low // 1000, -(-clicks.span.high // 1000)
    if high - low > _MOST_DAYS * 86_400:
        message = f"leaves more than {_MOST_DAYS} days for a report by day or hour"
        raise ParameterError({"created_from": [message]})
    changes = offsets(low, high, query.zone(network_zone))
    return ReportRequest(clicks, query.group_by, [Offset(*offset) for offset in changes], basis)


def _clamped(clicks: ClickFilter, to: Span) -> ClickFilter:
    low = min(max(clicks.span.low, to.low), to.high)
    return clicks._replace(span=Span(low, max(low, min(clicks.span.high, to.high))))


async def read(pool: Pool, request: ReportRequest) -> Report:
    """Read a report.

    Raises:
        TooManyClicksError: its clicks cannot be read in time.
    """
    try:
        return await reports.read(pool, request)
    except TOO_SLOW:
        if reports.is_kept(request):
            raise
        raise TooManyClicksError from None


class Table(NamedTuple):
    """A report as one table: a column for each kind and currency of money."""

    columns: list[str]
    rows: list[dict[str, object]]


def as_table(groups: Sequence[str], report: Report, visibility: Visibility) -> Table:
    """The rows without the totals."""
    names = [
        name for group in groups for name in (FIELDS[group], _NAMES.get(group)) if name in visibility.keys
    ]
    table: list[dict[str, object]] = list(rows(groups, report, visibility))
    rest = other(report)
    if rest is not None:
        table.append({**dict.fromkeys(names, _OTHER), **sums(rest, visibility)})
    kinds = [kind for kind in KINDS if kind in visibility.keys]
    money = [(kind, currency) for kind in kinds for currency in sorted(_currencies(report.totals, kind))]
    columns = [*names, *(name for name in sums(report.totals, visibility) if name not in KINDS)]
    columns += [f"{kind}_{currency}" for kind, currency in money]
    return Table(columns, [_flat(row, money) for row in table])


def changes_of(changed: ChangedSinceClose, visibility: Visibility) -> dict[str, object]:
    """The visible changes since the close of the books, and a line about them."""
    kinds = [kind for kind in ("payout", "revenue") if kind in visibility.keys]
    money = {
        kind: {
            currency: _signed(amount)
            for (changed_kind, currency), amount in sorted(changed.money.items())
            if changed_kind == kind
        }
        for kind in kinds
    }
    amounts = [f"{kind} {amount} {code}" for kind in kinds for code, amount in money[kind].items()]
    number = f"{changed.conversions} conversion{'' if changed.conversions == 1 else 's'}"
    text = f"changed since it was closed: {', '.join([number, *amounts])}"
    counted: dict[str, object] = {"text": text, "conversions": changed.conversions}
    return counted | {kind: money[kind] for kind in kinds}


def _signed(amount: Decimal) -> str:
    return f"{'-' if amount < 0 else '+'}{show(abs(amount))}"


def _currencies(sums: Sums, kind: str) -> set[str]:
    return {currency for money_kind, currency in sums.money if money_kind == kind}


def _flat(row: dict[str, Any], money: Sequence[tuple[str, str]]) -> dict[str, object]:
    """A row with a column for each kind and currency."""
    counts = {name: value for name, value in row.items() if name not in KINDS}
    return {**counts, **{f"{kind}_{currency}": row[kind].get(currency, "0.00") for kind, currency in money}}


def rows(groups: Sequence[str], report: Report, visibility: Visibility) -> Iterator[dict[str, object]]:
    """The visible rows, by time, and otherwise those with the most clicks first."""
    seen = frozenset(visibility.keys)
    parted = [(_key_parts(groups, group), group.sums) for group in report.groups]
    for parts, own in sorted(parted, key=lambda group: _time(group[0])):
        row: dict[str, object] = {}
        for name, key_parts in parts:
            row[FIELDS[name]] = key = _key(name, key_parts)
            if _NAMES.get(name) in seen:
                row[_NAMES[name]] = report.names[name].get(str(key))
        yield row | _sums(own, seen)


_KeyParts = list[tuple[str, list[Any]]]
"""The parts of each group's key: an hour has two, the others have one."""


def _time(parts: _KeyParts) -> list[int]:
    """The place of a group in time. Groups without a time are all equal, and so stay in their order."""
    times = {name: key for name, key in parts if name in reports.TIMES}
    hour = times.get("hour")
    instant = [] if hour is None else [hour[0] * 3600 - hour[1], hour[0]]
    return [*times.get("day", []), *instant]


def _key_parts(groups: Sequence[str], group: Group) -> _KeyParts:
    parts = iter(group.keys)
    return [(name, [next(parts) for _ in reports.TIMES.get(name, (name,))]) for name in groups]


def _key(group: str, parts: list[Any]) -> object:
    if group == "day":
        return date.fromordinal(_EPOCH + parts[0]).isoformat()
    if group == "hour":
        zone = timezone(timedelta(seconds=parts[1]))
        return (datetime(1970, 1, 1, tzinfo=zone) + timedelta(hours=parts[0])).isoformat()
    field = DIMENSIONS[group]
    if field.kind is int:
        return int(parts[0]) if parts[0] else None
    return parts[0] or (None if field.is_nullable else "")


def sums(sums: Sums, visibility: Visibility) -> dict[str, object]:
    """The visible counts, and the visible money by kind and currency."""
    return _sums(sums, frozenset(visibility.keys))


def _sums(sums: Sums, seen: AbstractSet[str]) -> dict[str, object]:
    money: dict[str, dict[str, str]] = {kind: {} for kind in KINDS}
    for kind, currency in sorted(sums.money):
        money[kind][currency] = show(sums.money[kind, currency])
    shown: dict[str, object] = {
        "clicks": sums.clicks,
        "uniques": sums.uniques,
        "duplicates": sums.clicks - sums.uniques,
        "invalid": sums.gross - sums.clicks,
        "gross": sums.gross,
        **dict(zip(_COUNTS, sums[_FIRST_COUNT:-1], strict=True)),
        **money,
    }
    return shown if seen >= shown.keys() else {name: value for name, value in shown.items() if name in seen}


def other(report: Report) -> Sums | None:
    """The totals without the rows. None if the rows have them all."""
    if len(report.groups) < reports.MOST_ROWS:
        return None
    shown = reports.added_up(group.sums for group in report.groups)
    money = {key: amount - shown.money.get(key, 0) for key, amount in report.totals.money.items()}
    counts = [total - part for total, part in zip(report.totals[:-1], shown[:-1], strict=True)]
    return Sums._make((*counts, money)) if any(counts) else None
