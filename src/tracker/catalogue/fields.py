"""Fields of the catalogue's objects: what an edge would leave out cannot be saved."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from ipaddress import ip_network
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
)

from tracker.domain import deep_links, macros, money, normalise, postback_macros, rates, rules, useless_urls
from tracker.domain.local_time import zone_named
from tracker.domain.model import MAX_ID
from tracker.edge import pass_through
from tracker.edge.catalogue.link_codes import MAX_CODE
from tracker.edge.read.text import crop

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_HOST = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")
_FIRST_YEAR = 1970
_LINES = str.maketrans("\n\t", "  ")  # the controls of a text of several lines


Doubts = dict[str, list[str]]


class Fields(BaseModel):
    """What may be written of an object."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        defer_build=True,  # a command uses one resource of twenty
    )

    @field_validator("*", mode="wrap")
    @classmethod
    def _as_it_was(cls, value: Any, check: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
        """A change is about what it changes: a field that stays is not held against today's rules."""
        name, before = info.field_name, info.context or {}
        if name in before and before[name] == value:
            return before[name]
        return check(_chosen(cls, name or "", value) if isinstance(value, str) else value)

    def clashes(self) -> dict[str, str]:
        """What is wrong between fields, each right by itself."""
        return {}

    @classmethod
    def doubts(cls, row: dict[str, Any]) -> Doubts:
        """What an object will not do as it is kept, by field."""
        return {}


def without_default(schema: dict[str, Any]) -> None:
    """The schema of a field whose default is a setting of the network."""
    del schema["default"]


@cache
def _choices(fields: type[Fields], name: str) -> frozenset[object]:
    annotation = fields.model_fields[name].annotation
    return frozenset(get_args(annotation) if get_origin(annotation) is Literal else ())


def _chosen(fields: type[Fields], name: str, text: str) -> str:
    """A word in the spelling of a field's words. Case and white space around it do not matter."""
    folded = normalise.word(text)
    return folded if folded in _choices(fields, name) else text


def _checked(check: Callable[[Any], object]) -> AfterValidator:
    def keep(value: Any) -> Any:
        check(value)
        return value

    return AfterValidator(keep)


def _no_control(text: str) -> None:
    if _CONTROL.search(text):
        raise ValueError("has control characters")


def _time(text: str) -> str:
    return _read_time(text, "is not")


def _moment(text: str) -> str:
    text = normalise.trim(text)
    return text if text == "infinity" else _read_time(text, "is not infinity or")


def _read_time(text: str, is_not: str) -> str:
    try:
        moment = datetime.fromisoformat(normalise.trim(text))
        if moment.tzinfo is not None and moment.astimezone(UTC).year >= _FIRST_YEAR:
            return moment.astimezone(UTC).isoformat()
    except (ValueError, OverflowError):
        pass
    raise ValueError(f"{is_not} a time with an offset from 1970 to 9999, such as 2026-11-01T00:00:00+01:00")


def _offer_rules(targeting: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
    if targeting.get("unique"):
        raise ValueError("unique is a rule of offer URLs")
    return _rules(targeting, info)


def _rules(targeting: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
    return rules.kept(targeting, (info.context or {}).get(info.field_name, {}))


def _name(text: str) -> str:
    _no_control(text := normalise.name(text))
    return text


def _name_or_none(text: str) -> str:
    return _name(text) if text else text


def _email(text: str) -> str:
    return normalise.email(text) if text else text


def _note(text: str) -> str:
    text = normalise.composed(text.replace("\r\n", "\n"))
    _no_control(text.translate(_LINES))
    return text


def _external_id(text: str | None) -> str | None:
    text = normalise.trim(text or "")
    _no_control(text)
    return text or None


def _tags(texts: list[str]) -> list[str]:
    tags = list(dict.fromkeys(map(normalise.tag, texts)))
    for tag in tags:
        _no_control(tag)
    return tags


def _template(url: str) -> None:
    macros.compile(url)
    useless_urls.refuse(url, macros.MACROS)


def _postback_template(url: str) -> None:
    postback_macros.compile(url)
    useless_urls.refuse(url, postback_macros.MACROS)
    useless_urls.refuse_host(url)


def _amount(text: str) -> str:
    return money.show(normalise.amount(text))


def _code(text: str) -> str:
    _no_control(text := normalise.name(text))
    if not normalise.given(text):
        raise ValueError("is read as a missing goal: it is a word for nothing, or an unfilled macro")
    return text


def _opaque_code(text: str) -> str:
    _no_control(text := normalise.trim(text))
    if not text:
        raise ValueError("has no visible character")
    return text


def _ident(text: str) -> str:
    """An id as it was written, as older rows have it. Controls may be at its ends."""
    _no_control(normalise.trim(text))
    return crop(text, len(text))


def _status_word(text: str) -> str:
    text = normalise.word(text)
    if not normalise.given(text):
        raise ValueError("is read as a missing status: it is a word for nothing, or an unfilled macro")
    _no_control(text)
    return text


def _networks(texts: list[str]) -> None:
    for text in texts:
        ip_network(text)


def is_host(text: str) -> bool:
    return _HOST.fullmatch(text) is not None


def _host(host: str) -> None:
    if not is_host(host):
        raise ValueError("is not a host name in lower case, such as go.example")


Id = Annotated[int, Field(ge=1, le=MAX_ID)]
Name = Annotated[str, Field(min_length=1, max_length=500, examples=["Puzzle Quest"]), AfterValidator(_name)]
NameOrNone = Annotated[str, Field(max_length=500), AfterValidator(_name_or_none)]
Text = Annotated[str, Field(max_length=500), _checked(_no_control)]
Email = Annotated[str, Field(max_length=500, examples=["jane@partner.example"]), AfterValidator(_email)]
Contact = Annotated[
    NameOrNone, Field(description="Whom to ask: a person, a telephone number.", examples=["Jane Roe"])
]
Note = Annotated[
    str,
    Field(max_length=10_000, description="For the network itself. It may have several lines."),
    AfterValidator(_note),
]
ExternalId = Annotated[
    str | None,
    Field(
        max_length=100,
        description="The id in another system, such as a CRM. Unique among objects of the kind that are not "
        "archived. null: none.",
        examples=["CRM-1042"],
    ),
    AfterValidator(_external_id),
]
Category = Annotated[str, Field(max_length=100, examples=["Games"]), AfterValidator(_name_or_none)]
Tags = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=50)]],
    Field(
        max_length=50,
        description="Labels for the network itself. They are kept in lower case.",
        examples=[["vip", "mobile"]],
    ),
    AfterValidator(_tags),
]
Code = Annotated[str, Field(max_length=100, examples=["deposit"]), AfterValidator(_code)]
OpaqueCode = Annotated[
    str,
    Field(min_length=1, max_length=MAX_CODE, description="As in links. Case counts.", examples=["2CTPL"]),
    AfterValidator(_opaque_code),
]
Ident = Annotated[str, Field(max_length=500), AfterValidator(_ident)]
StatusWord = Annotated[
    str,
    Field(min_length=1, max_length=100, description="Upper and lower case are equal.", examples=["lead"]),
    AfterValidator(_status_word),
]
Value = Annotated[str, Field(min_length=1, max_length=500), _checked(_no_control)]
"""What clicks are compared with: it stays as it came, blanks at its ends too."""
Pattern = Annotated[Value, _checked(normalise.name)]
"""A part of what is compared: one that nobody can see would be in too many."""
Time = Annotated[
    str,
    Field(description="ISO 8601 with an offset.", examples=["2026-11-01T00:00:00+00:00"]),
    AfterValidator(_time),
]
Moment = Annotated[
    str,
    Field(
        description='ISO 8601 with an offset. Answers are in UTC. "infinity" means never.',
        examples=["2026-11-01T00:00:00+00:00"],
    ),
    AfterValidator(_moment),
]
Zone = Annotated[
    str, Field(description="Name of an IANA time zone.", examples=["Europe/Berlin"]), _checked(zone_named)
]
UrlTemplate = Annotated[
    str,
    Field(
        max_length=macros.MAX_LOCATION,
        description="http or https URL. It may have macros.",
        examples=["https://ad.example/land?click={hash}"],
    ),
    _checked(_template),
]
PostbackTemplate = Annotated[
    str,
    Field(
        max_length=macros.MAX_LOCATION,
        description="http or https URL. It may have macros of the conversion and its click.",
        examples=["https://partner.example/in?click={aff_sub}&sum={payout}&status={status}"],
    ),
    _checked(_postback_template),
]
FreeText = Annotated[
    str, Field(min_length=1, max_length=500, examples=["winter"]), _checked(macros.free_text)
]
OfferTargeting = Annotated[
    dict[str, Any],
    Field(description="Targeting rules by name.", examples=[{"country": ["DE", "AT"]}]),
    AfterValidator(_offer_rules),
]
UrlTargeting = Annotated[
    dict[str, Any],
    Field(description="Targeting rules by name.", examples=[{"os": {"not": ["iOS"]}, "unique": True}]),
    AfterValidator(_rules),
]
DeepLinkHosts = Annotated[
    list[str],
    Field(
        max_length=1000,
        description="Hosts that deep links may lead to.",
        examples=[["shop.example", ".shop.example"]],
    ),
    _checked(deep_links.hosts),
]
PassThrough = Annotated[
    list[str],
    Field(
        max_length=pass_through.MOST_NAMES,
        description="Parameters of tracking links that go on to the offer's page: names, or their beginning "
        "with *.",
        examples=[["utm_*", "gclid"]],
    ),
    _checked(pass_through.compile),
]
Addresses = Annotated[
    list[str],
    Field(max_length=1000, description="IP addresses and CIDRs.", examples=[["192.0.2.7", "2001:db8::/32"]]),
    _checked(_networks),
]
Country = Annotated[
    str,
    Field(
        max_length=100,
        description="ISO 3166-1 alpha-2 code, or another name that means only this country.",
        examples=["DE"],
    ),
    AfterValidator(normalise.country),
]
Money = Annotated[str, Field(examples=["12.50"]), AfterValidator(_amount)]
Currency = Annotated[str, Field(examples=["EUR"]), AfterValidator(money.read_currency)]
RateText = Annotated[
    str,
    Field(description="Requests per second, minute or hour.", examples=["600/minute"]),
    _checked(rates.read_rate),
]
Host = Annotated[str, Field(max_length=253, examples=["go.example"]), _checked(_host)]


def doubts_of_url(url: str | None) -> list[str]:
    """What is strange in a URL that visitors are sent to, where there is one."""
    return useless_urls.of_offer_url(url, macros.MACROS) if url else []


def one_fallback(url: str | None, offer_id: int | None) -> dict[str, str]:
    """What is wrong with a fallback: it is one of the two."""
    both = url is not None and offer_id is not None
    return {"fallback_offer_id": "cannot be combined with fallback_url"} if both else {}
