"""Advertisers and affiliates, and the postbacks between them and the network."""

from __future__ import annotations

import re
from hashlib import sha256
from secrets import token_urlsafe
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, field_validator

from tracker import parameters
from tracker.catalogue import fields
from tracker.catalogue.fields import (
    Addresses,
    Contact,
    Doubts,
    Email,
    ExternalId,
    Fields,
    Id,
    Moment,
    Name,
    NameOrNone,
    Note,
    PostbackTemplate,
    Tags,
)
from tracker.catalogue.resource import MONEY, Resource
from tracker.domain import postback_macros, useless_urls
from tracker.domain.normalise import trim
from tracker.edge.catalogue.advertiser_secrets import PIECE
from tracker.errors import Errors
from tracker.store.catalogue import switched_off
from tracker.store.catalogue.edit import Reference, Row, Table
from tracker.store.db import Connection

SECRET_PREFIX = "trs_"  # noqa: S105
_SECRET_BYTES = 32
_SHORTEST_KEY, _FEWEST_CHARACTERS = 16, 6

_NEEDED_BY = "SELECT 'offers/' || id FROM offer WHERE advertiser_id = $1 AND NOT is_archived LIMIT 5"


class Advertiser(Fields):
    """An advertiser. It pays for conversions."""

    name: Name
    postback_check: Annotated[
        Literal["required", "none"],
        Field(
            description="required: a postback needs a secret or one of postback_addresses. none: no check."
        ),
    ] = "required"
    postback_addresses: Addresses = Field(default_factory=list)
    accepts_unproven: Annotated[
        bool,
        Field(
            description="true: postbacks in postback forms make conversions on hold even without a secret "
            "or address of the advertiser."
        ),
    ] = False
    email: Email = ""
    contact: Contact = ""
    note: Note = ""
    external_id: ExternalId = None
    tags: Tags = Field(default_factory=list)
    is_archived: bool = False


class Affiliate(Fields):
    """An affiliate. It sends visitors."""

    name: Name
    group_id: Id | None = None
    status: Literal["active", "pending", "blocked"] = "active"
    is_test: bool = False
    email: Email = ""
    contact: Contact = ""
    note: Note = ""
    external_id: ExternalId = None
    tags: Tags = Field(default_factory=list)
    is_archived: bool = False


_Status = Literal["pending", "hold", "approved", "rejected"]


class PostbackSecret(Fields):
    """A secret of an advertiser. Its postbacks send it as the parameter `token`."""

    name: NameOrNone = ""
    expires_at: Annotated[
        Moment | None,
        Field(description="The end of the secret. Until then it works together with its successor."),
    ] = None


def _old_key(text: str) -> str:
    """An advertiser's secret of an earlier tracker. No error shows it."""
    text = trim(text)
    if len(text) < _SHORTEST_KEY or len(set(text)) < _FEWEST_CHARACTERS:
        raise ValueError(
            f"needs at least {_SHORTEST_KEY} characters, {_FEWEST_CHARACTERS} different ones: others guess it"
        )
    if not (text.isascii() and text.isprintable() and PIECE.fullmatch(text)):
        raise ValueError("has characters that logs cannot hide: ask for one of letters, digits, - and _")
    return text


class NewPostbackSecret(PostbackSecret):
    """A new secret of an advertiser: one of ours, or the one that its postbacks have already."""

    secret: Annotated[
        str | None,
        Field(
            max_length=500,
            description="The advertiser's secret of an earlier tracker, of at least 16 characters. Only its "
            "hash is kept. null: a new one is made.",
        ),
    ] = None

    @field_validator("secret")
    @classmethod
    def _is_worth_something(cls, secret: str | None) -> str | None:
        return None if secret is None else _old_key(secret)


class AffiliatePostback(Fields):
    """A URL of an affiliate that the tracker calls about conversions."""

    offer_id: Id | None = Field(None, description="null: all offers.")
    goal_id: Id | None = Field(None, description="null: all goals.")
    url: PostbackTemplate
    statuses: Annotated[
        list[_Status],
        Field(
            min_length=1,
            max_length=4,
            description="A postback is sent when a conversion gets one of these statuses.",
        ),
    ] = ["approved"]  # noqa: RUF012 - pydantic copies it
    status: Literal["active", "paused"] = "active"
    is_archived: bool = False

    @classmethod
    def doubts(cls, row: Row) -> Doubts:
        return {"url": useless_urls.of_postback(row["url"], postback_macros.MACROS)}


def _public(url: str) -> str:
    useless_urls.refuse_private(url)
    return url


class OwnPostback(AffiliatePostback):
    """A URL of yours that the tracker calls about your conversions."""

    url: Annotated[PostbackTemplate, AfterValidator(_public)]


class StatusWord(Fields):
    """The status that a word in postbacks means. A word of an advertiser comes before one of the network."""

    advertiser_id: Annotated[
        Id | None, Field(description="null: for all advertisers without a word of their own.")
    ] = None
    word: fields.StatusWord
    status: _Status


def _mint_secret(given: Row) -> tuple[Row, Row]:
    """What is kept of a new secret, and what is shown of it, once. One that was given is not shown."""
    secret = given.get("secret") or SECRET_PREFIX + token_urlsafe(_SECRET_BYTES)
    shown = None if given.get("secret") else secret
    return {"secret_hash": f"\\x{sha256(secret.encode()).hexdigest()}"}, {"secret": shown}


