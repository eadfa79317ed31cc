"""Period closes: later changes of a closed period are booked as adjustments."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import Literal

import orjson
from pydantic import Field
from starlette.responses import Response
from starlette.routing import Route

from tracker.api.booking import BookingQuery
from tracker.api.catalogue import PageQuery, list_rows, listed
from tracker.api.http.endpoint import Body, Call, endpoint
from tracker.api.http.listing import as_json
from tracker.api.http.problems import Problem, invalid
from tracker.api.http.routing import ROOT
from tracker.catalogue.fields import Fields, Time
from tracker.catalogue.validation import validated
from tracker.parameters import Model
from tracker.store.catalogue import edit
from tracker.store.catalogue.edit import Author, Row, Table
from tracker.store.conversions import manual, undecided
from tracker.store.conversions.manual import NotLater
from tracker.store.db import Pool

PATH = f"{ROOT}/period-closes"

TABLE = Table("period_close", ("until", "closed_at", "author"), is_log=True)
READ_SCOPE = "money:read"


class NewPeriodClose(Fields):
    """The end of the period to close."""

    until: Time = Field(
        description="End of the period, exclusive. Not in the future, and later than all earlier closes."
    )


class UndecidedConversions(Model):
    """Undecided conversions of one status and two currencies."""

    status: Literal["pending", "hold"]
    conversions: int = Field(examples=[12])
    payout: str = Field(examples=["30.00"])
    payout_currency: str = Field(examples=["EUR"])
    revenue: str = Field(examples=["48.00"])
    revenue_currency: str = Field(examples=["EUR"])


class LeftUndecided(Model):
    """What the close would leave undecided. A later decision about it is an adjustment."""

    conversions: list[UndecidedConversions]
    postbacks: dict[str, int] = Field(
        description="Postbacks that cannot be applied yet, by their result.", examples=[{"held": 3}]
    )


class _TrialIsOverError(Exception):
    pass


class PeriodClose(Model):
    """A closed period."""

    id: int = Field(examples=[1])
    until: str = Field(
        description="End of the period in UTC, exclusive.", examples=["2026-11-01T00:00:00+00:00"]
    )
    closed_at: str = Field(description="UTC.", examples=["2026-11-05T09:00:00.123456+00:00"])
    author: str = Field(
        description="Name of the token that closed it, or the user of the command line.",
        examples=["accounts"],
    )
    undecided: LeftUndecided | None = Field(None, description="Only with dry_run=true.")


@endpoint(
    scope=READ_SCOPE,
    query=PageQuery,
    returns=listed("PeriodCloseList", PeriodClose),
    tag="Conversions",
    has_complete_until=True,
)
async def list_period_closes(call: Call[PageQuery]) -> Response:
    """List period closes

    The latest is first.
    """
    return await list_rows(call.state.pool, TABLE, call.query, {})


@endpoint(
    scope="admin",
    query=BookingQuery,
    body=Body(NewPeriodClose),
    returns=PeriodClose,
    status=201,
    may_fail=(409,),
    tag="Conversions",
)
async def close_period(call: Call[BookingQuery]) -> Response:
    """Close a period

    This cannot be undone. From then on nothing is booked in the period. A conversion of the period that is
    approved or rejected later is booked at that later time, as an adjustment. `dry_run=true` shows what would
    be left undecided, and closes nothing.
    """
    close = validated(await call.object(), NewPeriodClose)
    if (until := datetime.fromisoformat(close.until)) > datetime.now(UTC):
        raise invalid({"until": ["is in the future"]})
    pool, is_trial = call.state.pool, bool(call.query.dry_run)
    try:
        row = await close_books(pool, until, call.author, is_trial=is_trial)
    except NotLater as error:
        raise Problem(409, f"until {error}.", errors={"until": [str(error)]}) from None
    if is_trial:
        async with pool.acquire() as connection:
            row["undecided"] = (await undecided.before(connection, until)).row
    return as_json(row, 201)


async def close_books(pool: Pool, until: datetime, author: Author, *, is_trial: bool = False) -> Row:
    """Close the books up to a time, for good. A trial only shows the row.

    Raises:
        NotLater: they are already closed up to that time or a later one.
    """
    with suppress(_TrialIsOverError):
        async with manual.changing(pool) as connection:
            row: Row = orjson.loads(await manual.close_period(connection, until, author.token_name))
            await edit.note(connection, author, TABLE, f"period-closes/{row['id']}", None, row)
            if is_trial:
                raise _TrialIsOverError
    return row


routes: list[Route] = [Route(PATH, list_period_closes), Route(PATH, close_period, methods=["POST"])]
