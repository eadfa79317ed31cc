"""Parameters of endpoints: what is documented is what is accepted.

One pydantic model an endpoint; unknown and repeated parameters are refused.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable
from datetime import datetime, tzinfo
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema
from starlette.requests import Request

from tracker.api.http.problems import invalid
from tracker.domain import normalise
from tracker.domain.local_time import first_second, last_second, read_local, zone_named
from tracker.domain.model import MAX_ID
from tracker.domain.normalise import pairs, trim
from tracker.edge.read.text import crop
from tracker.store.paging import Order
from tracker.store.time_span import END_OF_TIME, Span

MAX_PER_PAGE = 1_000
_LONGEST_TEXT = 500  # as links are cropped: no stored text is longer
_MOST_UNKNOWN_NAMED = 10
_LONGEST_NAME_NAMED = 50

_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def _whole(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        text = trim(text)
        if (
            not (text.isascii() and text.isdigit())
            or len(text) > len(str(high))
            or not low <= int(text) <= high
        ):
            raise ValueError(f"is not a whole number from {low} to {high}")
        return int(text)

    return read


def _id(text: str) -> int:
    found = normalise.id_(text)
    if found is None:
        raise ValueError(f"is not a whole number from 1 to {MAX_ID}, written without leading zeros")
    return found


def _hash(text: str) -> str:
    found = normalise.hash_(text)
    if not found:
        raise ValueError("is not a hash: 32 hexadecimal digits")
    return found


def _boolean(text: str) -> bool:
    if (text := normalise.word(text)) not in _BOOLEANS:
        raise ValueError("is not true or false")
    return _BOOLEANS[text]


def _text(text: str) -> str:
    if len(text) > _LONGEST_TEXT or _CONTROL.search(text):
        raise ValueError(f"is longer than {_LONGEST_TEXT} characters or has control characters")
    return text


def _ident(text: str) -> str:
    """As it was written: rows may have it like that, or trimmed."""
    _text(trim(text))
    return crop(text, len(text))


def _names(text: str) -> list[str]:
    """The forms in which a name may be kept: as it was written, and with its accents composed or apart."""
    composed = normalise.composed(_text(text))
    return list(dict.fromkeys((text, composed, unicodedata.normalize("NFD", composed))))


def _one_of(*known: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        text = trim(text)
        text = text if text in known else normalise.word(text)
        if text not in known:
            raise ValueError(f"is not one of: {', '.join(known)}")
        return text

    return read


def _local(*, is_end: bool) -> Callable[[str], datetime]:
    return lambda text: read_local(text, is_end=is_end)


def choice(*known: str) -> Any:
    """The type of a parameter that is one of some words."""
    return Annotated[str | None, BeforeValidator(_one_of(*known)), _schema("string", enum=list(known))]


def words(*known: str) -> Any:
    """The type of a parameter that is some words of a few, separated by commas."""
    read = _one_of(*known)
    pattern = f"^({'|'.join(known)})(,({'|'.join(known)}))*$"
    return Annotated[
        list[str] | None,
        BeforeValidator(lambda text: [read(word) for word in text.split(",")]),
        _schema("string", pattern=pattern, examples=[known[0]]),
    ]


def _schema(type_: str, **more: object) -> WithJsonSchema:
    return WithJsonSchema({"type": type_, **more})


def about(text: str) -> Any:
    return Field(default=None, description=text)


_HASH_SCHEMA = _schema("string", pattern="^[0-9a-fA-F]{32}$", examples=["01927632a6c87d3f9b1c5e8a4f60d2b7"])
_COUNTRY_SCHEMA = _schema("string", examples=["NL"])
_DATE_SCHEMA = _schema("string", examples=["2024-07-08 13:40:00", "2024-07-08"])

Id = Annotated[int | None, BeforeValidator(_id), _schema("integer", minimum=1, maximum=MAX_ID, examples=[3])]
Hash = Annotated[str | None, BeforeValidator(_hash), _HASH_SCHEMA]
Bool = Annotated[bool | None, BeforeValidator(_boolean), _schema("boolean")]
Text = Annotated[
    str | None, BeforeValidator(_text), _schema("string", maxLength=_LONGEST_TEXT, examples=["winter"])
]
Ident = Annotated[
    str | None, BeforeValidator(_ident), _schema("string", maxLength=_LONGEST_TEXT, examples=["A-1001"])
]
Name = Annotated[
    list[str] | None,
    BeforeValidator(_names),
    _schema("string", maxLength=_LONGEST_TEXT, examples=["Puzzle Quest"]),
]
Country = Annotated[str | None, BeforeValidator(normalise.country), _COUNTRY_SCHEMA]
From = Annotated[datetime | None, BeforeValidator(_local(is_end=False)), _DATE_SCHEMA]
To = Annotated[datetime | None, BeforeValidator(_local(is_end=True)), _DATE_SCHEMA]
Zone = Annotated[Any, BeforeValidator(zone_named), _schema("string", examples=["Europe/Berlin"])]
Sort = Annotated[
    str,
    BeforeValidator(_one_of("-created_at", "created_at")),
    _schema("string", enum=["-created_at", "created_at"]),
]
Format = Annotated[
    Literal["ndjson", "csv", "excel"],
    BeforeValidator(_one_of("ndjson", "csv", "excel")),
    _schema("string", enum=["ndjson", "csv", "excel"]),
]
Separator = Annotated[
    Literal[",", ";"] | None, BeforeValidator(_one_of(",", ";")), _schema("string", enum=[",", ";"])
]
PerPage = Annotated[
    int, BeforeValidator(_whole(1, MAX_PER_PAGE)), _schema("integer", minimum=1, maximum=MAX_PER_PAGE)
]
PageNumber = Annotated[
    int | None, BeforeValidator(_whole(1, 10**12)), _schema("integer", minimum=1, maximum=10**12)
]
AfterId = Annotated[
    int | None, BeforeValidator(_whole(0, MAX_ID)), _schema("integer", minimum=0, maximum=MAX_ID)
]


def without_defaults_of_null(schema: dict[str, Any]) -> None:
    for parameter in schema["properties"].values():
        if "default" in parameter and parameter["default"] is None:
            del parameter["default"]


class Query(BaseModel):
    """Parameters of an endpoint: none."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, json_schema_extra=without_defaults_of_null, arbitrary_types_allowed=True
    )


