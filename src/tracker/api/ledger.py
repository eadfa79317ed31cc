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
from tracker.api.http.problems import SECURITY_HEADERS, Problem, invalid
from tracker.api.http.query import From, To, ZoneQuery, read_query
from tracker.domain.local_time import first_second, last_second
from tracker.ops import ledger
from tracker.stream.reader import UNREACHABLE

PATH = "/backend/open-api/v1/ledger"

_SCOPE = "reports:read"
_DEADLINE_SECONDS = 30


class LedgerQuery(ZoneQuery):
    """Which minutes."""

    from_: From = Field(
        None,
        alias="from",
        description="The first minute, as local time. Default: an hour before `to`.",
    )
    to: To = Field(None, description="The last minute, as local time, inclusive. Default: now.")

    def minutes(self, network_zone: str, now: float) -> range:
        """The minutes that are meant.

        Raises:
            Problem: 422 where there are none, or too many.
        """
        zone = self.zone(network_zone)
        end = int(now) if self.to is None else last_second(self.to, zone)
        start = end - 3600 if self.from_ is None else first_second(self.from_, zone)
        try:
            return ledger.minutes_between(start, end)
        except ValueError as error:
            raise invalid({"from": [str(error)]}) from None


class LedgerMinute(BaseModel):
    """A minute: recorded = stored + in_flight + spooled + dead + given_up + duplicates + difference."""

    minute: str | None = Field(
        description="The start of the minute, with its offset. null: entries with an unreadable hash.",
        examples=["2026-11-25T17:00:00+01:00"],
    )
    recorded: int = Field(description="Clicks that edges recorded on disk.", examples=[1200])
    answered: int = Field(
        description="Recorded clicks whose answer was handed to the browser.", examples=[1199]
    )
    not_known_answered: int = Field(
        description="Recorded clicks without a known answer: the browser left, or the edge was killed.",
        examples=[1],
    )
    late: int = Field(description="Recorded clicks that came from a spool.", examples=[0])
    stored: int = Field(description="Clicks in the database.", examples=[1197])
    in_flight: int = Field(description="Clicks on the stream.", examples=[3])
    spooled: int = Field(
        description="Clicks in the spool of an edge, because the stream was unavailable.", examples=[0]
    )
    dead: int = Field(description="Clicks that cannot be stored. See tracker dead-letters.", examples=[0])
    given_up: int = Field(description="Dead letters that the operator dropped.", examples=[0])
    duplicates: int = Field(
        description="Second records of a click that is stored once. An edge records again when in doubt.",
        examples=[0],
    )
    difference: int = Field(
        description="Recorded clicks that were not found. Below 0: more clicks were found than recorded.",
        examples=[0],
    )
    state: ledger.State = Field(
        description="balanced: difference is 0. settling: clicks are in flight and may count twice. "
        "unbalanced: clicks are missing or doubled. uncounted: the stream server has no counts of that hour."
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
    """The last heartbeat of an edge about one partition of the stream."""

    slot: str = Field(examples=["0"])
    run: str = Field(
        description="The id of the edge's spool directory. It tells edges with the same slot apart.",
        examples=["5f0c3a9be1d27746"],
    )
    partition: int = Field(examples=[0])
    until: str = Field(
        description="All clicks of this edge before this time have reached the stream.",
        examples=["2026-11-25T16:00:00.123Z"],
    )
    heard: str = Field(description="The time of the heartbeat.", examples=["2026-11-25T16:00:00.125Z"])
    spooled: int = Field(description="Clicks in the spool of this edge.", examples=[0])


class LedgerAnswer(BaseModel):
    """Where the clicks of each minute are. Minutes without clicks are left out."""

    model_config = ConfigDict(title="Ledger")

    data: list[LedgerMinute]
    totals: LedgerTotals
    unbalanced: list[str | None] = Field(description="The minutes that do not balance.", examples=[[]])
    edges: list[LedgerEdge]
    complete_until: str | None = Field(
        description="Same as the header Complete-Until. null if unknown.",
        examples=["2026-11-25T16:00:00.123Z"],
    )
    is_cross_checked: bool = Field(
        description="true if the counts were compared with the stream. false while the stream is very long."
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
