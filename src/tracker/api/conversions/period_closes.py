"""Closing the books: what is changed of a closed period is booked as an adjustment."""

from __future__ import annotations

from datetime import UTC, datetime

import orjson
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from tracker.api.catalogue import PageQuery, list_rows, listed
from tracker.api.http.auth import authorize
from tracker.api.http.body import JSON, read_object, validated
from tracker.api.http.endpoint import documented, needs, responses
from tracker.api.http.listing import as_json
from tracker.api.http.problems import Problem, invalid
from tracker.api.http.query import Query, read_query
from tracker.catalogue.fields import Fields, Moment
from tracker.catalogue.resource import ROOT
from tracker.store.catalogue import edit
from tracker.store.catalogue.edit import Author, Table
from tracker.store.conversions import manual
from tracker.store.conversions.manual import NotLater

PATH = f"{ROOT}/period-closes"

TABLE = Table("period_close", ("until", "closed_at", "author"), is_log=True)
READ_SCOPE, _CLOSE_SCOPE = "money:read", "admin"


class NewPeriodClose(Fields):
    """The end of the period to close."""

    until: Moment = Field(
        description="End of the period, exclusive. Not in the future, and later than all earlier closes."
    )


class PeriodClose(BaseModel):
    """A close of the books."""

    id: int = Field(examples=[1])
    until: str = Field(
        description="End of the period in UTC, exclusive.", examples=["2026-11-01T00:00:00+00:00"]
    )
    closed_at: str = Field(description="UTC.", examples=["2026-11-05T09:00:00.123456+00:00"])
    author: str = Field(description="Name of the token that closed it.", examples=["accounts"])


@documented.validate(
    query=PageQuery,
    resp=responses(listed("PeriodCloseList", PeriodClose), 401, 403, 422, 503),
    security=needs(READ_SCOPE),
    tags=["Conversions"],
    operation_id="list_period_closes",
    skip_validation=True,
)
async def list_period_closes(request: Request) -> Response:
    """List period closes

    The latest first.
    """
    await authorize(request, READ_SCOPE)
    return await list_rows(request, TABLE, read_query(request, PageQuery), {})


@documented.validate(
    json=NewPeriodClose,
    resp=responses(PeriodClose, 400, 401, 403, 409, 413, 415, 422, 503, status=201),
    security=needs(_CLOSE_SCOPE),
    tags=["Conversions"],
    operation_id="close_period",
    skip_validation=True,
)
async def close_period(request: Request) -> Response:
    """Close a period

    For good. From then on nothing is booked before that time: what is approved or rejected later of a closed
    period is booked when it happens, as an adjustment.
    """
    token = await authorize(request, _CLOSE_SCOPE)
    read_query(request, Query)
    asked = validated(await read_object(request, JSON), NewPeriodClose)
    if asked.until == "infinity" or (until := datetime.fromisoformat(asked.until)) > datetime.now(UTC):
        raise invalid({"until": ["is in the future"]})
    async with manual.changing(request.app.state.pool) as connection:
        try:
            row = orjson.loads(await manual.close_period(connection, until, token.name))
        except NotLater as error:
            raise Problem(409, f"until {error}.", errors={"until": [str(error)]}) from None
        author = Author(token.id, token.name)
        await edit.note(connection, author, TABLE, f"period-closes/{row['id']}", None, row)
    return as_json(row, 201)


routes: list[BaseRoute] = [Route(PATH, list_period_closes), Route(PATH, close_period, methods=["POST"])]
