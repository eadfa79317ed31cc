"""Parameters that endpoints and pages share: spans of time, orders, parts of lists.

Unknown parameters are refused, and repeated ones that take only one value.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, tzinfo
from functools import cache
from typing import TypeVar

from pydantic import Field, ValidationError

from tracker.domain.local_time import first_second, last_second, zone_named
from tracker.domain.normalise import pairs
from tracker.parameters import (
    SEVERAL,
    AfterId,
    CursorText,
    Format,
    From,
    PageNumber,
    ParameterError,
    PerPage,
    Query,
    Separator,
    Sort,
    To,
    Zone,
    about,
)
from tracker.store.paging import Order
from tracker.store.time_span import END_OF_TIME, Span

_MOST_UNKNOWN_NAMED = 10
_LONGEST_NAME_NAMED = 50


class ZoneQuery(Query):
    """What may be said about how times are shown."""

    tz: Zone = about("IANA time zone of the times in the answer and in the filters. Default: the network's.")

    def zone(self, network_zone: str) -> tzinfo:
        zone: tzinfo = self.tz or zone_named(network_zone)
        return zone


def span_of(start: datetime | None, end: datetime | None, zone: tzinfo, name: str) -> Span:
    """The span from one local second to another, inclusive. `name`: of the parameters, without _from and _to.

    Raises:
        ParameterError: the end is before the start.
    """
    low = 0 if start is None else first_second(start, zone) * 1000
    high = END_OF_TIME if end is None else (last_second(end, zone) + 1) * 1000
    if start is not None and end is not None and start > end and low >= high:
        raise ParameterError({f"{name}_to": [f"is before {name}_from"]})
    low = min(max(low, 0), END_OF_TIME)
    return Span(low, min(max(high, low), END_OF_TIME))


class SpanQuery(ZoneQuery):
    """A range of time."""

    created_from: From = about("Earliest local time. A date alone means its first second.")
    created_to: To = about("Latest local time, inclusive. A date alone means its last second.")
    created_at_from: From = about("Another name of created_from.")
    created_at_to: To = about("Another name of created_to.")

    def span(self, network_zone: str) -> Span:
        """The range that is meant.

        Raises:
            ParameterError: two parameters contradict each other.
        """
        return self.span_named("created", network_zone)

    def span_named(self, name: str, network_zone: str) -> Span:
        """The range of two parameters. `name`: of them, without _from and _to.

        Raises:
            ParameterError: they contradict each other.
        """
        start, end = self._only(f"{name}_from"), self._only(f"{name}_to")
        return span_of(start, end, self.zone(network_zone), name)

    def times(self) -> tuple[datetime | None, datetime | None]:
        """The first and the last second, in local time.

        Raises:
            ParameterError: a time has two names.
        """
        return self._only("created_from"), self._only("created_to")

    def _only(self, name: str) -> datetime | None:
        other_name = name.replace("created_", "created_at_")
        time: datetime | None = getattr(self, name)
        other: datetime | None = None if other_name == name else getattr(self, other_name)
        if time is not None and other is not None:
            raise ParameterError({other_name: [f"is another name of {name}: send only one of them"]})
        return other if time is None else time


class OrderQuery(ZoneQuery):
    """In which order."""

    sort: Sort = Field(
        default="-created_at", description="-created_at: newest first. created_at: oldest first."
    )

    def order(self, network_zone: str) -> Order:
        return Order(self.sort == "-created_at", self.zone(network_zone))


EXCEL = (
    "excel: CSV for spreadsheets. It begins with a byte order mark, and an apostrophe protects cells that a "
    "spreadsheet would calculate."
)


class SeparatorQuery(Query):
    """What stands between the columns of a file for people."""

    separator: Separator = about("The column separator of format=excel. Default: a comma.")

    def check_separator(self) -> None:
        """See that a separator is asked for where there is a choice.

        Raises:
            ParameterError: the format is another than excel.
        """
        if self.separator and getattr(self, "format", "") != "excel":
            raise ParameterError({"separator": ["needs format=excel"]})


class FileQuery(SeparatorQuery):
    """In which format."""

    format: Format = Field(
        default="ndjson", description=f"ndjson: one JSON object per line. csv: CSV with a header. {EXCEL}"
    )


class FormatQuery(OrderQuery, FileQuery):
    """In which order and format."""


class PartQuery(OrderQuery):
    """In which order, and which part of it."""

    per_page: PerPage = Field(default=200, description="Rows per page.")
    page: PageNumber = about("Page number, from 1.")
    cursor: CursorText = about(
        "The next_cursor of the page before. Keep the filters and sort. Use it to read long lists."
    )

    def check_paging(self) -> None:
        """See that no two ways through the list are asked for at once.

        Raises:
            ParameterError: it names the parameters that do not go together.
        """
        self._check_clashes("cursor", ("page",))

    def _check_clashes(self, main: str, others: tuple[str, ...]) -> None:
        given = self.model_fields_set
        clashes = {name: [f"cannot be combined with {main}"] for name in others if {main, name} <= given}
        if clashes:
            raise ParameterError(clashes)


class FeedQuery(PartQuery):
    """The order and the part of a list, or what is new since the last request."""

    after_id: AfterId = about(
        "Feed of new rows: those with a higher id, in the order of ids. No row is skipped. Start with 0, "
        "then send next_after_id. It cannot be combined with sort, page or cursor."
    )

    def check_paging(self) -> None:
        self._check_clashes("after_id", ("page", "cursor", "sort"))
        super().check_paging()


SomeQuery = TypeVar("SomeQuery", bound=Query)


def read_query(query_string: bytes, model: type[SomeQuery]) -> SomeQuery:
    """The parameters of a query string.

    Raises:
        ParameterError: it names every parameter that is unknown, repeated or unreadable.
    """
    given: defaultdict[str, list[str]] = defaultdict(list)
    for name, value in pairs(query_string):
        given[name].append(value)
    single = given.keys() - _several(model)
    repeated = {name: ["is repeated"] for name in given if name in single and len(given[name]) > 1}
    try:
        query = model.model_validate(
            {name: values[-1] if name in single else values for name, values in given.items()}
        )
    except ValidationError as error:
        raise ParameterError(_named(error) | _cropped(repeated)) from None
    if repeated:
        raise ParameterError(_cropped(repeated))
    return query


@cache
def _several(model: type[Query]) -> frozenset[str]:
    """The parameters that may be repeated."""
    return frozenset(name for name, field in model.model_fields.items() if SEVERAL in field.metadata)


def _named(error: ValidationError) -> dict[str, list[str]]:
    details = error.errors(include_url=False, include_input=False)
    return _cropped({str(detail["loc"][0]): [_message(detail["type"], detail["msg"])] for detail in details})


_MESSAGES = {"extra_forbidden": "is not a parameter of this endpoint", "missing": "is missing"}


def _message(kind: str, message: str) -> str:
    return _MESSAGES.get(kind) or message.removeprefix("Value error, ")


def _cropped(errors: dict[str, list[str]]) -> dict[str, list[str]]:
    """Names come from the client, so there may be many, and long ones."""
    shown = list(errors.items())[:_MOST_UNKNOWN_NAMED]
    return {name[:_LONGEST_NAME_NAMED]: messages for name, messages in shown}
