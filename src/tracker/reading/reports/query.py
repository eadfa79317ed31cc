"""Reports: their parameters, and the store's request for them."""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import datetime, time, tzinfo
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from tracker.domain.periods import PERIODS
from tracker.parameters import Bool, From, ParameterError, To, about, choice, whole, words
from tracker.reading.clicks import FilterQuery, by_hash
from tracker.reading.query import EXCEL, SeparatorQuery
from tracker.reading.reports.comparison import OTHERS, compared, offsets_of, until_after
from tracker.reading.visibility import Visibility
from tracker.store.clicks.list import ClickFilter
from tracker.store.db import Pool
from tracker.store.paging import TOO_SLOW
from tracker.store.reports import report as reports
from tracker.store.reports.groups import DIMENSIONS, TIMES
from tracker.store.reports.measures import MEASURES
from tracker.store.reports.report import Report
from tracker.store.reports.request import MOST_ROWS, Compared, ReportRequest, Sort
from tracker.store.reports.sources import TooManyClicksError, Wanted
from tracker.store.time_span import Span

_MOST_DAYS = 20 * 366
_MOST_GROUPS = 3

FIELDS = {**{time: time for time in TIMES}, **{name: one.key for name, one in DIMENSIONS.items()}}
"""What a row calls its groups: as the click list does."""

_FORMATS = ("json", "ndjson", "csv", "excel")
_SORT = re.compile(r"(-?)([a-z0-9_]+?)(?:_([A-Z]{3}))?")


def groups_of(known: Collection[str]) -> Any:
    """The type of group_by: one to three of some groups."""

    def read(text: str) -> tuple[str, ...]:
        groups = tuple(text.split(","))
        is_known = set(known) >= set(groups)
        if len(groups) > _MOST_GROUPS or len(set(groups)) < len(groups) or not is_known:
            raise ValueError(f"is not one to three, separated by commas, of: {', '.join(known)}")
        return groups

    one = f"({'|'.join(known)})"
    schema = {"type": "string", "pattern": f"^{one}(,{one}){{0,2}}$", "examples": ["offer", "day,country"]}
    return Annotated[
        tuple[str, ...],
        BeforeValidator(read),
        WithJsonSchema(schema),
        Field(description=f"One to three groups, separated by commas: {', '.join(known)}."),
    ]


def measures_of(known: Collection[str]) -> Any:
    """The type of `measures`, and its default: those to show."""
    extra = ", ".join(name for name in known if not MEASURES[name].is_shown)
    return words(*known), about(
        f"Only these measures, separated by commas: {', '.join(known)}. Default: all without {extra}, which "
        "are read conversion by conversion."
    )


def sort_of(groups: Collection[str], measures: Collection[str]) -> Any:
    """The type of `sort`, and its default: a group or measure."""
    plain = [*groups, *(name for name in measures if not MEASURES[name].is_money)]
    money = [name for name in measures if MEASURES[name].is_money]

    def read(text: str) -> Sort:
        found = _SORT.fullmatch(text)
        sign, name, currency = found.groups() if found else ("", "", "")
        if name in money and not currency:
            raise ValueError(f"is an amount: name its currency, as in {sign}{name}_USD")
        if name not in (money if currency else plain):
            amounts = f", {', '.join(f'{one}_USD' for one in money)} (or another currency)" if money else ""
            raise ValueError(f"is not one of: {', '.join(plain)}{amounts}, nor one of them with a minus sign")
        return Sort(name, sign == "-", currency or "")

    of_money = [f"({'|'.join(money)})_[A-Z]{{3}}"] if money else []
    example = [f"-{name}_USD" for name in money[:1]]
    schema = {
        "type": "string",
        "pattern": f"^-?({'|'.join([*plain, *of_money])})$",
        "examples": ["-clicks", *example],
    }
    return (
        Annotated[Sort | None, BeforeValidator(read), WithJsonSchema(schema)],
        about(
            "A group or a measure to sort by, with a minus sign: from the highest. "
            + "".join(f"Amounts have their currency, as in {name}. " for name in example)
            + "Default: by time, then by gross."
        ),
    )


def _format(text: str) -> str:
    if text not in _FORMATS:
        raise ValueError(f"is not one of: {', '.join(_FORMATS)}")
    return text


_measures, _measures_field = measures_of(MEASURES)
_sort, _sort_field = sort_of(FIELDS, MEASURES)
_MOST = 10**12
_LAST_SECOND = time(23, 59, 59)


