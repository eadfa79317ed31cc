"""Creates clicks that did not come over a tracking link."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import tzinfo
from hashlib import sha256
from time import time
from typing import NamedTuple

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tracker.api.clicks import creator as creation
from tracker.api.clicks.create_schema import (
    CreateClicks,
    Created,
    CreateHeaders,
    NewClick,
    NewClicks,
    read_key,
)
from tracker.api.clicks.creator import CreatedClick, Creator, NotStoredYet, Unknown
from tracker.api.clicks.endpoints import PATH
from tracker.api.http.auth import require
from tracker.api.http.endpoint import Body, Call, endpoint
from tracker.api.http.problems import RETRY_AFTER, SECURITY_HEADERS, Problem, invalid
from tracker.catalogue.validation import validated
from tracker.domain.click_id import millis_of
from tracker.reading.query import ZoneQuery
from tracker.store.clicks.columns import local_second
from tracker.store.clicks.idempotency import Conflict
from tracker.stream.appender import AppendError

EARLIEST = 946_684_800
"""The first second of a click: 2000-01-01 UTC."""

MAX_BODY = 1 << 20
"""Longest body, in bytes: a hundred clicks with all their fields."""

_SCOPE, _BACKFILL_SCOPE = "clicks:write", "clicks:backfill"
_KEY_HEADER = "Idempotency-Key"

_log = logging.getLogger(__name__)

_STREAM_AWAY = (
    "The stream cannot take clicks now. Send the request again with the same keys. Nothing is done twice."
)
_NOT_STORED = (
    "The clicks are recorded, but no worker has stored them yet. They will be stored. To get the answer, "
    "send the request again with the same keys. Nothing is done twice."
)


@endpoint(
    scope=_SCOPE,
    query=ZoneQuery,
    without_money=ZoneQuery,
    headers=CreateHeaders,
    body=Body(CreateClicks, most=MAX_BODY),
    returns=Created,
    status=201,
    tag="Clicks",
)
async def create_clicks(call: Call[ZoneQuery]) -> Response:
    """Create clicks

    The rules of a tracking link apply: targeting, caps, uniqueness, fallbacks and bots. A click that they
    refuse is a result with its `status` and `reason`. If a field cannot be read or an offer or affiliate is
    unknown, no click is created. With the answer 201 the clicks are stored. After any other answer or none,
    repeat the request with the same Idempotency-Key. The same dedupe_key or legacy_id in each click works
    too. The repeat creates the missing clicks and gets the answer of the first request. Without a key it may
    create clicks twice.
    """
    zone = call.query.zone(call.network_zone)
    key = request_key(call.request)
    batch = _read_clicks(await call.object())
    if any(click.created_at is not None for click in batch.clicks):
        require(call.token, _BACKFILL_SCOPE)
    _check(batch, zone)
    described = [click.described(zone) for click in batch.clicks]
    digest = sha256(b"".join(click.digest for click in described)).digest()
    creator: Creator = call.state.creator
    created = await _create(creator, creation.Request(call.token.id, key, digest, described), batch)
    rows = [_row(click, zone) for click in created]
    body = orjson.dumps({"data": rows} if batch.is_list else rows[0])
    return Response(body, 201, SECURITY_HEADERS, "application/json")


routes: list[Route] = [Route(PATH, create_clicks, methods=["POST"])]


class _ClicksRequest(NamedTuple):
    """The clicks of a body: a single one or a list."""

    clicks: Sequence[NewClick]
    is_list: bool

    def named(self, place: int, field: str) -> str:
        return f"clicks.{place}.{field}" if self.is_list else field


def _read_clicks(body: dict[str, object]) -> _ClicksRequest:
    if "clicks" in body:
        return _ClicksRequest(validated(body, NewClicks).clicks, True)
    return _ClicksRequest([validated(body, NewClick)], False)


def request_key(request: Request) -> str | None:
    """The Idempotency-Key of a request.

    Raises:
        Problem: 422 for an invalid key.
    """
    values = request.headers.getlist(_KEY_HEADER)
    if len(values) > 1:
        raise invalid({_KEY_HEADER: ["is repeated"]})
    try:
        return read_key(values[0]) if values else None
    except ValueError as error:
        raise invalid({_KEY_HEADER: [str(error)]}) from None


def _check(batch: _ClicksRequest, zone: tzinfo) -> None:
    """Check that each click has a possible time and keys of its own.

    Raises:
        Problem: 422 naming the fields that are wrong.
    """
    errors = {
        batch.named(place, "created_at"): [why]
        for place, click in enumerate(batch.clicks)
        if (why := _wrong_time(click.second(zone)))
    }
    for field in ("dedupe_key", "legacy_id"):
        keys = [getattr(click, field) for click in batch.clicks]
        for place, key in enumerate(keys):
            if key is not None and key in keys[:place]:
                errors[batch.named(place, field)] = ["is used by another click of this request"]
    if errors:
        raise invalid(errors)


def _wrong_time(second: int | None) -> str:
    if second is None or EARLIEST <= second <= time():
        return ""
    return "is before 2000" if second < EARLIEST else "is in the future"


async def _create(creator: Creator, request: creation.Request, batch: _ClicksRequest) -> list[CreatedClick]:
    try:
        return await creator.create(request)
    except Unknown as error:
        raise invalid({batch.named(*where): ["is not known"] for where in error.fields}) from None
    except Conflict as error:
        field = error.field if error.place is None else batch.named(error.place, error.field)
        raise invalid({field: [str(error)]}) from None
    except AppendError as error:
        _log.warning("clicks cannot be created: %(cause)s", {"event": "clicks_not_created", "cause": error})
        raise Problem(503, _STREAM_AWAY, headers=RETRY_AFTER) from None
    except NotStoredYet:
        raise Problem(503, _NOT_STORED, headers=RETRY_AFTER) from None


def _row(created: CreatedClick, zone: tzinfo) -> dict[str, object]:
    click = created.click
    return {
        **click._asdict(),
        "redirected_link": click.redirected_link or None,
        "created_at": local_second(millis_of(click.hash) // 1000, zone),
        "duplicate": created.is_duplicate,
    }
