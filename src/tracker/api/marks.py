"""Notes about a time, and the marks of charts: what was noted or changed in a span."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from pydantic import Field
from starlette.responses import Response
from starlette.routing import Route

from tracker.api.catalogue import as_json, routes_of
from tracker.api.http.endpoint import Call, endpoint
from tracker.api.http.routing import ROOT
from tracker.catalogue.notes import NOTES
from tracker.catalogue.resource import READ
from tracker.parameters import Model
from tracker.reading import marks
from tracker.reading.marks import MarksQuery
from tracker.store.marks import MOST_MARKS


class Mark(Model):
    """Something that happened."""

    at: str = Field(description="Local time with its offset.", examples=["2026-11-25T17:00:00+01:00"])
    kind: Literal["change", "note"]
    text: str = Field(
        description="What happened, in one line. More than 3 changes of a kind by one author in a minute "
        "are one mark.",
        examples=["Offer 3 (Puzzle Quest) paused"],
    )
    author: str = Field(
        description="The user's e-mail address, or the name of the token. Empty: the command line.",
        examples=["anna@network.example"],
    )
    path: str | None = Field(
        description="The path of the changed object. null for notes, and for several changes.",
        examples=["offers/3"],
    )
    note_id: int | None = Field(description="The note's id. null for changes.")


class MarkList(Model):
    """What happened in a span, in its order."""

    data: list[Mark]
    is_whole: bool = Field(description=f"false: there was more. Only the last {MOST_MARKS} marks are listed.")


@endpoint(scope=READ, query=MarksQuery, without_money=MarksQuery, returns=MarkList, tag="Reports")
async def list_marks(call: Call[MarksQuery]) -> Response:
    """List marks

    What explains a bend in a chart: notes, and changes of offers, URLs, caps, goals, terms, affiliates,
    advertisers, blocks and the network's fallback. The changes are those of the audit trail.
    """
    zone, span = call.query.zone(call.network_zone), call.query.span(call.network_zone, datetime.now(UTC))
    found = await marks.read(call.state.pool, span, zone, hides_money=call.token.hides_money)
    return as_json({"data": found.rows, "is_whole": found.is_whole})


routes: list[Route] = [*routes_of(NOTES), Route(f"{ROOT}/marks", list_marks)]
