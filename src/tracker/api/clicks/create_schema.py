"""What a create request may say of its clicks, and what it is answered."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, tzinfo
from hashlib import sha256
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

import orjson
from pydantic import BeforeValidator, ConfigDict, Field, RootModel, WithJsonSchema

from tracker.api.clicks.creator import MAX_CLICKS, ClickRequest
from tracker.domain.click_fields import ADV_SUBS, AFF_SUBS
from tracker.domain.local_time import first_second, read_local
from tracker.domain.model import MAX_ID, Visitor
from tracker.domain.normalise import trim
from tracker.edge.read.client_address import plain_address
from tracker.edge.read.link import MAX_VALUE, read_link
from tracker.edge.read.text import crop
from tracker.edge.read.visitor import MAX_REFERRER, MAX_USER_AGENT
from tracker.parameters import Model

MAX_KEY = 200
"""Longest dedupe_key, legacy_id and Idempotency-Key, in characters."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_IN_QUERY = {"affiliate_id", "url_id", "affiliate_source", "external_id", *AFF_SUBS, *ADV_SUBS}


def read_key(value: object) -> str:
    """A key that clicks or requests are known by."""
    text = _text(value)
    if not 1 <= len(text) <= MAX_KEY or _CONTROL.search(text):
        raise ValueError(f"is not a text of 1 to {MAX_KEY} characters without control characters")
    return text


def _legacy_id(value: object) -> str:
    return read_key(trim(_text(value)))


def _id(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_ID:
        raise ValueError(f"is not a whole number from 1 to {MAX_ID}")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("is not a text")
    return value


def _address(value: object) -> str:
    address = plain_address(trim(_text(value)))
    if not address:
        raise ValueError("is not an IP address")
    return address


def _local(value: object) -> datetime:
    return read_local(_text(value), is_end=False)


def _may_be_null(read: Callable[[object], object]) -> BeforeValidator:
    return BeforeValidator(lambda value: None if value is None else read(value))


def _schema(type_: str, **more: object) -> WithJsonSchema:
    return WithJsonSchema({"type": type_, **more})


def _about(text: str) -> Any:
    return Field(default=None, description=text)


_ID_BOUNDS: dict[str, object] = {"minimum": 1, "maximum": MAX_ID}
_TEXT = "Control characters are removed, and the text is cut to {} characters."

Id = Annotated[int, BeforeValidator(_id), _schema("integer", **_ID_BOUNDS)]
MaybeId = Annotated[
    int | None, _may_be_null(_id), WithJsonSchema({"type": ["integer", "null"], **_ID_BOUNDS})
]
Text = Annotated[str | None, _may_be_null(_text), WithJsonSchema({"type": ["string", "null"]})]
Key = Annotated[
    str | None,
    _may_be_null(read_key),
    WithJsonSchema({"type": ["string", "null"], "minLength": 1, "maxLength": MAX_KEY}),
]
LegacyId = Annotated[
    str | None,
    _may_be_null(_legacy_id),
    WithJsonSchema({"type": ["string", "null"], "minLength": 1, "maxLength": MAX_KEY}),
]
Address = Annotated[str | None, _may_be_null(_address), WithJsonSchema({"type": ["string", "null"]})]
Local = Annotated[datetime | None, _may_be_null(_local), WithJsonSchema({"type": ["string", "null"]})]


def _without_defaults(schema: dict[str, Any]) -> None:
    for field in schema["properties"].values():
        field.pop("default", None)


def _of_new_click(schema: dict[str, Any]) -> None:
    _without_defaults(schema)
    schema["examples"] = [NEW_CLICK_EXAMPLE]


NEW_CLICK_EXAMPLE: dict[str, Any] = {
    "offer_id": 3,
    "affiliate_id": 513,
    "ip": "198.51.100.7",
    "user_agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/129.0.0.0 Safari/537.36",
    "aff_sub": "newsletter",
    "dedupe_key": "newsletter-2024-07-08-17",
}


class NewClick(Model):
    """A click to create. A missing or null field is unknown."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra=_of_new_click)

    offer_id: Id = Field(description="The offer that was clicked.")
    affiliate_id: Id = Field(description="The affiliate that sent the visitor.")
    url_id: MaybeId = _about("The offer URL that the visitor asked for.")
    ip: Address = _about("The IP address of the visitor. The location is derived from it.")
    user_agent: Text = _about(
        "The User-Agent of the visitor. Without it the device is unknown and the click is not a bot's. "
        f"Without this and ip the click counts as unique. {_TEXT.format(MAX_USER_AGENT)}"
    )
    referrer: Text = _about(f"The page with the link. {_TEXT.format(MAX_REFERRER)}")
    affiliate_source: Text = _about(_TEXT.format(MAX_VALUE))
    external_id: Text = _about("Like affiliate_source.")
    aff_sub: Text = _about("Like affiliate_source.")
    aff_sub2: Text = _about("Like affiliate_source.")
    aff_sub3: Text = _about("Like affiliate_source.")
    aff_sub4: Text = _about("Like affiliate_source.")
    aff_sub5: Text = _about("Like affiliate_source.")
    aff_sub6: Text = _about("Like affiliate_source.")
    aff_sub7: Text = _about("Like affiliate_source.")
    aff_sub8: Text = _about("Like affiliate_source.")
    aff_sub9: Text = _about("Like affiliate_source.")
    aff_sub10: Text = _about("Like affiliate_source.")
    aff_sub11: Text = _about("Like affiliate_source.")
    aff_sub12: Text = _about("Like affiliate_source.")
    aff_sub13: Text = _about("Like affiliate_source.")
    aff_sub14: Text = _about("Like affiliate_source.")
    aff_sub15: Text = _about("Like affiliate_source.")
    aff_sub16: Text = _about("Like affiliate_source.")
    aff_sub17: Text = _about("Like affiliate_source.")
    aff_sub18: Text = _about("Like affiliate_source.")
    aff_sub19: Text = _about("Like affiliate_source.")
    aff_sub20: Text = _about("Like affiliate_source.")
    adv_sub: Text = _about("Like affiliate_source.")
    adv_sub2: Text = _about("Like affiliate_source.")
    adv_sub3: Text = _about("Like affiliate_source.")
    adv_sub4: Text = _about("Like affiliate_source.")
    adv_sub5: Text = _about("Like affiliate_source.")
    created_at: Local = _about(
        "The time of the click as local time in `tz`, as in 2024-07-08 13:40:00. From the year 2000 to now. "
        "Default: now. Needs the scope clicks:backfill too."
    )
    legacy_id: LegacyId = _about(
        "The id of the click in an earlier tracker. Late postbacks may still use it."
    )
    dedupe_key: Key = _about(
        "A permanent key of this click. A second request with the same key does not create it again."
    )

    def second(self, zone: tzinfo) -> int | None:
        """When it was clicked, Unix seconds. None = now."""
        return None if self.created_at is None else first_second(self.created_at, zone)

    def described(self, zone: tzinfo) -> ClickRequest:
        second = self.second(zone)
        sent = self.model_dump(exclude_none=True, exclude={"created_at"})
        query = urlencode({name: value for name, value in sent.items() if name in _IN_QUERY})
        return ClickRequest(
            read_link(f"/offer/{self.offer_id}", query.encode())._replace(query=""),  # no visitor sent it
            self._visitor(),
            self.user_agent is not None,
            second,
            self.dedupe_key,
            self.legacy_id,
            sha256(orjson.dumps([sent, second], option=orjson.OPT_SORT_KEYS)).digest(),
        )

    def _visitor(self) -> Visitor:
        return Visitor(
            ip=self.ip or "",
            user_agent=crop(self.user_agent or "", MAX_USER_AGENT),
            referrer=crop(self.referrer or "", MAX_REFERRER),
        )


class NewClicks(Model):
    """Clicks to create together. If one of them is invalid, none is created."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"clicks": [NEW_CLICK_EXAMPLE]}]}
    )

    clicks: list[NewClick] = Field(min_length=1, max_length=MAX_CLICKS)


