"""Dead letters: clicks that could not be stored. Read, replay or drop them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from pydantic import Field
from starlette.responses import Response
from starlette.routing import Route

from tracker.api.http.endpoint import Body, Call, endpoint
from tracker.api.http.listing import as_json
from tracker.api.http.problems import RETRY_AFTER, Problem, invalid
from tracker.api.http.routing import ROOT
from tracker.catalogue.fields import Fields
from tracker.catalogue.validation import check_storable, validated
from tracker.ops import dead_letters
from tracker.parameters import Model, Query, whole
from tracker.stream.dead_letters import DeadLetters, NoSuchLetterError
from tracker.stream.reader import UNREACHABLE

PATH = f"{ROOT}/dead-letters"

_SCOPE = "admin"
_TAG = "Operations"
_MOST = 1_000  # of one answer, and of one request
_ID = "The id of the dead letter, as in the list."
_PATTERN = r"^[0-9]{1,2}:[0-9]{1,20}-[0-9]{1,20}$"
_EXAMPLE = "0:1764086401234-0"


class DeadLetterQuery(Query):
    """How many."""

    limit: whole(1, _MOST) = Field(default=100, description="At most so many, the oldest first.")  # type: ignore[valid-type]


class DeadLetterAnswer(Model):
    """A click that could not be stored."""

    id: str = Field(examples=[_EXAMPLE])
    died_at: str = Field(description="UTC.", examples=["2026-11-25 16:00:01"])
    reason: str = Field(examples=["the record cannot be read"])
    hash: str | None = Field(examples=["01927632a6c87d3f9b1c5e8a4f60d2b7"])
    minute: str | None = Field(
        description="UTC. The minute of the click in the ledger.", examples=["2026-11-25 16:00"]
    )
    entry: str = Field(description="The id that it had on the stream.", examples=["1764086400000-0"])


class DeadLetterList(Model):
    """The oldest dead letters, and how many there are."""

    data: list[DeadLetterAnswer]
    total: int = Field(examples=[1])


class WholeDeadLetter(DeadLetterAnswer):
    """A dead letter with everything in it that can be read."""

    click: dict[str, Any] | None = Field(None, description="The click. Missing if it cannot be read.")
    answer: dict[str, Any] | None = Field(None, description="If it cannot be read: what was answered.")
    version: int | None = Field(None, description="If it cannot be read: the version of its record.")
    record: Any = Field(None, description="If it cannot be read: the record.")


class DeadLetterIds(Fields):
    """Which dead letters."""

    ids: list[Annotated[str, Field(pattern=_PATTERN, examples=[_EXAMPLE])]] = Field(
        min_length=1, max_length=_MOST
    )


class SettledAnswer(Model):
    """What was done."""

    ids: list[str] = Field(description="The dead letters that were still there.", examples=[[_EXAMPLE]])
    postbacks_tried_again: int = Field(description="Postbacks that waited for them.", examples=[0])


@asynccontextmanager
async def _letters(call: Call[Any]) -> AsyncIterator[DeadLetters]:
    try:
        async with DeadLetters(call.state.settings.redis_url) as letters:
            yield letters
    except UNREACHABLE as error:
        raise Problem(503, "The stream server cannot answer now. Try again.", headers=RETRY_AFTER) from error


@endpoint(scope=_SCOPE, query=DeadLetterQuery, returns=DeadLetterList, tag=_TAG)
async def list_dead_letters(call: Call[DeadLetterQuery]) -> Response:
    """List dead letters

    Clicks that no worker could store, with the reason. They are counted in the ledger.
    """
    rows: list[dict[str, Any]] = []
    async with _letters(call) as letters:
        total = await letters.count()
        async for letter in letters.all():
            if len(rows) == call.query.limit:
                break
            rows.append(dead_letters.facts(letter))
    return as_json({"data": rows, "total": total})


@endpoint(scope=_SCOPE, query=Query, returns=WholeDeadLetter, tag=_TAG, path={"id": _ID}, may_fail=(404,))
async def get_dead_letter(call: Call[Query]) -> Response:
    """Get a dead letter

    With the whole click, or with the readable parts of a damaged one.
    """
    async with _letters(call) as letters:
        try:
            letter = await letters.get(call.path["id"])
        except NoSuchLetterError as error:
            raise Problem(404, str(error), errors={"id": ["does not exist"]}) from None
    return as_json(dead_letters.facts(letter) | dead_letters.contents(letter))


@endpoint(scope=_SCOPE, query=Query, body=Body(DeadLetterIds), returns=SettledAnswer, tag=_TAG)
async def replay_dead_letters(call: Call[Query]) -> Response:
    """Replay dead letters

    Puts them back on the stream, so that a worker stores them. One that fails again is a dead letter again,
    with a new id. Postbacks that wait for them are tried again. A wrong id changes nothing.
    """
    return await _settle(call, DeadLetters.replay)


@endpoint(scope=_SCOPE, query=Query, body=Body(DeadLetterIds), returns=SettledAnswer, tag=_TAG)
async def drop_dead_letters(call: Call[Query]) -> Response:
    """Drop dead letters

    Gives clicks up for good. The ledger goes on counting them, as given up. A wrong id changes nothing.
    """
    return await _settle(call, DeadLetters.drop)


async def _settle(call: Call[Query], do: dead_letters.Settle) -> Response:
    body = await call.object()
    check_storable(body)
    ids = validated(body, DeadLetterIds).ids
    async with _letters(call) as letters, call.state.pool.acquire() as connection:
        try:
            done = await dead_letters.settle(connection, letters, ids, do, call.author)
        except NoSuchLetterError as error:
            raise invalid({"ids": [str(error)]}) from None
    return as_json(done._asdict())


routes: list[Route] = [
    Route(PATH, list_dead_letters),
    Route(f"{PATH}/replay", replay_dead_letters, methods=["POST"]),
    Route(f"{PATH}/drop", drop_dead_letters, methods=["POST"]),
    Route(f"{PATH}/{{id}}", get_dead_letter),
]
