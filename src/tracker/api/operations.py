"""Operations: what the doctor finds, hits that named nothing known, and imports."""

from __future__ import annotations

from asyncio import Lock
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import Field
from starlette.responses import Response
from starlette.routing import Route

from tracker.api.catalogue import PageQuery, listed
from tracker.api.http.endpoint import Call, endpoint
from tracker.api.http.listing import as_json
from tracker.api.http.paging import envelope
from tracker.api.http.problems import RETRY_AFTER, Problem
from tracker.api.http.routing import ROOT
from tracker.ops.doctor import report
from tracker.parameters import Model, Query, choice, whole
from tracker.store.imports import runs
from tracker.store.paging import Page
from tracker.stream import unmatched
from tracker.stream.reader import UNREACHABLE

_SCOPE = "admin"
_TAG = "Operations"
_MOST_ORPHANS = 1_000
_AWAY = "The stream server cannot answer now. Try again."

_examining = Lock()  # an examination takes a second, and reads the ledger of a day


class FindingsQuery(Query):
    """What is checked."""

    only: choice(*report.TOPICS) = Field(None, description="Check this topic alone.")  # type: ignore[valid-type]


class FindingAnswer(Model):
    """One finding."""

    topic: str = Field(examples=["ledger"])
    level: Literal["ok", "warn", "fail"]
    text: str = Field(examples=["every minute of the last day balances: 1200 clicks"])
    advice: str = Field(description="What to do. Empty if there is nothing to do.", examples=[""])


class FindingList(Model):
    """The findings, by topic."""

    data: list[FindingAnswer]


@endpoint(scope=_SCOPE, query=FindingsQuery, returns=FindingList, tag=_TAG)
async def list_findings(call: Call[FindingsQuery]) -> Response:
    """Find problems

    Checks the engines, the ledger, the catalogue and more, as the command `tracker doctor` does. It takes a
    second or two. Checks run one after the other.
    """
    async with _examining:
        found = await report.examine(call.state.settings, call.query.only)
    return as_json({"data": [finding._asdict() for finding in found]})


class OrphanQuery(Query):
    """How many hits."""

    limit: whole(1, _MOST_ORPHANS) = Field(default=100, description="At most so many, the latest first.")  # type: ignore[valid-type]


class OrphanAnswer(Model):
    """A hit that named an unknown offer, affiliate or link."""

    at: str = Field(description="UTC.", examples=["2026-11-25T16:00:00.123000+00:00"])
    why: str = Field(examples=["unknown offer"])
    requested_link: str = Field(examples=["https://go.example/offer/99?affiliate_id=513"])
    referrer: str
    ip: str
    user_agent: str


class OrphanList(Model):
    """The latest hits that named nothing known."""

    data: list[OrphanAnswer]


@endpoint(scope=_SCOPE, query=OrphanQuery, returns=OrphanList, tag=_TAG)
async def list_orphans(call: Call[OrphanQuery]) -> Response:
    """List unmatched hits

    The latest hits that named an unknown offer, affiliate or link. They are no clicks. About 10,000 are kept.
    """
    url = call.state.settings.redis_url
    try:
        found = await unmatched.read(url, call.query.limit)
    except UNREACHABLE as error:
        raise Problem(503, _AWAY, headers=RETRY_AFTER) from error
    return as_json({"data": [_orphan(orphan) for orphan in found]})


def _orphan(orphan: unmatched.Orphan) -> dict[str, Any]:
    at = datetime.fromtimestamp(orphan.millis / 1000, UTC)
    known = orphan._asdict()
    del known["millis"]
    return {"at": at.isoformat(), **known}


class ImportAnswer(Model):
    """A file that is or was imported."""

    kind: str = Field(examples=["clicks"])
    source: str = Field(description="The name of the earlier tracker.", examples=["keitaro"])
    file: str = Field(examples=["clicks-2026-10.csv"])
    rows: int = Field(description="Rows of the file that are done.")
    stored: int
    present: int = Field(description="Rows that were there already.")
    replaced: int
    refused: int
    started_at: str = Field(examples=["2026-11-25T16:00:00.123456+00:00"])


@endpoint(scope=_SCOPE, query=PageQuery, returns=listed("ImportList", ImportAnswer), tag=_TAG)
async def list_imports(call: Call[PageQuery]) -> Response:
    """List imports

    The files that `tracker import` began, the newest first, and how many of their rows are done.
    """
    number, per_page = call.query.page or 1, call.query.per_page
    total, rows = await runs.page(call.state.pool, number, per_page)
    page = Page(rows, total, number * per_page < total)
    return as_json(envelope(page, per_page=per_page, number=number))


routes: list[Route] = [
    Route(f"{ROOT}/findings", list_findings),
    Route(f"{ROOT}/unmatched-hits", list_orphans),
    Route(f"{ROOT}/imports", list_imports),
]
