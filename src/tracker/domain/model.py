"""The field's nouns. Every object here is immutable; optional values are None, absent text is ""."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum, StrEnum
from typing import NamedTuple

Template = tuple[str, ...]
"""A compiled offer URL: literal, macro name, literal, …, literal; made by macros.compile()."""

MAX_ID = 10**18 - 1
"""Highest id of an offer, affiliate or offer URL: eighteen digits, which fit a signed 64-bit integer."""


class Status(StrEnum):
    """What became of a click."""

    ACCEPTED = "accepted"  # sent on to the offer it asked for
    FORWARDED = "forwarded"  # a fallback took it
    REJECTED = "rejected"  # nobody took it


class Reason(IntEnum):
    """Why a click was not simply accepted. The numbers are stored and public: never renumber, only add."""

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
    VISITOR_UNKNOWN = 41  # accepted: there was no room to remember the visitor, so nobody knows if it is new
    SOURCE_BLOCKED = 50
    SUB_BLOCKED = 51
    IP_BLOCKED = 52


class Period(StrEnum):
    """How long a cap counts before it starts anew, in the offer's time zone."""

    HOUR = "hour"
    DAY = "day"
    MONTH = "month"
    TOTAL = "total"


class Cap(NamedTuple):
    """How many clicks an offer, or one affiliate on it, may take in a period."""

    affiliate_id: int | None  # whose clicks it counts; None = everybody's together
    uniques_only: bool
    period: Period
    limit: int
    series: int = 0  # how many such caps there were before it


class Counter(NamedTuple):
    """A cap's count in the period that a click falls into, as the stream keeps it."""

    name: str
    uniques_only: bool
    limit: int
    expires: int  # when the period ends, Unix seconds; 0 = never


class Rule(NamedTuple):
    """One compiled condition on a click."""

    text: str  # as an operator reads it: country in DE, AT
    holds: Callable[[Click], bool]


Rules = tuple[Rule, ...]
"""All of them must hold."""


class OfferUrl(NamedTuple):
    id: int  # NO_URL_ID for a fallback URL, which is no URL of the offer
    name: str
    template: Template
    weight: int  # share of the offer's traffic, relative to its other active URLs; 0 = only by url_id
    rules: Rules = ()
    unique_only: bool = False  # takes no duplicates
    fallback: Fallback | None = None
    salt: int = 1  # odd, 64 bits: its draw differs from other URLs' by it (targeting.salt)


NO_URL_ID = 0


class Fallback(NamedTuple):
    """Where a refused click goes instead: one of the two."""

    url: OfferUrl | None
    offer_id: int | None


class DuplicatePolicy(StrEnum):
    """What becomes of a visitor's later clicks within the window."""

    REDIRECT = "redirect"
    BLOCK = "block"
    FALLBACK = "fallback"


class FormerUniqueness(NamedTuple):
    """How an offer told who is unique before it was changed."""

    window: int  # seconds
    per_affiliate: bool
    until: int  # Unix milliseconds; from then on it remembers nobody


class Offer(NamedTuple):
    id: int
    name: str
    advertiser_id: int
    brand_id: int | None
    is_active: bool
    problem: str  # why it cannot be served as saved; "" = it can
    starts: int  # Unix milliseconds; 0 = always has been there
    ends: int  # Unix milliseconds; FOREVER
    closed_until: int  # Unix milliseconds; 0 = open
    needs_approval: bool
    time_zone: str
    rules: Rules
    urls: tuple[OfferUrl, ...]  # active ones only, by id
    fallback: Fallback | None
    caps: tuple[Cap, ...]  # affiliate_id: None = all clicks together, 0 = each affiliate by itself
    unique_window: int  # seconds
    unique_per_affiliate: bool  # unique_scope offer_affiliate instead of offer
    visitor_cookie: bool
    duplicates: DuplicatePolicy
    duplicates_forced: bool  # the policy applies to visitors known by address and User-Agent only, too
    redirect_status: int  # 302, 303 or 307
    referrer_policy: str  # the Referrer-Policy of its redirects; "" sends none
    deep_link_hosts: frozenset[str]  # lower case; ".shop.test" = its subdomains
    free: tuple[str, ...]  # free_1 … free_10 for every affiliate
    is_draft: bool = False  # not active yet: only test clicks are served
    former_uniqueness: tuple[FormerUniqueness, ...] = ()  # the longest kept first


