"""Requests that book money: each is done once, even if it is sent again under its Idempotency-Key."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from decimal import Decimal
from hashlib import sha256
from typing import Annotated, Any, Final

import orjson
from pydantic import ConfigDict, Field, WithJsonSchema
from starlette.responses import Response

from tracker.api.clicks.create import request_key
from tracker.api.clicks.create_schema import MAX_KEY
from tracker.api.http.endpoint import Call
from tracker.api.http.problems import SECURITY_HEADERS, invalid
from tracker.domain.money import in_unit
from tracker.parameters import Bool, Model, Query, about, without_defaults_of_null
from tracker.store.books import requests
from tracker.store.catalogue.edit import Row
from tracker.store.clicks.idempotency import Conflict
from tracker.store.db import Connection

MAX_FILE = 4 << 20
"""Longest file, in bytes."""
MOST_LISTED = 1_000
"""Rows that an answer about a file lists."""

CSV: Final = "text/csv"
NDJSON: Final = "application/x-ndjson"

Booking = tuple[str, int, str, str]
"""What is booked for whom: the kind of party, its id, the currency, and the amount with its sign."""

SUMS: Final = f"How the balances change, by party and currency: the first {MOST_LISTED:,}."

_KEY_SCHEMA = {"type": "string", "minLength": 1, "maxLength": MAX_KEY, "examples": ["2026-11-05/17"]}


class BookingHeaders(Model):
    """The key of a request."""

    model_config = ConfigDict(json_schema_extra=without_defaults_of_null)

    idempotency_key: Annotated[str | None, WithJsonSchema(_KEY_SCHEMA)] = Field(
        None,
        alias="Idempotency-Key",
        description="A permanent key of this request. A repeated request with the same key books nothing "
        "again, and gets the answer of the first one.",
    )


class BookedSum(Model):
    """What a file books for one party in one currency."""

    affiliate_id: int | None = Field(examples=[513])
    advertiser_id: int | None
    currency: str = Field(examples=["EUR"])
    entries: int = Field(examples=[2])
    change: str = Field(description="How it changes the balance of the party.", examples=["-105.00"])


class BookingQuery(Query):
    """Whether it is booked."""

    dry_run: Bool = about("true: check everything, show the result, and book nothing.")


def sums_of(bookings: Iterable[Booking]) -> list[Row]:
    """The sums by party and currency, in the order of the parties. Currencies are never added up.

    What is 0 for a party is on no statement of it, so it is left out.
    """
    found: defaultdict[tuple[str, int, str], list[Decimal]] = defaultdict(list)
    for party, id_, currency, text in bookings:
        if change := Decimal(text):
            found[party, id_, currency].append(change)
    return [
        {
            "affiliate_id": id_ if party == "affiliate" else None,
            "advertiser_id": id_ if party == "advertiser" else None,
            "currency": currency,
            "entries": len(changes),
            "change": in_unit(sum(changes, Decimal(0)), currency),
        }
        for (party, id_, currency), changes in sorted(found.items())
    ][:MOST_LISTED]


async def book_once(
    call: Call[Any], body: bytes, book: Callable[[Connection], Awaitable[object]]
) -> Response:
    """Book once in a transaction, and answer what `book` returns. A dry run books nothing and notes no key.

    Raises:
        Problem: 422 for a key that was used for another request.
    """
    is_trial = bool(call.query.dry_run)
    key = None if is_trial else request_key(call.request)
    digest = sha256(call.request.url.path.encode() + b"\0" + body).digest()
    try:
        async with requests.booking(call.state.pool, is_trial=is_trial) as connection:
            answer = key and await requests.answer_of(connection, call.token.id, key, digest)
            if not answer:
                answer = orjson.dumps(await book(connection)).decode()
                if key:
                    await requests.note(connection, call.token.id, key, digest, answer)
    except Conflict as error:
        raise invalid({error.field: [str(error)]}) from None
    return Response(answer, 201, SECURITY_HEADERS, "application/json")
