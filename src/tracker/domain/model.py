"""The field's nouns, as immutable types. Optional values are None, absent text is ""."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum, StrEnum
from typing import Final, NamedTuple, Protocol

Template = tuple[str, ...]
"""A compiled offer URL: literal, macro name, literal, …, literal (see macros.compile)."""

MAX_ID = 10**18 - 1
"""Highest id of an offer, affiliate or offer URL: eighteen digits, which fit a signed 64-bit integer."""


class Status(StrEnum):
    """The status of a click."""

    ACCEPTED = "accepted"  # sent to the offer of its link
    FORWARDED = "forwarded"  # sent to a fallback
    REJECTED = "rejected"  # sent nowhere


class Reason(IntEnum):
    """Why a click was not simply accepted.

    The numbers are stored and public: never renumber them, only add new ones.
    """

    NONE = 0
    OFFER_PAUSED = 10
    OFFER_HAS_NO_URL = 11
    LOCATION_UNSENDABLE = 12  # over 8 KiB once filled, or a value would have changed the path's structure
    OFFER_MISCONFIGURED = 13  # its row cannot be served as saved, such as an unknown time zone
    OFFER_EXPIRED = 14
    OFFER_NOT_STARTED = 15
    OFFER_CLOSED = 16  # its closed-until flag, or the affiliate's on this offer
    CAPPED = 17
    OFFER_DRAFT = 18
    AFFILIATE_BLOCKED = 20
    AFFILIATE_PENDING = 21
    AFFILIATE_NOT_APPROVED = 22  # for this offer
    OFF_TARGET = 30
    DUPLICATE = 40
    VISITOR_UNKNOWN = 41  # accepted, but uniqueness is unknown: there was no room to remember the visitor
    SOURCE_BLOCKED = 50
    SUB_BLOCKED = 51
    IP_BLOCKED = 52


class Period(StrEnum):
    """The period of a cap, in the offer's time zone."""

    HOUR = "hour"
    DAY = "day"
    MONTH = "month"
    TOTAL = "total"


class Cap(NamedTuple):
    """How many clicks an offer, or one affiliate on it, may get in a period."""

    affiliate_id: int | None  # the affiliate whose clicks count, None = all clicks together
    uniques_only: bool
    period: Period
    limit: int
    series: int = 0  # the number of earlier caps of this kind


class Counter(NamedTuple):
    """A cap's counter for the period of a click, as the stream keeps it."""

    name: str
    uniques_only: bool
    limit: int
    expires: int  # end of the period in Unix seconds, 0 = never


class Rule(NamedTuple):
    """One compiled condition on a click."""

    text: str  # as operators read it: country in DE, AT
    holds: Callable[[Click], bool]


Rules = tuple[Rule, ...]
"""All of these rules must hold."""


class OfferUrl(NamedTuple):
    id: int  # NO_URL_ID for a fallback URL, which is not a URL of the offer
    name: str
    template: Template
    weight: int  # share of the offer's traffic relative to its other active URLs, 0 = only by url_id
    rules: Rules = ()
    unique_only: bool = False  # accepts no duplicates
    fallback: Fallback | None = None
    salt: int = 1  # odd, 64 bits: makes its draw differ from other URLs' (targeting.salt)


NO_URL_ID: Final = 0


class Fallback(NamedTuple):
    """The target of a refused click: a URL or an offer."""

    url: OfferUrl | None
    offer_id: int | None


class DuplicatePolicy(StrEnum):
    """The treatment of a visitor's later clicks within the window."""

    REDIRECT = "redirect"
    BLOCK = "block"
    FALLBACK = "fallback"


class FormerUniqueness(NamedTuple):
    """The uniqueness rules of an offer before its last change."""

    window: int  # seconds
    per_affiliate: bool
    until: int  # Unix milliseconds of its end: later visitors are not remembered by it


class PassThrough(NamedTuple):
    """The parameters of tracking links that go on to an offer's page."""

    names: frozenset[str]
    beginnings: tuple[str, ...]  # of further names: "utm_"


class Offer(NamedTuple):
    id: int
    name: str
    advertiser_id: int
    brand_id: int | None
    is_active: bool
    problem: str  # why it cannot be served, "" = it can
    starts: int  # Unix milliseconds, 0 = it has always existed
    ends: int  # Unix milliseconds, or FOREVER
    closed_until: int  # Unix milliseconds, 0 = open
    needs_approval: bool
    time_zone: str
    rules: Rules
    urls: tuple[OfferUrl, ...]  # active URLs only, by id
    fallback: Fallback | None
    caps: tuple[Cap, ...]  # affiliate_id: None = all clicks together, 0 = each affiliate separately
    unique_window: int  # seconds
    unique_per_affiliate: bool  # unique_scope is offer_affiliate instead of offer
    visitor_cookie: bool
    duplicates: DuplicatePolicy
    duplicates_forced: bool  # the policy also applies to visitors known only by address and User-Agent
    redirect_status: int  # 302, 303 or 307
    referrer_policy: str  # the Referrer-Policy of its redirects, "" sends none
    deep_link_hosts: frozenset[str]  # lower case, and ".shop.test" means its subdomains
    free: tuple[str, ...]  # free_1 … free_10 for every affiliate
    is_draft: bool = False  # not active yet: only test clicks are served
    former_uniqueness: tuple[FormerUniqueness, ...] = ()  # the longest-lasting first
    pass_through: PassThrough | None = None


FOREVER: Final = 1 << 62


class Terms(NamedTuple):
    """The terms between one offer and one affiliate."""

    is_approved: bool
    closed_until: int  # Unix milliseconds, 0 = open
    caps: tuple[Cap, ...]  # take the place of the offer's each-affiliate caps of the same kind and period
    free: tuple[str, ...]  # free_1 … free_10, "" = the offer's