FOREVER = 1 << 62


class Terms(NamedTuple):
    """What holds between one offer and one affiliate."""

    is_approved: bool
    closed_until: int  # Unix milliseconds; 0 = open
    caps: tuple[Cap, ...]  # take the place of the offer's each-affiliate caps of the same kind and period
    free: tuple[str, ...]  # free_1 … free_10; "" = the offer's


NO_TERMS = Terms(False, 0, (), ("",) * 10)


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
    """What a tracking link says, cropped and free of control characters."""

    offer_id: int
    affiliate_id: int
    url_id: int | None
    source: str
    external_id: str
    gaid: str
    idfa: str
    aff_subs: tuple[str, ...]  # aff_sub, aff_sub2 … aff_sub20
    adv_subs: tuple[str, ...]  # adv_sub, adv_sub2 … adv_sub5
    deep_link: str = ""  # the url parameter, whole; not stored by itself
    test: str = ""  # the signature of a test link; not stored


class Choice(NamedTuple):
    """Who takes a click: what its Location is filled from."""

    offer: Offer
    terms: Terms
    url: OfferUrl


class Visitor(NamedTuple):
    """Who follows the link, as far as one request tells; every string is cropped."""

    ip: str
    user_agent: str
    client_hints: str = ""  # Sec-CH-UA-* as sent, joined for the device cache
    language: str = ""  # Accept-Language as sent
    referrer: str = ""
    host: str = ""
    requested_link: str = ""  # absolute: scheme, host, target as asked
    fetch_dest: str = ""
    fetch_user: str = ""


class Device(NamedTuple):
    """What the User-Agent and the client hints say."""

    os: str  # "UNK" where unknown
    os_version: str  # "UNK" where unknown
    brand: str
    model: str
    type: str  # desktop, phone, tablet, tv, console, bot or ""
    platform: str  # CPU architecture: x64, x86, ARM or ""
    browser: str
    browser_version: str


class Geo(NamedTuple):
    """Where an address is, as far as the databases tell."""

    country_code: str | None
    region_code: str | None
    city: str | None
    isp: str | None
    mobile_carrier: str  # "UNK" where unknown


fast = tuple.__new__
"""fast(Outcome, (…)): a NamedTuple of ours without its own constructor, which is a Python function and slow.
For the few that each click needs; nothing checks what is in it."""


class Outcome(NamedTuple):
    """What a click is answered with, and stored as."""

    status: Status
    reason: Reason
    offer_id: int
    offer_url_id: int | None
    advertiser_id: int
    brand_id: int | None
    location: str  # the Location header; "" where nothing is redirected


class Outcomes(NamedTuple):
    """The answers prepared for what only the stream knows; usually one and the same three times."""

    unique: Outcome
    duplicate: Outcome
    capped: Outcome


class Click(NamedTuple):
    """One followed link, before the stream has chosen among its outcomes."""

    hash: str  # UUIDv7, 32 lowercase hex digits
    millis: int  # when it was followed, Unix milliseconds
    link: Link
    offer: Offer
    affiliate: Affiliate
    visitor: Visitor
    visitor_key: int  # 64 bits, keyed hash of who the visitor is
    is_certain: bool  # known by a cookie or device id, not by address and User-Agent
    device: Device
    geo: Geo
    terms: Terms  # of the offer and affiliate of the link
    is_test: bool
    bot_reason: str | None  # None = human
    counters: tuple[Counter, ...] = ()  # of the caps that apply


class ClickRow(NamedTuple):
    """One row of the clicks table, in the order of its columns; names are joined at read."""

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
