"""The rules of entries by hand."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import MAXYEAR, datetime, tzinfo
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field

from tracker.catalogue.booked_lines import Shape, refuse
from tracker.catalogue.errors import CatalogueError, Kind, invalid
from tracker.catalogue.fields import Currency, Fields, Id, Money, Name, Text
from tracker.catalogue.resource import WARNINGS
from tracker.domain.csv_rows import Columns
from tracker.domain.local_time import first_second, read_local
from tracker.domain.money import too_fine
from tracker.domain.normalise import amount
from tracker.domain.statement import ManualKind, Party
from tracker.store.books import manual_entries
from tracker.store.books.manual_entries import CannotReverseError, NewEntry, RefusedError
from tracker.store.catalogue.edit import Author, Row
from tracker.store.db import Connection

NUMBERS = ("affiliate_id", "advertiser_id")
SHAPE = Shape(
    Columns(
        (*NUMBERS, "kind", "amount", "currency", "booked_at", "reason", "reference"),
        (NUMBERS, ("kind",), ("amount",), ("currency",), ("reason",)),
        {"date": "booked_at", "note": "reason"},
        opaque=frozenset({"reason"}),
        ids=frozenset({*NUMBERS, "reference"}),
    ),
    NUMBERS,
)

_FIRST_YEAR = 2000  # as of clicks and conversions


def _above_zero(text: str) -> str:
    if not amount(text):
        raise ValueError("is 0: an amount is above 0, and its kind decides about its sign")
    return text


def _time(text: str) -> str:
    if not _FIRST_YEAR <= read_local(text, is_end=False).year < MAXYEAR:
        raise ValueError("is before 2000 or in the future")
    return text


Reason = Annotated[
    Name, Field(description="Why it is booked. The party reads it in its statement.", examples=["Top of May"])
]
BookedAt = Annotated[
    str,
    AfterValidator(_time),
    Field(
        description="When it is booked: a day or a local time in the network's time zone. Not in the future, "
        "not before 2000 and not in a closed period. Default: now.",
        examples=["2026-11-05"],
    ),
]


class ManualEntryFields(Fields):
    """An entry of one affiliate or one advertiser."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "affiliate_id": 513,
                    "kind": "payment",
                    "amount": "125.00",
                    "currency": "EUR",
                    "booked_at": "2026-11-05",
                    "reason": "October",
                    "reference": "SEPA-2026-1105-7",
                }
            ]
        }
    )

    affiliate_id: Id | None = Field(None, description="The affiliate, or else advertiser_id.", examples=[513])
    advertiser_id: Id | None = Field(None, description="The advertiser, or else affiliate_id.", examples=[1])
    kind: Literal["bonus", "fee", "chargeback", "payment"] = Field(
        description="bonus raises the balance. chargeback and payment lower it. A fee is in favour of the "
        "network: it lowers what an affiliate is owed, and raises what an advertiser owes."
    )
    amount: Annotated[Money, AfterValidator(_above_zero)] = Field(description="Above 0.")
    currency: Currency
    booked_at: BookedAt | None = None
    reason: Reason
    reference: Text = Field(
        "",
        description="Your own number of it, such as that of a transfer. Of one party each is booked once, "
        "unless its entry is reversed.",
        examples=["SEPA-2026-1105-7"],
    )

    def clashes(self) -> dict[str, str]:
        if (self.affiliate_id is None) == (self.advertiser_id is None):
            why = (
                "is missing, and so is advertiser_id"
                if self.affiliate_id is None
                else "does not go with advertiser_id"
            )
            return {"affiliate_id": why}
        return {}

    def entry(self, zone: tzinfo) -> NewEntry:
        """The entry to book."""
        party = Party.ADVERTISER if self.affiliate_id is None else Party.AFFILIATE
        id_ = self.affiliate_id or self.advertiser_id
        assert id_ is not None
        money = ManualKind(self.kind), amount(self.amount), self.currency
        return NewEntry(party, id_, *money, _moment(self.booked_at, zone), self.reason, self.reference)


class ReversalFields(Fields):
    """How to undo an entry."""

    reason: Reason
    booked_at: BookedAt | None = None


async def book(
    connection: Connection, author: Author, entries: Mapping[int, ManualEntryFields], zone: tzinfo
) -> list[Row]:
    """Book the lines of a file, all or none.

    Raises:
        CatalogueError: INVALID. It names lines and fields.
    """
    lines = list(entries)
    clashes = {line: found for line, entry in entries.items() if (found := entry.clashes())}
    refuse(clashes, len(lines))
    try:
        rows = await manual_entries.add(connection, author, [entry.entry(zone) for entry in entries.values()])
    except RefusedError as error:
        refuse({lines[place]: {field: why} for place, (field, why) in error.faults.items()}, len(lines))
        raise
    return [_warned(row) for row in rows]


async def book_one(connection: Connection, author: Author, entry: ManualEntryFields, zone: tzinfo) -> Row:
    """Book one entry.

    Raises:
        CatalogueError: INVALID. It names the field.
    """
    if clashes := entry.clashes():
        raise invalid({field: [why] for field, why in clashes.items()})
    try:
        (row,) = await manual_entries.add(connection, author, [entry.entry(zone)])
    except RefusedError as error:
        raise _invalid(error) from None
    return _warned(row)


async def reverse(
    connection: Connection, author: Author, id_: int | None, reversal: ReversalFields, zone: tzinfo
) -> Row:
    """Undo an entry by another one.

    Raises:
        CatalogueError: UNKNOWN entry, CONFLICT if it is reversed already, INVALID for a wrong time.
    """
    booked_at = _moment(reversal.booked_at, zone)
    try:
        row = id_ and await manual_entries.reverse(connection, author, id_, reversal.reason, booked_at)
    except CannotReverseError as error:
        raise CatalogueError(
            Kind.CONFLICT, {"id": [str(error)]}, f"It cannot be reversed: {error}."
        ) from None
    except RefusedError as error:
        raise _invalid(error) from None
    if not row:
        raise CatalogueError(Kind.UNKNOWN, {"id": ["does not exist"]}, "There is no entry with this id.")
    return row


def _warned(row: Row) -> Row:
    """A new entry with its warning, if nobody can pay its amount."""
    why = too_fine(amount(row["amount"]), row["currency"])
    return {**row, WARNINGS: [f"amount: {why}"]} if why else row


def _invalid(error: RefusedError) -> CatalogueError:
    ((field, why),) = error.faults.values()
    return invalid({field: [why]})


def _moment(text: str | None, zone: tzinfo) -> datetime | None:
    if text is None:
        return None
    return datetime.fromtimestamp(first_second(read_local(text, is_end=False), zone), zone)
