"""Offers and what belongs to them: URLs, affiliates' terms, free values, caps."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tracker import parameters
from tracker.catalogue.fields import (
    Category,
    Currency,
    DeepLinkHosts,
    Doubts,
    ExternalId,
    Fields,
    FreeText,
    Id,
    Moment,
    Name,
    NameOrNone,
    Note,
    OfferTargeting,
    PassThrough,
    Tags,
    Text,
    UrlTargeting,
    UrlTemplate,
    Zone,
    doubts_of_url,
    one_fallback,
    without_default,
)
from tracker.catalogue.resource import Resource
from tracker.domain import useless_urls
from tracker.domain.model import MAX_ID
from tracker.edge.enrich import device_words
from tracker.errors import Errors
from tracker.store.catalogue import former_uniqueness, unpriced_goals
from tracker.store.catalogue.edit import Reference, Row, Table
from tracker.store.catalogue.former_uniqueness import Uniqueness
from tracker.store.db import Connection

_MOST_CLICKS = 10**12

_NEEDED_BY = """
SELECT 'offers/' || id FROM offer WHERE fallback_offer_id = $1 AND NOT is_archived
UNION ALL
SELECT 'offers/' || offer_id || '/urls/' || id FROM offer_url WHERE fallback_offer_id = $1 AND NOT is_archived
UNION ALL
SELECT 'network' FROM deployment WHERE fallback_offer_id = $1
LIMIT 5
"""

_OF_AFFILIATE = "0: for all affiliates."


class Offer(Fields):
    """An offer. docs/guides/steer-traffic.md explains its fields."""

    name: Name
    advertiser_id: Id
    brand_id: Id | None = None
    status: Annotated[
        Literal["active", "paused", "draft"],
        Field(description="draft: not ready yet. Explain and test links work. All other clicks are refused."),
    ] = "active"
    starts_at: Moment | None = None
    ends_at: Moment | None = Field(None, description="The end, exclusive: a click at this time is refused.")
    closed_until: Moment | None = None
    visibility: Literal["public", "approval", "private"] = "public"
    time_zone: Annotated[
        Zone,
        Field(
            description="Name of an IANA time zone. Default: TRACKER_TIME_ZONE.",
            json_schema_extra=without_default,
        ),
    ] = "UTC"
    targeting: OfferTargeting = Field(default_factory=dict)
    fallback_url: UrlTemplate | None = None
    fallback_offer_id: Id | None = None
    unique_window: Annotated[
        int, Field(ge=60, le=31_622_400, description="Length of the uniqueness window, in seconds.")
    ] = 86_400
    unique_scope: Annotated[
        Literal["offer", "offer_affiliate"],
        Field(
            description="Visitors are unique by offer, or by offer and affiliate. A change from "
            "offer_affiliate to offer must be confirmed."
        ),
    ] = "offer"
    visitor_cookie: bool = False
    duplicates: Literal["redirect", "block", "fallback"] = "redirect"
    duplicates_forced: bool = False
    redirect_status: Literal[302, 303, 307] = 302
    referrer_policy: Literal[
        "",
        "no-referrer",
        "no-referrer-when-downgrade",
        "origin",
        "origin-when-cross-origin",
        "same-origin",
        "strict-origin",
        "strict-origin-when-cross-origin",
        "unsafe-url",
    ] = ""
    deep_link_hosts: DeepLinkHosts = Field(default_factory=list)
    pass_through: PassThrough = Field(default_factory=list)
    category: Category = ""
    note: Note = ""
    external_id: ExternalId = None
    tags: Tags = Field(default_factory=list)
    is_archived: bool = False

    def clashes(self) -> dict[str, str]:
        wrong = one_fallback(self.fallback_url, self.fallback_offer_id)
        # Both were made UTC and ISO 8601, which sort as they follow each other.
        if self.starts_at is not None and self.ends_at is not None and self.ends_at <= self.starts_at:
            wrong["ends_at"] = "is not after starts_at"
        return wrong

    @classmethod
    def doubts(cls, row: Row) -> Doubts:
        return {
            "targeting": device_words.doubts(row["targeting"]),
            "fallback_url": doubts_of_url(row["fallback_url"]),
        }


class OfferUrl(Fields):
    """A destination URL of an offer."""

    name: NameOrNone = ""
    url: UrlTemplate
    weight: Annotated[
        int,
        Field(
            ge=0, le=1_000_000, description="Share of the clicks. 0: only links with its url_id lead to it."
        ),
    ] = 1
    status: Literal["active", "paused"] = "active"
    targeting: UrlTargeting = Field(default_factory=dict)
    fallback_url: UrlTemplate | None = None
    fallback_offer_id: Id | None = None
    is_archived: bool = False

    def clashes(self) -> dict[str, str]:
        return one_fallback(self.fallback_url, self.fallback_offer_id)

    @classmethod
    def doubts(cls, row: Row) -> Doubts:
        return {
            "url": doubts_of_url(row["url"]),
            "targeting": device_words.doubts(row["targeting"]),
            "fallback_url": doubts_of_url(row["fallback_url"]),
        }


class OfferAffiliate(Fields):
    """The approval of an affiliate for an offer."""

    affiliate_id: Id
    status: Literal["approved", "pending", "rejected"] = "approved"
    closed_until: Moment | None = None
    reason: Annotated[Text, Field(description="Why. The affiliate sees it.", examples=["Adult traffic"])] = ""


class FreeValue(Fields):
    """The value of a macro `{free_1}` to `{free_10}`."""

    affiliate_id: Annotated[int, Field(ge=0, le=MAX_ID, description=_OF_AFFILIATE)] = 0
    n: Annotated[int, Field(ge=1, le=10, description="Number of the macro: 3 for `{free_3}`.")]
    value: FreeText

    @classmethod
    def doubts(cls, row: Row) -> Doubts:
        return {"value": useless_urls.of_free_text(row["value"])}


class Cap(Fields):
    """A limit on clicks, conversions or money in a period.

    A full cap on clicks or uniques refuses further clicks. A full cap on conversions or money closes the
    offer until the period ends, for all affiliates or for one. With `mark` it only marks further conversions.
    """

    affiliate_id: Annotated[
        int | None,
        Field(
            ge=0,
            le=MAX_ID,
            description="null: all affiliates together. 0: each affiliate by itself.",
        ),
    ] = None
    counts: Literal["clicks", "uniques", "conversions", "payout", "revenue"] = "clicks"
    period: Literal["hour", "day", "month", "total"]
    amount: Annotated[
        int, Field(ge=0, le=_MOST_CLICKS, description="The limit. Money in whole units of the currency.")
    ]
    on_reached: Annotated[
        Literal["close", "mark"], Field(description="mark is for conversions, payout and revenue.")
    ] = "close"
    currency: Currency | None = Field(
        None, description="Needed for payout and revenue. Only amounts in this currency count."
    )

    def clashes(self) -> dict[str, str]:
        is_money = self.counts in ("payout", "revenue")
        wrong = {}
        if is_money and self.currency is None:
            wrong["currency"] = f"is needed for {self.counts}"
        if not is_money and self.currency is not None:
            wrong["currency"] = f"cannot be combined with {self.counts}"
        if self.on_reached == "mark" and self.counts in ("clicks", "uniques"):
            wrong["on_reached"] = f"cannot be mark for {self.counts}: further ones are refused"
        return wrong


async def _warns(connection: Connection, before: Row | None, offer: Row) -> list[str]:
    """What a change of who is unique cannot do, and what is missing when an offer becomes active."""
    warnings = _doubts_of_uniqueness(_uniqueness(before), _uniqueness(offer)) if before is not None else []
    if not _is_live(offer) or (before is not None and _is_live(before)):
        return warnings
    return warnings + [
        f"goal {id_} ({name}) has no price yet: set its payout and revenue"
        for id_, name in await unpriced_goals.of_offer(connection, offer["id"])
    ]


async def _asks(connection: Connection, before: Row, offer: Row) -> Errors:
    """Which visitors a change would make unique once more, since what remembers them cannot be read."""
    was, becomes = _uniqueness(before), _uniqueness(offer)
    if was == becomes:
        return {}
    asked: dict[str, list[str]] = {}
    if (was.scope, becomes.scope) == ("offer_affiliate", "offer"):
        asked["unique_scope"] = [_OTHER_AFFILIATES]
    if forgotten := await former_uniqueness.forgotten_by(connection, before["id"], was, becomes):
        settings = " and ".join(f"{window} s by {scope}" for window, scope in forgotten)
        field = "unique_window" if was.window != becomes.window else "unique_scope"
        asked.setdefault(field, []).append(_TOO_MANY_SETTINGS.format(settings))
    return asked


_OTHER_AFFILIATES = (
    "makes visitors unique once more if they come through another affiliate, even if duplicates are blocked: "
    "until now each visitor is remembered for one affiliate"
)
_TOO_MANY_SETTINGS = (
    "makes visitors unique once more, even if duplicates are blocked: only four former settings are kept, "
    "without those of {}"
)


def _doubts_of_uniqueness(was: Uniqueness, becomes: Uniqueness) -> list[str]:
    doubts = []
    if becomes.window > was.window:
        doubts.append(
            f"unique_window: visitors of the last {was.window} s are remembered, older ones may be unique"
        )
    if (was.scope, becomes.scope) == ("offer", "offer_affiliate"):
        doubts.append("unique_scope: visitors who are remembered stay duplicates for every affiliate")
    return doubts


def _uniqueness(offer: Row) -> Uniqueness:
    return Uniqueness(offer["unique_window"], offer["unique_scope"])


def _is_live(offer: Row) -> bool:
    return offer["status"] == "active" and not offer["is_archived"]


_AFFILIATE = Reference("affiliate_id", "affiliate")

OFFERS = Resource(
    "offers",
    "offer",
    Table(
        "offer",
        tuple(Offer.model_fields),
        references=(
            Reference("advertiser_id", "advertiser"),
            Reference("fallback_offer_id", "offer", other_than="id"),
        ),
        exclusive=("external_id",),
        searched=("name", "external_id"),
        uses=_NEEDED_BY,
    ),
    Offer,
    {
        "name": parameters.Name,
        "advertiser_id": parameters.Id,
        "brand_id": parameters.Id,
        "status": parameters.choice("active", "paused", "draft"),
        "visibility": parameters.choice("public", "approval", "private"),
        "category": parameters.Name,
        "external_id": parameters.Ident,
        "tag": parameters.Tag,
    },
    # Another advertiser pays for it from then on, and has other checks of postbacks.
    money=frozenset({"advertiser_id"}),
    warns=_warns,
    asks=_asks,
    confirmable=("unique_window", "unique_scope"),
    of_network=frozenset({"time_zone"}),
)

OFFER_AFFILIATES = Resource(
    "offers/{offer_id}/affiliates",
    "affiliate of an offer",
    Table(
        "offer_affiliate",
        tuple(OfferAffiliate.model_fields),
        key="affiliate_id",
        parent="offer_id",
        references=(_AFFILIATE,),
        facts=("note", "asked_at", "asked_by", "decided_at"),
        unique=("affiliate_id",),
    ),
    OfferAffiliate,
    {"status": parameters.choice("approved", "pending", "rejected")},
    facts={
        "note": (str, Field(description="What the affiliate wrote when it asked.")),
        "asked_at": (str | None, Field(description="When the affiliate asked. null: it did not.")),
        "asked_by": (str, Field(description="The name of the token that asked.")),
        "decided_at": (str | None, Field(description="When the affiliate was approved or rejected.")),
    },
)

CAPS = Resource(
    "offers/{offer_id}/caps",
    "cap",
    Table(
        "cap",
        tuple(Cap.model_fields),
        parent="offer_id",
        references=(_AFFILIATE,),
        unique=("affiliate_id", "counts", "period"),
    ),
    Cap,
    {"affiliate_id": parameters.Id, "period": parameters.choice("hour", "day", "month", "total")},
    amounts=frozenset({"currency"}),
    plain={"counts": ("clicks", "uniques", "conversions")},
)

RESOURCES = (
    OFFERS,
    Resource(
        "offers/{offer_id}/urls",
        "offer URL",
        Table(
            "offer_url",
            tuple(OfferUrl.model_fields),
            parent="offer_id",
            references=(Reference("fallback_offer_id", "offer", other_than="offer_id"),),
        ),
        OfferUrl,
        {"name": parameters.Name, "status": parameters.choice("active", "paused")},
    ),
    OFFER_AFFILIATES,
    Resource(
        "offers/{offer_id}/free-values",
        "free value",
        Table(
            "offer_free_value",
            tuple(FreeValue.model_fields),
            parent="offer_id",
            references=(_AFFILIATE,),
            unique=("affiliate_id", "n"),
        ),
        FreeValue,
        {"affiliate_id": parameters.Id},
    ),
    CAPS,
)