class CreateClicks(RootModel[NewClick | NewClicks]):
    """One click, or up to a hundred."""


class CreateHeaders(Model):
    """What a create request may say of itself."""

    model_config = ConfigDict(json_schema_extra=_without_defaults)

    idempotency_key: str = Field(
        "",
        alias="Idempotency-Key",
        description="A permanent key of this request. A repeated request with the same key creates only what "
        "is missing. It gets the answer of the first request.",
        min_length=1,
        max_length=MAX_KEY,
        examples=["2024-07-08/17"],
    )


CREATED_EXAMPLE: dict[str, Any] = {
    "id": 184568,
    "hash": "01927632a6c87d3f9b1c5e8a4f60d2b7",
    "group_hash": "01927632a6c87d3f9b1c5e8a4f60d2b7",
    "is_unique": True,
    "status": "accepted",
    "reason": 0,
    "redirected_link": "https://second.example.net/?click=01927632a6c87d3f9b1c5e8a4f60d2b7",
    "created_at": "2024-10-10 11:24:09",
    "duplicate": False,
}


class CreatedClick(Model):
    """A stored click."""

    model_config = ConfigDict(json_schema_extra={"examples": [CREATED_EXAMPLE]})

    id: int
    hash: str = Field(description="The public click id: 32 hexadecimal digits (UUIDv7).")
    group_hash: str | None = Field(description="Hash of the visitor's first click in the offer's window.")
    is_unique: bool
    status: Literal["accepted", "forwarded", "rejected"] = Field(description="A refused click is stored too.")
    reason: int = Field(description="Code of the reason for the status. 0: accepted as usual.")
    redirected_link: str | None = Field(
        description="The URL for the visitor. null if the click is refused without a fallback."
    )
    created_at: str = Field(description="YYYY-MM-DD HH:MM:SS in the time zone of the request.")
    duplicate: bool = Field(
        description="An earlier request created this click, with the same key or legacy_id."
    )


class CreatedClicks(Model):
    """The created clicks, in the order of the request."""

    data: list[CreatedClick]


class Created(RootModel[CreatedClick | CreatedClicks]):
    """One click for a request with one click. An object with `data` for a list."""
