"""What a tracking link would do, asked without following it."""

from __future__ import annotations

import time
from asyncio import to_thread
from typing import Annotated, Any

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from tracker.api.http.auth import authorize
from tracker.api.http.endpoint import documented, needs, responses
from tracker.api.http.problems import SECURITY_HEADERS, invalid
from tracker.api.http.query import From, ZoneQuery, read_query
from tracker.domain.local_time import first_second
from tracker.ops.explain import MAX_MILLIS, Question, UnreadableUrlError, explain
from tracker.ops.geo_lookup import GeoLookup

PATH = "/backend/open-api/v1/explain"

_SCOPE = "offers:read"
_LONGEST = 8192


def _text(text: str) -> str:
    if len(text) > _LONGEST:
        raise ValueError(f"is longer than {_LONGEST} characters")
    return text


Text = Annotated[str, BeforeValidator(_text)]


class ExplainQuery(ZoneQuery):
    """Which link, and who is to follow it when."""

    url: Text = Field(description="The whole tracking link, percent-encoded as one parameter.")
    ip: Text = Field("", description="The visitor's address.")
    user_agent: Text = Field("", description="The visitor's User-Agent.")
    language: Text = Field("", description="The visitor's Accept-Language.")
    referrer: Text = Field("", description="The page that the link stands on.")
    at: From = Field(None, description="When it is followed, a local time in `tz`; now unless given.")

    def question(self, network_zone: str) -> Question:
        zone = self.zone(network_zone)
        millis = int(time.time() * 1000) if self.at is None else first_second(self.at, zone) * 1000
        if not 0 <= millis <= MAX_MILLIS:
            raise invalid({"at": ["is before 1970 or after 9999"]})
        return Question(self.url, self.ip, self.user_agent, self.language, self.referrer, millis)


class Explained(BaseModel):
    """The steps of the decision; those that were not reached are missing."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"at": "2026-11-25T16:00:00+00:00", "link": {"offer_id": 3}, "unknown": ["offer"]}]
        }
    )

    at: str | None = Field(None, description="When the link is followed, UTC.")
    link: dict[str, Any] = Field(description="What the link says.")
    read_leniently: bool | None = Field(
        None, description="Whether the offer and affiliate were only found by the lenient reading."
    )
    unknown: list[str] | None = Field(None, description="What of the link is unknown: offer, affiliate.")
    offer: dict[str, Any] | None = Field(None, description="The offer, and its own rules.")
    affiliate: dict[str, Any] | None = None
    visitor: dict[str, Any] | None = Field(None, description="The visitor: address, device, place, key.")
    is_test: bool | None = None
    bot_reason: str | None = Field(None, description="Which rule calls the visitor a bot; null = human.")
    urls: list[dict[str, Any]] | None = Field(None, description="The offer's active URLs, rule by rule.")
    fallbacks: list[dict[str, Any]] | None = Field(
        None, description="Where a refused click would go, in order, and whether it would be taken."
    )
    caps: list[dict[str, Any]] | None = Field(None, description="The caps that apply, and their counts.")
    first_click: str | None = Field(None, description="Hash of the visitor's first click in the window.")
    is_unique: bool | None = None
    stream: str | None = Field(None, description="Why the stream cannot be asked, where it cannot.")
    outcomes: dict[str, Any] | None = Field(
        None, description="What the edge prepares for the stream to choose."
    )
    answer: dict[str, Any] | None = Field(None, description="What the visitor gets.")
    if_active: dict[str, Any] | None = Field(
        None, description="What the offer, which is a draft, would answer to a first click if it were active."
    )
    macros: dict[str, str] | None = Field(
        None, description="What the macros of the answer's URL are filled with, before percent-encoding."
    )
    problems: list[str] | None = Field(None, description="What is wrong with the catalogue's rows read here.")


@documented.validate(
    query=ExplainQuery,
    resp=responses(Explained, 401, 403, 422, 503),
    security=needs(_SCOPE),
    tags=["Links"],
    operation_id="explain_link",
    skip_validation=True,
)
async def explain_link(request: Request) -> Response:
    """Explain a link

    What it would do now (or `at` another time): offer, URL rule by rule, uniqueness, caps, bot verdict,
    fallbacks, reason, and the macros as filled. Nothing is recorded, counted or used up.
    """
    await authorize(request, _SCOPE)
    query = read_query(request, ExplainQuery)
    state = request.app.state
    question = query.question(state.settings.time_zone)
    try:
        with await to_thread(GeoLookup, state.settings.geoip_db) as geo:
            told = await explain(state.settings, geo, question)
    except UnreadableUrlError as error:
        raise invalid({"url": [str(error)]}) from None
    return Response(orjson.dumps(told), headers=SECURITY_HEADERS, media_type="application/json")


routes: list[BaseRoute] = [Route(PATH, explain_link)]
