"""Fields of the catalogue's objects: what an edge would leave out cannot be saved."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from ipaddress import ip_network
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from tracker import deeplink, macros, money, postback_macros, rates, rules
from tracker.api.times import zone_named
from tracker.model import MAX_ID

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_HOST = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")
_FIRST_YEAR = 1970


class Fields(BaseModel):
    """What may be written of an object."""

    model_config = ConfigDict(extra="forbid", strict=True)

    def clashes(self) -> dict[str, str]:
        """What is wrong between fields, each right by itself."""
        return {}


def _checked(check: Callable[[Any], object]) -> AfterValidator:
    def keep(value: Any) -> Any:
        check(value)
        return value

    return AfterValidator(keep)


def _no_control(text: str) -> None:
    if _CONTROL.search(text):
        raise ValueError("has control characters")


def _moment(text: str) -> str:
    if text == "infinity":
        return text
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None and moment.astimezone(UTC).year >= _FIRST_YEAR:
            return moment.astimezone(UTC).isoformat()
    except (ValueError, OverflowError):
        pass
    raise ValueError(
        "is no time from 1970 to 9999 with its offset, as 2026-11-01T00:00:00+01:00, nor infinity"
    )


def _offer_rules(targeting: dict[str, Any]) -> None:
    if _rules(targeting):
        raise ValueError("unique is a rule of offer URLs")


def _rules(targeting: dict[str, Any]) -> bool:
    return rules.compile(targeting, "UTC")[1]


def _amount(text: str) -> str:
    return money.show(money.read_amount(text))


def _networks(texts: list[str]) -> None:
    for text in texts:
        ip_network(text)


def is_host(text: str) -> bool:
    return _HOST.fullmatch(text) is not None


def _host(host: str) -> None:
    if not is_host(host):
        raise ValueError("is no host name in lower case, such as go.example")


Id = Annotated[int, Field(ge=1, le=MAX_ID)]
Name = Annotated[str, Field(min_length=1, max_length=500, examples=["Puzzle Quest"]), _checked(_no_control)]
Text = Annotated[str, Field(max_length=500), _checked(_no_control)]
Moment = Annotated[
    str,
    Field(
        description='With its offset; answers are in UTC. "infinity": never.',
        examples=["2026-11-01T00:00:00+00:00"],
    ),
    AfterValidator(_moment),
]
Zone = Annotated[str, Field(description="IANA.", examples=["Europe/Berlin"]), _checked(zone_named)]
UrlTemplate = Annotated[
    str,
    Field(
        max_length=macros.MAX_LOCATION,
        description="http or https, with macros.",
        examples=["https://ad.example/land?click={hash}"],
    ),
    _checked(macros.compile),
]
PostbackTemplate = Annotated[
    str,
    Field(
        max_length=macros.MAX_LOCATION,
        description="http or https, with macros of the conversion and its click.",
        examples=["https://partner.example/in?click={aff_sub}&sum={payout}&status={status}"],
    ),
    _checked(postback_macros.compile),
]
FreeText = Annotated[
    str, Field(min_length=1, max_length=500, examples=["winter"]), _checked(macros.free_text)
]
OfferTargeting = Annotated[
    dict[str, Any],
    Field(description="Rules by name.", examples=[{"country": ["DE", "AT"]}]),
    _checked(_offer_rules),
]
UrlTargeting = Annotated[
    dict[str, Any],
    Field(description="Rules by name.", examples=[{"os": {"not": ["iOS"]}, "unique": True}]),
    _checked(_rules),
]
DeepLinkHosts = Annotated[
    list[str],
    Field(max_length=1000, description="Hosts of deep links.", examples=[["shop.example", ".shop.example"]]),
    _checked(deeplink.hosts),
]
Addresses = Annotated[
    list[str],
    Field(max_length=1000, description="Addresses and CIDRs.", examples=[["192.0.2.7", "2001:db8::/32"]]),
    _checked(_networks),
]
Country = Annotated[str, Field(pattern="^[A-Z]{2}$", description="ISO 3166-1 alpha-2.", examples=["DE"])]
Money = Annotated[str, Field(examples=["12.50"]), AfterValidator(_amount)]
Currency = Annotated[str, Field(examples=["EUR"]), AfterValidator(money.read_currency)]
RateText = Annotated[
    str,
    Field(description="Requests in a second, minute or hour.", examples=["600/minute"]),
    _checked(rates.read_rate),
]
Host = Annotated[str, Field(max_length=253, examples=["go.example"]), _checked(_host)]


def one_fallback(url: str | None, offer_id: int | None) -> dict[str, str]:
    """What is wrong with a fallback: it is one of the two."""
    both = url is not None and offer_id is not None
    return {"fallback_offer_id": "does not go with fallback_url"} if both else {}