class ZoneQuery(Query):
    """What may be said about how times are shown."""

    tz: Zone = about("IANA time zone of the times in the answer and in the filters. Default: the network's.")

    def zone(self, network_zone: str) -> tzinfo:
        zone: tzinfo = self.tz or zone_named(network_zone)
        return zone


class SpanQuery(ZoneQuery):
    """A range of time."""

    created_from: From = about("Earliest local time. A date alone means its first second.")
    created_to: To = about("Latest local time, inclusive. A date alone means its last second.")
    created_at_from: From = about("Another name of created_from.")
    created_at_to: To = about("Another name of created_to.")

    def span(self, network_zone: str) -> Span:
        """The range that is meant.

        Raises:
            Problem: 422 where two parameters contradict each other.
        """
        zone = self.zone(network_zone)
        start, end = self._only("created_from"), self._only("created_to")
        low = 0 if start is None else first_second(start, zone) * 1000
        high = END_OF_TIME if end is None else (last_second(end, zone) + 1) * 1000
        if start is not None and end is not None and start > end and low >= high:
            raise invalid({"created_to": ["is before created_from"]})
        low = min(max(low, 0), END_OF_TIME)
        return Span(low, min(max(high, low), END_OF_TIME))

    def _only(self, name: str) -> datetime | None:
        other_name = name.replace("created_", "created_at_")
        time: datetime | None = getattr(self, name)
        other: datetime | None = getattr(self, other_name)
        if time is not None and other is not None:
            raise invalid({other_name: [f"is another name of {name}: send only one of them"]})
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
            Problem: 422 where the format is another than excel.
        """
        if self.separator and getattr(self, "format", "") != "excel":
            raise invalid({"separator": ["needs format=excel"]})


class FormatQuery(OrderQuery, SeparatorQuery):
    """In which order and format."""

    format: Format = Field(
        default="ndjson", description=f"ndjson: one JSON object per line. csv: CSV with a header. {EXCEL}"
    )


class PartQuery(OrderQuery):
    """In which order, and which part of it."""

    per_page: PerPage = Field(default=200, description="Rows per page.")
    page: PageNumber = about("Page number, from 1.")
    cursor: Annotated[str | None, BeforeValidator(_text), _schema("string")] = about(
        "The next_cursor of the page before. Keep the filters and sort. Use it to read long lists."
    )

    def check_paging(self) -> None:
        """See that no two ways through the list are asked for at once.

        Raises:
            Problem: 422 naming what does not go with what.
        """
        self._check_clashes("cursor", ("page",))

    def _check_clashes(self, main: str, others: tuple[str, ...]) -> None:
        given = self.model_fields_set
        clashes = {name: [f"cannot be combined with {main}"] for name in others if {main, name} <= given}
        if clashes:
            raise invalid(clashes)


class FeedQuery(PartQuery):
    """In which order, and which part of it; or what is new since last asked."""

    after_id: AfterId = about(
        "Feed of new rows: those with a higher id, in the order of ids. No row is skipped. Start with 0, "
        "then send next_after_id. It cannot be combined with sort, page or cursor."
    )

    def check_paging(self) -> None:
        self._check_clashes("after_id", ("page", "cursor", "sort"))
        super().check_paging()


SomeQuery = TypeVar("SomeQuery", bound=Query)


def read_query(request: Request, model: type[SomeQuery]) -> SomeQuery:
    """The parameters of a request.

    Raises:
        Problem: 422 naming every parameter that is unknown, repeated or unreadable.
    """
    given = pairs(request.scope["query_string"])
    times = Counter(name for name, _ in given)
    repeated = {name: ["is repeated"] for name in times if times[name] > 1}
    try:
        query = model.model_validate(dict(given))
    except ValidationError as error:
        raise invalid(_named(error) | _cropped(repeated)) from None
    if repeated:
        raise invalid(_cropped(repeated))
    return query


def _named(error: ValidationError) -> dict[str, list[str]]:
    details = error.errors(include_url=False, include_input=False)
    return _cropped({str(detail["loc"][0]): [_message(detail["type"], detail["msg"])] for detail in details})


def _message(kind: str, message: str) -> str:
    return (
        "is not a parameter of this endpoint"
        if kind == "extra_forbidden"
        else message.removeprefix("Value error, ")
    )


def _cropped(errors: dict[str, list[str]]) -> dict[str, list[str]]:
    """Names come from the client, so there may be many, and long ones."""
    shown = list(errors.items())[:_MOST_UNKNOWN_NAMED]
    return {name[:_LONGEST_NAME_NAMED]: messages for name, messages in shown}