AFFILIATE_POSTBACKS = Resource(
    "affiliates/{affiliate_id}/postbacks",
    "affiliate postback",
    Table(
        "affiliate_postback",
        tuple(AffiliatePostback.model_fields),
        parent="affiliate_id",
        facts=("url_saved_by", "paused_by"),
        references=(
            Reference("offer_id", "offer"),
            Reference("goal_id", "goal", within="offer_id"),
        ),
    ),
    AffiliatePostback,
    {
        "status": parameters.choice("active", "paused"),
        "offer_id": parameters.Id,
        "goal_id": parameters.Id,
    },
    facts={
        "url_saved_by": (
            Literal["network", "affiliate"],
            Field(
                description="Who saved the URL last. Postbacks to an affiliate's go to public addresses only."
            ),
        ),
        "paused_by": (
            Literal["network", "affiliate"] | None,
            Field(
                description="Who paused or archived it. null: it is active. "
                "What the network switched off, the affiliate cannot switch on."
            ),
        ),
    },
)


def _stays_off(before: Row, fields: Row) -> Errors:
    """What the network switched off, the affiliate neither switches on nor makes another postback of."""
    if before["paused_by"] != "network":
        return {}
    ends_pause = before["status"] == "paused" and fields["status"] == "active"
    ends_archive = before["is_archived"] and not fields["is_archived"]
    stays = {
        "status": ends_pause,
        "is_archived": ends_archive,
        "url": _address(before["url"]) != _address(fields["url"]),
        **{name: before[name] != fields[name] for name in ("offer_id", "goal_id")},
    }
    return {field: [_STAYS] for field, is_changed in stays.items() if is_changed}


_STAYS = "stays: the network switched the postback off, so only the network can switch it on"


async def _is_not_off(connection: Connection, row: Row) -> Errors:
    """An affiliate does not save once more what the network switched off."""
    if row["status"] == "paused" or row["is_archived"]:
        return {}
    for off in await switched_off.postbacks(connection, row["affiliate_id"]):
        is_same = _address(off.url) == _address(row["url"])
        is_about_same = all(
            None in pair or pair[0] == pair[1]
            for pair in ((off.offer_id, row["offer_id"]), (off.goal_id, row["goal_id"]))
        )
        if off.id != row.get("id") and is_same and is_about_same:
            why = f"is the address of postback {off.id}, which the network switched off: ask the network"
            return {"url": [why]}
    return {}


def _address(url: str) -> str:
    """Where a URL goes, without its parameters."""
    parts = urlsplit(url)
    return f"{_PORT.sub('', parts.netloc.lower()).rstrip('.')}{parts.path.rstrip('/')}"


_PORT = re.compile(r":(80|443)?$")


OWN_POSTBACKS = AFFILIATE_POSTBACKS._replace(
    fields=OwnPostback, scope="own-postbacks:write", refuses=_stays_off, checks=_is_not_off
)
"""The same for the affiliate itself."""

RESOURCES = (
    Resource(
        "advertisers",
        "advertiser",
        Table(
            "advertiser",
            tuple(Advertiser.model_fields),
            exclusive=("external_id",),
            searched=("name", "email", "external_id"),
            uses=_NEEDED_BY,
        ),
        Advertiser,
        {
            "name": parameters.Name,
            "email": parameters.Text,
            "external_id": parameters.Ident,
            "tag": parameters.Tag,
        },
        money=frozenset({"postback_check", "postback_addresses", "accepts_unproven"}),
    ),
    Resource(
        "advertisers/{advertiser_id}/postback-secrets",
        "postback secret",
        Table(
            "advertiser_secret",
            tuple(PostbackSecret.model_fields),
            parent="advertiser_id",
            facts=("created_at",),
            minted=("secret_hash",),
        ),
        PostbackSecret,
        facts={"created_at": (str, Field(examples=["2026-11-25T16:00:00.123456+00:00"]))},
        scope=MONEY,
        new=NewPostbackSecret,
        mint=_mint_secret,
    ),
    Resource(
        "status-words",
        "status word",
        Table(
            "status_word",
            tuple(StatusWord.model_fields),
            references=(Reference("advertiser_id", "advertiser"),),
            unique=("advertiser_id", "word"),
        ),
        StatusWord,
        {
            "advertiser_id": parameters.Id,
            "word": parameters.Text,
            "status": parameters.choice("pending", "hold", "approved", "rejected"),
        },
        scope=MONEY,
    ),
    AFFILIATE_POSTBACKS,
    Resource(
        "affiliates",
        "affiliate",
        Table(
            "affiliate",
            tuple(Affiliate.model_fields),
            exclusive=("external_id",),
            searched=("name", "email", "external_id"),
        ),
        Affiliate,
        {
            "name": parameters.Name,
            "group_id": parameters.Id,
            "status": parameters.choice("active", "pending", "blocked"),
            "is_test": parameters.Bool,
            "email": parameters.Text,
            "external_id": parameters.Ident,
            "tag": parameters.Tag,
        },
    ),
)