NO_TERMS: Final = Terms(False, 0, (), ("",) * 10)


class Standing(StrEnum):
    """An affiliate's status."""

    ACTIVE = "active"
    PENDING = "pending"
    BLOCKED = "blocked"


class Affiliate(NamedTuple):
    id: int
    name: str
    group_id: int | None
    status: Standing
    is_test: bool  # its clicks are test clicks


class Link(NamedTuple):
    """The parameters of a tracking link, cropped and without control characters."""

    offer_id: int
    affiliate_id: int
    url_id: int | None
    source: str
    external_id: str
    gaid: str
    idfa: str
    aff_subs: tuple[str, ...]  # aff_sub, aff_sub2 … aff_sub20
    adv_subs: tuple[str, ...]  # adv_sub, adv_sub2 … adv_sub5
    deep_link: str = ""  # the whole url parameter, not stored by itself
    test: str = ""  # the signature of a test link, not stored
    query: str = ""  # as it was sent, for parameters that go on to the offer's page. Not stored by itself


class Choice(NamedTuple):
    """The offer and URL that take a click, from which its Location is filled."""

    offer: Offer
    terms: Terms
    url: OfferUrl


class Visitor(NamedTuple):
    """The visitor of a link, from one request. Every string is cropped."""

    ip: str
    user_agent: str
    client_hints: str = ""  # Sec-CH-UA-* headers joined for the device cache
    language: str = ""  # Accept-Language as sent
    referrer: str = ""
    host: str = ""
    requested_link: str = ""  # absolute: scheme, host and target of the request
    fetch_dest: str = ""
    fetch_user: str = ""


class Device(NamedTuple):
    """The device, from the User-Agent and the client hints."""

    os: str  # "UNK" where unknown
    os_version: str  # "UNK" where unknown
    brand: str
    model: str
    type: str  # desktop, phone, tablet, tv, console, bot or ""
    platform: str  # CPU architecture: x64, x86, ARM or ""
    browser: str
    browser_version: str


class AnyDevice(Protocol):
    """A Device, or one of which each field is read when it is asked for (tracker.device.UnreadDevice)."""

    @property
    def os(self) -> str: ...

    @property
    def os_version(self) -> str: ...

    @property
    def brand(self) -> str: ...

    @property
    def model(self) -> str: ...

    @property
    def type(self) -> str: ...

    @property
    def platform(self) -> str: ...

    @property
    def browser(self) -> str: ...

    @property
    def browser_version(self) -> str: ...


class Geo(NamedTuple):
    """The place of an address, from the databases."""

    country_code: str | None
    region_code: str | None
    city: str | None
    isp: str | None
    mobile_carrier: str  # "UNK" where unknown


fast: Final = tuple.__new__
"""A NamedTuple without its own constructor, which is a slow Python function: fast(Outcome, (…)).

Only for the few tuples of each click, because their content is not checked.
"""


class Outcome(NamedTuple):
    """The response of a click, and the columns that are stored for it."""

    status: Status
    reason: Reason
    offer_id: int
    offer_url_id: int | None
    advertiser_id: int
    brand_id: int | None
    location: str  # the Location header, "" without a redirect


class Outcomes(NamedTuple):
    """The prepared outcomes for the facts that only the stream knows. Usually all three are equal."""

    unique: Outcome
    duplicate: Outcome
    capped: Outcome


class Click(NamedTuple):
    """One click on a link, before the stream has chosen its outcome."""

    hash: str  # UUIDv7, 32 lowercase hex digits
    millis: int  # time of the click, Unix milliseconds
    link: Link
    offer: Offer
    affiliate: Affiliate
    visitor: Visitor
    visitor_key: int  # 64 bits, keyed hash of who the visitor is
    is_certain: bool  # known by a cookie or device id, not by address and User-Agent
    device: AnyDevice  # read, or left to the worker
    geo: Geo
    terms: Terms  # of the offer and affiliate of the link
    is_test: bool
    bot_reason: str | None  # None = human
    counters: tuple[Counter, ...] = ()  # of the caps that apply


class ClickRow(NamedTuple):
    """One row of the clicks table, in the order of its columns. Names are joined when it is read."""

    hash: str
    group_hash: str | None
    is_unique: bool
    status: str
    reason: int
    is_bot: bool
    bot_reason: str | None
    is_test: bool
    verdict_late: bool
    requested_offer_id: int
    requested_url_id: int | None
    offer_id: int
    offer_url_id: int | None
    advertiser_id: int
    brand_id: int | None
    affiliate_id: int
    aff_group_id: int | None
    aff_sub: str
    aff_sub2: str
    aff_sub3: str
    aff_sub4: str
    aff_sub5: str
    aff_sub6: str
    aff_sub7: str
    aff_sub8: str
    aff_sub9: str
    aff_sub10: str
    aff_sub11: str
    aff_sub12: str
    aff_sub13: str
    aff_sub14: str
    aff_sub15: str
    aff_sub16: str
    aff_sub17: str
    aff_sub18: str
    aff_sub19: str
    aff_sub20: str
    adv_sub: str
    adv_sub2: str
    adv_sub3: str
    adv_sub4: str
    adv_sub5: str
    affiliate_source: str
    external_id: str
    gaid: str
    idfa: str
    visitor_key: int
    ip: str
    user_agent: str
    client_hints: str
    language: str
    referrer: str
    host: str
    fetch_dest: str
    fetch_user: str
    device_os: str
    device_os_version: str
    device_brand: str
    device_model: str
    device_type: str
    platform: str
    browser: str
    browser_version: str
    country_code: str | None
    region_code: str | None
    city: str | None
    isp: str | None
    mobile_carrier: str
    requested_link: str
    redirected_link: str
