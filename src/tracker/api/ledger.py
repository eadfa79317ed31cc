"""The ledger: whether every click recorded is stored, or where it is."""

from __future__ import annotations

import time
from asyncio import timeout
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from tracker.api.http.auth import authorize
from tracker.api.http.complete_until import header
from tracker.api.http.endpoint import documented, needs, responses
from tracker.api.http.problems import SECURITY_HEADERS, Problem
from tracker.api.http.query import read_query
from tracker.ops import ledger
from tracker.reading.ledger import LedgerQuery
from tracker.stream.reader import UNREACHABLE

PATH = "/backend/open-api/v1/ledger"

_SCOPE = "reports:read"
_DEADLINE_SECONDS = 30


class LedgerMinute(BaseModel):
    """A minute: recorded = stored + in_flight + spooled + dead + given_up + duplicates + difference."""

    minute: str | None = Field(
        description="When it begins, in tz, with its offset; null: entries whose hash cannot be read.",
        examples=["2026-11-25T17:00:00+01:00"],
    )
    recorded: int = Field(description="Clicks put on disk by an edge.", examples=[1200])
    answered: int = Field(
        description="Of these, those whose answer was handed to the browser.", examples=[1199]
    )
    not_known_answered: int = Field(
        description="Recorded, and not known to be answered: the browser went away, or the edge was killed.",
        examples=[1],
    )
    late: int = Field(description="Of the recorded, those that came out of a spool.", examples=[0])
    stored: int = Field(description="Clicks in the database.", examples=[1197])
    in_flight: int = Field(description="On the stream.", examples=[3])
    spooled: int = Field(description="On an edge's disk, for the stream was away.", examples=[0])
    dead: int = Field(description="Cannot be stored: see tracker dead-letters.", examples=[0])
    given_up: int = Field(description="Dead letters that the operator dropped.", examples=[0])
    duplicates: int = Field(description="Recorded once more by an edge in doubt, stored once.", examples=[0])
    difference: int = Field(
        description="Recorded and nowhere to be found; below 0: the reverse.", examples=[0]
    )
    state: ledger.State = Field(
        description="balanced; settling: something is in flight, and may be counted on both sides; "
        "unbalanced; uncounted: stored, and the stream server has no counts of that hour, or none any more."
    )


class LedgerTotals(BaseModel):
    """The sums of the minutes."""

    recorded: int
    answered: int
    not_known_answered: int
    late: int
    stored: int
    in_flight: int
    spooled: int
    dead: int
    given_up: int
    duplicates: int
    difference: int


class LedgerEdge(BaseModel):
    """An edge's word on one partition of the stream."""

    slot: str = Field(examples=["0"])
    run: str = Field(
        description="Tells edges apart that have one slot: the id of its spool's directory.",
        examples=["5f0c3a9be1d27746"],
    )
    partition: int = Field(examples=[0])
    until: str = Field(
        description="Every click of this edge before this time is on the stream, or further.",
        examples=["2026-11-25T16:00:00.123Z"],
    )
    heard: str = Field(description="When it said so.", examples=["2026-11-25T16:00:00.125Z"])
    spooled: int = Field(description="Clicks in its spool.", examples=[0])


class LedgerAnswer(BaseModel):
    """The minutes in which there was anything, and where their clicks are."""

    model_config = ConfigDict(title="Ledger")

    data: list[LedgerMinute]
    totals: LedgerTotals
    unbalanced: list[str | None] = Field(description="The minutes that do not balance.", examples=[[]])
    edges: list[LedgerEdge]
    complete_until: str | None = Field(
        description="As the header Complete-Until; null: not known.", examples=["2026-11-25T16:00:00.123Z"]
    )
    is_cross_checked: bool = Field(
        description="Whether the counts were held against what is on the stream: not while very much is."
    )


@documented.validate(
    query=LedgerQuery,
    resp=responses(LedgerAnswer, 401, 403, 422, 503),
    security=needs(_SCOPE),
    tags=["Ledger"],
    operation_id="read_ledger",
    skip_validation=True,
)
async def read_ledger(request: Request) -> Response:
    """Is every click there?

    Minute by minute of the clicks' hashes, at most 31 days: what was recorded, and where it is now. A minute
    that does not balance is named in `unbalanced`; in words, `tracker ledger` says the same.
    """
    await authorize(request, _SCOPE)
    query = read_query(request, LedgerQuery)
    state = request.app.state
    zone = query.zone(state.settings.time_zone)
    minutes = query.minutes(state.settings.time_zone, time.time())
    complete_until: int | None = await state.complete_until.millis()
    told = ledger.as_json(await _read(state, minutes), zone, complete_until)
    headers = {**SECURITY_HEADERS, **header(complete_until)}
    return Response(orjson.dumps(told), headers=headers, media_type="application/json")


async def _read(state: Any, minutes: range) -> ledger.Ledger:
    try:
        async with timeout(_DEADLINE_SECONDS), state.pool.acquire() as connection:
            return await ledger.read(state.stream, connection, minutes)
    except UNREACHABLE as error:
        detail = "The stream server or the database cannot answer now. Try again."
        raise Problem(503, detail, headers={"Retry-After": "1"}) from error


routes: list[BaseRoute] = [Route(PATH, read_ledger)]
