"""Creating clicks: those that did not come over a tracking link."""

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
from starlette.routing import BaseRoute, Route

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
from tracker.api.http.auth import authorize, require
from tracker.api.http.body import JSON, read_object, validated
from tracker.api.http.endpoint import documented, needs, responses
from tracker.api.http.problems import RETRY_AFTER, SECURITY_HEADERS, Problem, invalid
from tracker.api.http.query import ZoneQuery, read_query
from tracker.domain.click_id import millis_of
from tracker.store.clicks.columns import local_second
from tracker.store.clicks.idempotency import Conflict
from tracker.stream.appender import AppendError

EARLIEST = 946_684_800
"""The first second that a click may be of: 2000-01-01 UTC."""

MAX_BODY = 1 << 20
"""Longest body, in bytes: a hundred clicks with all that they may say."""

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


@documented.validate(
    query=ZoneQuery,
    headers=CreateHeaders,
    json=CreateClicks,
    resp=responses(Created, 400, 401, 403, 413, 415, 422, 503, status=201),
    security=needs(_SCOPE),
    tags=["Clicks"],
    operation_id="create_clicks",
    skip_validation=True,
)
async def create_clicks(request: Request) -> Response:
    """Create clicks

    By the rules of a tracking link: targeting, caps, uniqueness, fallbacks and bots all apply, and what they
    refuse is a result (`status`, `reason`). If anything in the request cannot be read, or is of no offer or
    affiliate, nothing of it is created. Answered clicks are stored. After any other answer, or none, repeat
    the request with the same Idempotency-Key, or the same dedupe_key (or legacy_id) in each click: it creates
    what is missing and answers as if it were the first; without such a key it may create clicks twice.
    """
    token = await authorize(request, _SCOPE)
    zone = read_query(request, ZoneQuery).zone(request.app.state.settings.time_zone)
    key = request_key(request)
    asked = _read_asked(await read_object(request, JSON, most=MAX_BODY))
    if any(click.created_at is not None for click in asked.clicks):
        require(token, _BACKFILL_SCOPE)
    _check(asked, zone)
    described = [click.described(zone) for click in asked.clicks]
    digest = sha256(b"".join(click.digest for click in described)).digest()
    creator: Creator = request.app.state.creator
    created = await _create(creator, creation.Request(token.id, key, digest, described), asked)
    rows = [_row(click, zone) for click in created]
    body = orjson.dumps({"data": rows} if asked.is_list else rows[0])
    return Response(body, 201, SECURITY_HEADERS, "application/json")


routes: list[BaseRoute] = [Route(PATH, create_clicks, methods=["POST"])]


class _ClicksRequest(NamedTuple):
    """The clicks of a body: one by itself, or a list."""

    clicks: Sequence[NewClick]
    is_list: bool

    def named(self, place: int, field: str) -> str:
        return f"clicks.{place}.{field}" if self.is_list else field


def _read_asked(body: dict[str, object]) -> _ClicksRequest:
    if "clicks" in body:
        return _ClicksRequest(validated(body, NewClicks).clicks, True)
    return _ClicksRequest([validated(body, NewClick)], False)


def request_key(request: Request) -> str | None:
    """What a request is known by when it is repeated.

    Raises:
        Problem: 422 where that cannot be a key.
    """
    given = request.headers.getlist(_KEY_HEADER)
    if len(given) > 1:
        raise invalid({_KEY_HEADER: ["is repeated"]})
    try:
        return read_key(given[0]) if given else None
    except ValueError as error:
        raise invalid({_KEY_HEADER: [str(error)]}) from None


def _check(asked: _ClicksRequest, zone: tzinfo) -> None:
    """See that each click has a time that can be, and keys of its own.

    Raises:
        Problem: 422 naming each that does not.
    """
    errors = {
        asked.named(place, "created_at"): [why]
        for place, click in enumerate(asked.clicks)
        if (why := _wrong_time(click.second(zone)))
    }
    for field in ("dedupe_key", "legacy_id"):
        keys = [getattr(click, field) for click in asked.clicks]
        for place, key in enumerate(keys):
            if key is not None and key in keys[:place]:
                errors[asked.named(place, field)] = ["is used by another click of this request"]
    if errors:
        raise invalid(errors)


def _wrong_time(second: int | None) -> str:
    if second is None or EARLIEST <= second <= time():
        return ""
    return "is before 2000" if second < EARLIEST else "is in the future"


async def _create(creator: Creator, wanted: creation.Request, asked: _ClicksRequest) -> list[CreatedClick]:
    try:
        return await creator.create(wanted)
    except Unknown as error:
        raise invalid({asked.named(*where): ["is not known"] for where in error.fields}) from None
    except Conflict as error:
        field = error.field if error.place is None else asked.named(error.place, error.field)
        raise invalid({field: [str(error)]}) from None
    except AppendError as error:
        _log.warning("clicks cannot be created: %s", error)
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
