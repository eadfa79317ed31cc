"""The story of one click: the click, why it went where it went, and all that came of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, Field, create_model
from starlette.responses import Response
from starlette.routing import Route

from tracker.api.clicks.endpoints import ALL, PATH, SCOPE, read_click
from tracker.api.clicks.schema import Click
from tracker.api.conversions.affiliate_postbacks import SentPostback
from tracker.api.conversions.endpoints import BOOK_SCOPE, WHOLE
from tracker.api.conversions.endpoints import READ_SCOPE as CONVERSIONS_SCOPE
from tracker.api.conversions.postbacks import LoggedPostback
from tracker.api.conversions.schema import Conversion, WholeConversion
from tracker.api.explain import Explained
from tracker.api.http.auth import VIEWS
from tracker.api.http.endpoint import Answer, Call, endpoint
from tracker.api.http.later import made_later
from tracker.api.http.listing import as_json
from tracker.api.partner_access.schema import CLICKS, CONVERSIONS, row_model
from tracker.catalogue.resource import READ as OFFERS_SCOPE
from tracker.parameters import Model
from tracker.reading.keys import KEY, KeyQuery
from tracker.reading.story import MOST, Sight, story
from tracker.reading.visibility import Visibility
from tracker.store.tokens import Token

_TAG = "Clicks"
_IN_PATH = {"id": KEY}
_SENT_KEYS = tuple(SentPostback.model_fields)
_FILLED = ("url", "last_error")  # may carry amounts
_NEWEST = f"The newest {MOST}."


class StoryEvent(Model):
    """One line of the story."""

    at: str = Field(description="In the time zone of the request.", examples=["2024-10-10 11:24:09"])
    second: int = Field(description="The same moment as Unix time.", examples=[1728559449])
    kind: Literal[
        "click",
        "redirect",
        "postback",
        "conversion",
        "change",
        "booking",
        "correction",
        "sent_postback",
        "attempt",
    ]
    text: str = Field(examples=["It was accepted and sent to offer 3, URL 132."])
    path: str | None = Field(description="The object that it is about.", examples=["conversions/902"])


class Choice(Model):
    """The URL of the offer that would take the click."""

    offer_url_id: int | None = Field(description="null if none would.", examples=[132])
    reason_name: str = Field(description="none, or why no URL would take it.", examples=["none"])


_TODAY = ("offer", "affiliate", "closed", "is_test", "bot_reason", "urls", "fallbacks", "problems")
_EXPLAINED: dict[str, Any] = {
    name: (field.annotation, field) for name in _TODAY for field in (Explained.model_fields[name],)
}


class RulesToday(create_model("RulesToday", **_EXPLAINED)):  # type: ignore[misc] # from those of explain
    """What today's rules say of the click, with its device and place as they were stored."""

    changes: int = Field(
        description="Changes of the offer, its URLs and the affiliate since. 0: these were the rules."
    )
    last_change_at: str | None = Field(
        description="The last of these changes, in the time zone of the request."
    )
    choice: Choice


class StoryTotals(Model):
    """The numbers of all rows, of which the story has the newest. null: the token does not see them."""

    conversions: int | None = Field(examples=[1])
    postbacks: int | None = Field(examples=[1])
    sent_postbacks: int | None = Field(examples=[1])


class _Story(Model):
    why: list[str] = Field(
        description="Why the click went where it went, as it was stored.",
        examples=[["It was accepted and sent to offer 3, URL 132."]],
    )
    events: list[StoryEvent] = Field(description="Everything in the order of time.")
    totals: StoryTotals


class Story(_Story):
    """A click and all that came of it."""

    click: Click
    today: RulesToday | None = Field(
        description="null without the scope offers:read, or if the offer or affiliate is gone. Rules are not "
        "stored with a click, so these are today's."
    )
    conversions: list[WholeConversion] | None = Field(
        description=f"{_NEWEST} null without the scope conversions:read."
    )
    postbacks: list[LoggedPostback] | None = Field(
        description=f"Postbacks that name the click or changed its conversions. {_NEWEST} null without the "
        "scope conversions:read."
    )
    sent_postbacks: list[SentPostback] | None = Field(
        description=f"Postbacks to the affiliate. {_NEWEST} null without the scope conversions:read."
    )


@endpoint(
    scope=SCOPE,
    query=KeyQuery,
    without_money=KeyQuery,
    returns=Story,
    tag=_TAG,
    path=_IN_PATH,
    may_fail=(410,),
    has_complete_until=True,
)
async def get_click_story(call: Call[KeyQuery]) -> Response:
    """Get the story of a click

    The request, the visitor as understood, the reasons of the decision, the redirect, postbacks with their
    results, conversions with their history and money, and postbacks to the affiliate with their attempts.
    """
    token = call.token
    sees = token.allows(CONVERSIONS_SCOPE)
    sight = Sight(
        conversions=WHOLE.seen_by(token) if sees else None,
        has_postbacks=sees,
        sent=_sent_keys(token) if sees else (),
        has_book=token.allows(BOOK_SCOPE),
        has_rules=token.allows(OFFERS_SCOPE),
    )
    return await _answer(call, ALL.seen_by(token), sight, Story)


def _sent_keys(token: Token) -> Sequence[str]:
    return [key for key in _SENT_KEYS if not (token.hides_money and key in _FILLED)]


async def _answer(call: Call[Any], clicks: Visibility, sight: Sight, model: type[BaseModel]) -> Response:
    zone = call.query.zone(call.network_zone)
    told = await story(call.state.pool, await read_click(call, clicks), zone, sight)
    return as_json({name: told[name] for name in model.model_fields})


@made_later
def _partner_model(kind: str) -> type[BaseModel]:
    click: Any = row_model(kind, Click, CLICKS[kind])
    conversion: Any = row_model(kind, Conversion, CONVERSIONS[kind])
    fields: dict[str, Any] = {
        "click": (click, ...),
        "conversions": (list[conversion] | None, Story.model_fields["conversions"]),
    }
    if kind == "affiliate":
        fields["sent_postbacks"] = (list[SentPostback] | None, Story.model_fields["sent_postbacks"])
    return create_model(f"{kind.capitalize()}Story", __base__=_Story, __doc__=Story.__doc__, **fields)


def _of_partner(kind: str) -> Answer:
    """The endpoint of affiliates or advertisers, with the keys that they see."""
    is_affiliate = kind == "affiliate"
    answer = _partner_model(kind)

    @endpoint(
        scope=SCOPE,
        owner=kind,
        query=KeyQuery,
        without_money=KeyQuery,
        returns=answer,
        tag=_TAG,
        path=_IN_PATH,
        may_fail=(410,),
        has_complete_until=True,
        name=f"get_{kind}_click_story",
        text="Get the story of one of your clicks\n\nThe same as the network's, with what you see of it.",
    )
    async def get(call: Call[KeyQuery]) -> Response:
        token = call.token
        sees = token.allows(CONVERSIONS_SCOPE)
        sight = Sight(
            conversions=Visibility(CONVERSIONS[kind]).seen_by(token) if sees else None,
            sent=_sent_keys(token) if sees and is_affiliate else (),
        )
        return await _answer(call, Visibility(CLICKS[kind]).seen_by(token), sight, answer())

    return get


routes: list[Route] = [
    Route(f"{PATH}/{{id}}/story", get_click_story),
    *(Route(f"{root}/clicks/{{id}}/story", _of_partner(kind)) for kind, root in VIEWS.items()),
]