class ReportQuery(FilterQuery, SeparatorQuery):
    """Which clicks, how they are added up, and which rows are shown."""

    group_by: groups_of(FIELDS)  # type: ignore[valid-type]
    period: choice(*PERIODS) = about(  # type: ignore[valid-type]
        "The days of the report in place of created_from and created_to. today, last_7_days, last_30_days "
        "and this_month end with today, by the clocks of tz."
    )
    date_basis: choice("click", "conversion", "booked") = Field(  # type: ignore[valid-type]
        default="click",
        description="The time of conversions in the time filters and in the groups of time. click: of their "
        "click. conversion: their own. booked: of their entries in the book. Amounts are then those of "
        "statements, and conversions_approved is approvals less reversals. Measures that the book does not "
        "have are left out. Clicks always count at their own time.",
    )
    measures: _measures = _measures_field  # type: ignore[valid-type]
    sort: _sort = _sort_field  # type: ignore[valid-type]
    limit: whole(1, MOST_ROWS) = Field(  # type: ignore[valid-type]
        default=MOST_ROWS, description="Most rows. All others are added up as `other`."
    )
    min_clicks: whole(0, _MOST) = Field(  # type: ignore[valid-type]
        default=0, description="Only rows with so many clicks. All others are added up as `other`."
    )
    with_conversions: Bool = about("true: only rows with conversions. All others are added up as `other`.")
    compare: choice(*OTHERS, "custom") = about(  # type: ignore[valid-type]
        "Compare each row with another span. previous: the same length of time before, or whole months "
        "before whole months. last_week, last_month, last_year: the same days a week, month or year before. "
        "custom: compare_from to compare_to. It needs created_from and created_to."
    )
    compare_from: From = about("compare=custom: its earliest local time.")
    compare_to: To = about("compare=custom: its latest local time, inclusive.")
    totals: Bool = about("true: files have a last row with the totals. JSON always has them.")
    format: Annotated[
        Literal["json", "ndjson", "csv", "excel"],
        BeforeValidator(_format),
        WithJsonSchema({"type": "string", "enum": list(_FORMATS)}),
    ] = Field(
        default="json",
        description="json. csv: CSV with a header. ndjson: the rows of csv, one JSON object per line. "
        + EXCEL,
    )

    def checked(self, network_zone: str) -> ReportQuery:
        """The query with the days of its period, if its parameters go together.

        Raises:
            ParameterError: they do not: one needs another, or two exclude each other.
        """
        self._check()
        if self.period is None:
            return self
        if any(bound is not None for bound in self.times()):
            raise ParameterError({"period": ["cannot be combined with created_from or created_to"]})
        first, last = PERIODS[self.period](datetime.now(self.zone(network_zone)).date())
        start, end = datetime.combine(first, time.min), datetime.combine(last, _LAST_SECOND)
        return self.model_copy(update={"period": None, "created_from": start, "created_to": end})

    def _check(self) -> None:
        self.check_separator()
        is_custom = self.compare == "custom"
        for name in ("compare_from", "compare_to"):
            if (getattr(self, name) is not None) != is_custom:
                problem = "is needed by compare=custom" if is_custom else "needs compare=custom"
                raise ParameterError({name: [problem]})
        if self.totals and self.format == "json":
            raise ParameterError({"totals": ["needs a format of rows: JSON always has totals"]})
        if self.date_basis == "booked":
            self._check_booked()

    def _check_booked(self) -> None:
        sort: Sort | None = self.sort
        asked: dict[str, Collection[str]] = {
            "measures": self.measures or (),
            "sort": (sort.by,) if sort else (),
        }
        for name, measures in asked.items():
            for measure in measures:
                if measure in MEASURES and not MEASURES[measure].is_booked:
                    raise ParameterError(
                        {name: [f"has {measure}, which the book has not (date_basis=booked)"]}
                    )

    def shown(self, visibility: Visibility) -> list[str]:
        """The measures of rows."""
        asked: Collection[str] | None = self.measures
        is_booked = self.date_basis == "booked"
        wanted = asked or [
            name
            for name, measure in MEASURES.items()
            if measure.is_shown and (measure.is_booked or not is_booked)
        ]
        return [name for name in MEASURES if name in wanted and name in visibility.keys]


async def request_of(
    pool: Pool, query: ReportQuery, network_zone: str, visibility: Visibility
) -> ReportRequest:
    """The store's request for a report.

    Raises:
        ParameterError: two parameters contradict each other, or there are too many days.
    """
    query = await by_hash(pool, query, visibility)
    zone, basis = query.zone(network_zone), query.date_basis
    wanted = Wanted(visibility.narrow(query.clicks(network_zone)), query.group_by)
    is_by_time = not TIMES.keys().isdisjoint(query.group_by)
    if is_by_time:
        if query.compare is None:
            wanted = wanted._replace(clicks=_clamped(wanted.clicks, await reports.extent(pool, basis)))
        _check_days(wanted.clicks.span, "created_from")
        wanted = wanted._replace(offsets=offsets_of(wanted.clicks.span, zone))
    request = ReportRequest(
        wanted,
        basis,
        query.sort,
        query.limit,
        query.min_clicks,
        bool(query.with_conversions),
        any(MEASURES[name].is_timed for name in query.shown(visibility))
        or (query.sort is not None and query.sort.by in MEASURES and MEASURES[query.sort.by].is_timed),
    )
    return request if query.compare is None else request._replace(compared=_compared(query, wanted, zone))


def _compared(query: ReportQuery, wanted: Wanted, zone: tzinfo) -> Compared:
    start, end = query.times()
    if start is None or end is None:
        missing = "created_from" if start is None else "created_to"
        raise ParameterError({missing: ["is needed by compare"]})
    first, last = query.compare_from, query.compare_to
    try:
        own = until_after(start, end)
        other = until_after(first, last) if first and last else OTHERS[query.compare](own)
    except (ValueError, OverflowError):
        raise ParameterError({"compare": ["has no such time in the calendar"]}) from None
    found = compared(wanted, own, other, zone)
    _check_days(found.wanted.clicks.span, "compare")
    return found


def _check_days(span: Span, name: str) -> None:
    if span.high - span.low > _MOST_DAYS * 86_400_000:
        message = f"leaves more than {_MOST_DAYS} days for a report by time"
        raise ParameterError({name: [message]})


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
        raise TooManyClicksError("more clicks than can be read in 30 seconds") from None
