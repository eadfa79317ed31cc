"""The ledger: whether every recorded click is stored, and else where it is."""

from __future__ import annotations

import time
from asyncio import timeout
from typing import Any, Literal

from pydantic import ConfigDict, Field
from starlette.responses import Response
from starlette.routing import Route

from tracker.api.http.endpoint import Call, endpoint
from tracker.api.http.listing import as_json
from tracker.api.http.problems import Problem
from tracker.ops import ledger
from tracker.ops.doctor import balance
from tracker.parameters import Model
from tracker.reading.ledger import LedgerQuery
from tracker.stream.reader import UNREACHABLE

PATH = "/backend/open-api/v1/ledger"

_DEADLINE_SECONDS = 30


class LedgerMinute(Model):
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
    lost_answered: int = Field(
        description="Clicks that were answered, and of which the stream server has no record any more: it "
        "failed over, or was started from an older file. They are not in `recorded`.",
        examples=[0],
    )
    state: ledger.State = Field(
        description="balanced: difference is 0. settling: clicks are in flight and may count twice. "
        "unbalanced: clicks are missing, lost or doubled. "
        "uncounted: the stream server has no counts of that hour."
    )


class LedgerTotals(Model):
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
    lost_answered: int


class LedgerEdge(Model):
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


class LedgerFinding(Model):
    """Something that is wrong."""

    level: Literal["warn", "fail"]
    text: str = Field(examples=["2026-11-25 16:00 UTC does not balance: 1 missing"])
    advice: str = Field(description="What to do.", examples=["keep the logs of edges and workers"])


class LedgerAnswer(Model):
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
    verdict: balance.Verdict = Field(
        description="unbalanced: a minute does not balance. settling: clicks are in flight. balanced: else."
    )
    findings: list[LedgerFinding] = Field(
        description="What is wrong, and what to do, in the words of `tracker doctor`. [] if nothing is.",
        examples=[[]],
    )


@endpoint(
    scope="reports:read",
    query=LedgerQuery,
    without_money=LedgerQuery,
    returns=LedgerAnswer,
    tag="Ledger",
    has_complete_until=True,
)
async def read_ledger(call: Call[LedgerQuery]) -> Response:
    """Get the ledger

    For each minute: how many clicks were recorded, and where they are now. The range is at most 31 days.
    `unbalanced` names the minutes that do not balance. The command `tracker ledger` says the same in words.
    """
    zone = call.query.zone(call.network_zone)
    now = time.time()
    found = await _read(call.state, call.query.minutes(call.network_zone, now))
    told = balance.as_json(found, int(now * 1000))
    return as_json(ledger.as_json(found, zone, call.complete_until) | told)


async def _read(state: Any, minutes: range) -> ledger.Ledger:
    try:
        async with timeout(_DEADLINE_SECONDS), state.pool.acquire() as connection:
            return await ledger.read(state.stream, connection, minutes)
    except UNREACHABLE as error:
        detail = "The stream server or the database cannot answer now. Try again."
        raise Problem(503, detail, headers={"Retry-After": "1"}) from error


routes: list[Route] = [Route(PATH, read_ledger)]
