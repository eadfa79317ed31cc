"""The rules of corrections: amounts of conversions that the operator sets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import ConfigDict, Field

from tracker.catalogue.booked_lines import LINE, Shape, refuse
from tracker.catalogue.errors import CatalogueError, Kind, invalid
from tracker.catalogue.fields import Fields, Id, Ident, Money, Name
from tracker.catalogue.resource import WARNINGS
from tracker.domain.conversion import Correction
from tracker.domain.csv_rows import Columns
from tracker.domain.money import too_fine
from tracker.domain.normalise import amount, given
from tracker.store.books import corrections
from tracker.store.books.corrections import Wanted
from tracker.store.books.manual_entries import RefusedError
from tracker.store.catalogue.edit import Author, Row
from tracker.store.db import Connection

_AMOUNTS = Correction._fields
_NO_AMOUNT = "is missing, and so are revenue and sale_amount"
NUMBERS = ("conversion_id", "advertiser_id")
SHAPE = Shape(
    Columns(
        ("conversion_id", "order_id", "advertiser_id", *_AMOUNTS, "reason"),
        (("conversion_id", "order_id"), _AMOUNTS, ("reason",)),
        {"note": "reason", "tid": "order_id"},
        opaque=frozenset({"reason"}),
        ids=frozenset({"conversion_id", "order_id"}),
    ),
    NUMBERS,
)


class CorrectionFields(Fields):
    """The right amounts of a conversion, in its own currencies. An amount that is missing stays."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"payout": "7.50", "revenue": "10.00", "reason": "wrong price"}]}
    )

    payout: Money | None = Field(None, description="What the affiliate gets.")
    revenue: Money | None = Field(None, description="What the advertiser pays.")
    sale_amount: Money | None = Field(
        None,
        description="The sale. Percentages of it follow, unless they are corrected. Not below `refunded`.",
    )
    reason: Annotated[
        Name,
        Field(description="Why. The parties read it in their statements.", examples=["wrong price"]),
    ]

    @property
    def correction(self) -> Correction:
        texts = (self.payout, self.revenue, self.sale_amount)
        return Correction._make(None if text is None else amount(text) for text in texts)


class CorrectionLine(CorrectionFields):
    """A correction in a file."""

    conversion_id: Id | None = None
    order_id: Ident | None = None
    advertiser_id: Id | None = None

    def wanted(self) -> Wanted:
        order_id = self.order_id if given(self.order_id or "") else None
        return Wanted(self.conversion_id, order_id, self.advertiser_id, self.correction, self.reason)

    def clashes(self) -> dict[str, str]:
        wanted = self.wanted()
        if (wanted.conversion_id is None) == (wanted.order_id is None):
            return {LINE: "needs one of conversion_id and order_id, not both"}
        return {} if self.correction.names else {"payout": _NO_AMOUNT}


async def correct(connection: Connection, author: Author, lines: Mapping[int, CorrectionLine]) -> list[Row]:
    """Correct the conversions of a file, all or none.

    Raises:
        CatalogueError: INVALID. It names lines and fields.
    """
    numbers = list(lines)
    refuse({number: found for number, line in lines.items() if (found := line.clashes())}, len(numbers))
    try:
        rows = await corrections.correct(connection, author, [line.wanted() for line in lines.values()])
    except RefusedError as error:
        refuse({numbers[place]: {field: why} for place, (field, why) in error.faults.items()}, len(numbers))
        raise
    return [_warned(row, line.correction) for row, line in zip(rows, lines.values(), strict=True)]


async def correct_one(
    connection: Connection, author: Author, id_: int | None, fields: CorrectionFields
) -> Row:
    """Correct one conversion.

    Raises:
        CatalogueError: UNKNOWN conversion, or INVALID amounts.
    """
    if not fields.correction.names:
        raise invalid({"payout": [_NO_AMOUNT]})
    wanted = Wanted(id_ or 0, None, None, fields.correction, fields.reason)
    try:
        (row,) = await corrections.correct(connection, author, [wanted])
    except RefusedError as error:
        ((field, why),) = error.faults.values()
        if field != "conversion_id":
            raise invalid({field: [why]}) from None
        detail = "There is no conversion with this id."
        raise CatalogueError(Kind.UNKNOWN, {"id": [why]}, detail) from None
    return _warned(row, fields.correction)


def _warned(row: Row, correction: Correction) -> Row:
    """A correction with warnings about amounts that nobody can pay."""
    currencies = (row["payout_currency"], row["revenue_currency"], row["sale_currency"])
    warnings = [
        f"{name}: {why}"
        for name, wanted, currency in zip(correction._fields, correction, currencies, strict=True)
        if wanted is not None and (why := too_fine(wanted, currency))
    ]
    return {**row, WARNINGS: warnings} if warnings else row
