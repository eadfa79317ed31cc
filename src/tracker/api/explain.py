"""Explains what a tracking link does, without following it."""

from __future__ import annotations

import time
from asyncio import to_thread
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field
from starlette.responses import Response
from starlette.routing import Route

from tracker.api.http.endpoint import Call, endpoint
from tracker.api.http.listing import as_json
from tracker.api.http.problems import invalid
from tracker.domain.local_time import first_second
from tracker.ops.explain import MAX_MILLIS, Question, Somewhere, UnreadableUrlError, explain
from tracker.ops.geo_lookup import GeoLookup
from tracker.parameters import Country, From, Model
from tracker.reading.query import ZoneQuery

PATH = "/backend/open-api/v1/explain"

_LONGEST = 8192


def _text(text: str) -> str:
    if len(text) > _LONGEST:
        raise ValueError(f"is longer than {_LONGEST} characters")
    return text


Text = Annotated[str, BeforeValidator(_text)]


class ExplainQuery(ZoneQuery):
    """The link, its visitor and the time."""

    url: Text = Field(description="The whole tracking link, percent-encoded.")
    ip: Text = Field("", description="The visitor's IP address.")
    user_agent: Text = Field("", description="The visitor's User-Agent.")
    country: Country = Field(
        None, description="As if the visitor's address were in this country. Its region and ISP are unknown."
    )
    language: Text = Field("", description="The visitor's Accept-Language.")
    referrer: Text = Field("", description="The page with the link.")
    at: From = Field(None, description="The time of the click, as local time in `tz`. Default: now.")

    def question(self, network_zone: str) -> Question:
        zone = self.zone(network_zone)
        millis = int(time.time() * 1000) if self.at is None else first_second(self.at, zone) * 1000
        if not 0 <= millis <= MAX_MILLIS:
            raise invalid({"at": ["is before 1970 or after 9999"]})
        return Question(self.url, self.ip, self.user_agent, self.language, self.referrer, millis)


class Explained(Model):
    """The steps of the decision. Steps that were not reached are missing."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"at": "2026-11-25T16:00:00+00:00", "link": {"offer_id": 3}, "unknown": ["offer"]}]
        }
    )

    at: str | None = Field(None, description="The time of the click, UTC.")
    link: dict[str, Any] = Field(description="The parts of the link.")
    read_leniently: bool | None = Field(
        None, description="true if only the lenient reading found the offer and affiliate."
    )
    unknown: list[str] | None = Field(None, description="The unknown parts of the link: offer, affiliate.")
    offer: dict[str, Any] | None = Field(None, description="The offer and its rules.")
    affiliate: dict[str, Any] | None = None
    closed: list[dict[str, Any]] | None = Field(
        None, description="For whom the offer is closed, until when, and by which cap or by the operator."
    )
    visitor: dict[str, Any] | None = Field(None, description="The visitor: address, device, location, key.")
    is_test: bool | None = None
    bot_reason: str | None = Field(None, description="The rule that calls the visitor a bot. null: a person.")
    urls: list[dict[str, Any]] | None = Field(
        None, description="The active URLs of the offer, with the result of each rule."
    )
    fallbacks: list[dict[str, Any]] | None = Field(
        None, description="The fallbacks of a refused click in their order, and whether each would take it."
    )
    caps: list[dict[str, Any]] | None = Field(None, description="The caps that apply, with their counts.")
    first_click: str | None = Field(None, description="Hash of the visitor's first click in the window.")
    is_unique: bool | None = None
    stream: str | None = Field(None, description="The error of the stream server, if it cannot answer.")
    outcomes: dict[str, Any] | None = Field(
        None, description="The outcomes that the edge prepares. The stream server chooses one."
    )
    answer: dict[str, Any] | None = Field(None, description="The answer to the visitor.")
    if_active: dict[str, Any] | None = Field(
        None, description="The answer to a first click if the offer, now a draft, were active."
    )
    macros: dict[str, str] | None = Field(
        None, description="The values of the macros in the answer's URL, before percent-encoding."
    )
    problems: list[str] | None = Field(
        None, description="Errors in the rows of the catalogue that were read."
    )


@endpoint(scope="offers:read", query=ExplainQuery, returns=Explained, tag="Links")
async def explain_link(call: Call[ExplainQuery]) -> Response:
    """Explain a link

    What the link does now, or at the time `at`: the offer, the URL rule by rule, uniqueness, caps, the bot
    rule, fallbacks, the reason and the macros. Nothing is recorded, counted or used up.
    """
    settings = call.state.settings
    try:
        question = call.query.question(call.network_zone)
        if call.query.country:
            steps = await explain(settings, Somewhere(call.query.country), question)
        else:
            with await to_thread(GeoLookup, settings.geoip_db) as geo:
                steps = await explain(settings, geo, question)
    except UnreadableUrlError as error:
        raise invalid({"url": [str(error)]}) from None
    return as_json(steps)


routes: list[Route] = [Route(PATH, explain_link)]
