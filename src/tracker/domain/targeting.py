"""Chooses the offer URL that takes a click, or the reason for refusing it."""

from __future__ import annotations

from math import inf, log
from typing import Final

from tracker.domain.model import (
    FOREVER,
    Choice,
    Click,
    Link,
    Offer,
    OfferUrl,
    Reason,
    Rules,
    Standing,
    Terms,
    fast,
)

_MASK: Final = (1 << 64) - 1
_SCALE: Final = 1 / (1 << 53)


def choose(click: Click, offer: Offer, terms: Terms, *, is_new: bool) -> Choice | Reason:
    """The target of an allowed click: the URL that the link names, or else one whose rules hold, by weight.

    `is_new`: whether it is the visitor's first click in the window, which some URLs require. A visitor keeps
    its URL while that URL may take it: the choice depends on the visitor's key, and not on weights or rules
    of other URLs.
    """
    if offer.rules and not click.is_test and not _hold(offer.rules, click):
        return Reason.OFF_TARGET
    url = requested_url(offer, click.link) if click.link.url_id else None
    url = url or _by_weight(click, offer, is_new=is_new)
    if url is None:
        return Reason.OFF_TARGET if any(url.weight for url in offer.urls) else Reason.OFFER_HAS_NO_URL
    return fast(Choice, (offer, terms, url))


def refusal(click: Click, offer: Offer, terms: Terms) -> Reason:
    """Why an offer refuses a click, regardless of visitor and URL. NONE if it accepts it.

    Test clicks are refused only if they cannot be served.
    """
    standing = click.affiliate.status
    if offer[_LIMITS_BEGIN:_LIMITS_END] == _UNLIMITED and standing is _ACTIVE and not terms.closed_until:
        return _NOTHING  # the usual case
    if standing is _BLOCKED:
        return Reason.AFFILIATE_BLOCKED
    if offer.problem:
        return Reason.OFFER_MISCONFIGURED
    if click.is_test:
        return _NOTHING
    if standing is _PENDING:
        return Reason.AFFILIATE_PENDING
    if offer.needs_approval and not terms.is_approved:
        return Reason.AFFILIATE_NOT_APPROVED
    if not offer.is_active:
        return Reason.OFFER_DRAFT if offer.is_draft else Reason.OFFER_PAUSED
    return _closed(click.millis, offer, terms)


def _closed(millis: int, offer: Offer, terms: Terms) -> Reason:
    if millis < offer.starts:
        return Reason.OFFER_NOT_STARTED
    if millis >= offer.ends:
        return Reason.OFFER_EXPIRED
    if millis < offer.closed_until or millis < terms.closed_until:
        return Reason.OFFER_CLOSED
    return _NOTHING


def requested_url(offer: Offer, link: Link) -> OfferUrl | None:
    """The offer's active URL that the link names with url_id."""
    if link.url_id is not None:
        for url in offer.urls:
            if url.id == link.url_id:
                return url
    return None


def wants_uniques(offer: Offer) -> bool:
    """Whether a URL of the offer accepts no duplicates."""
    for url in offer.urls:  # noqa: SIM110 (any() with a generator costs twice as much)
        if url.unique_only:
            return True
    return False


def _hold(rules: Rules, click: Click) -> bool:
    for rule in rules:  # noqa: SIM110 (all() with a generator costs twice as much)
        if not rule.holds(click):
            return False
    return True


def may_take(url: OfferUrl, click: Click, *, is_new: bool) -> bool:
    """Whether the choice by weight includes a URL for this click."""
    if click.is_test or not url.weight:
        return url.weight > 0
    return not (url.rules or url.unique_only) or ((is_new or not url.unique_only) and _hold(url.rules, click))


def _by_weight(click: Click, offer: Offer, *, is_new: bool) -> OfferUrl | None:
    """Weighted rendezvous hashing (Thaler, Ravishankar 1998, and weights by Schindelhauer, Schomaker 2005).

    A URL's draw is a number in (0, 1]: the upper bits of the visitor's random key times the URL's salt
    (multiply-shift by Dietzfelbinger et al. 1997).
    """
    if len(offer.urls) == 1:
        (url,) = offer.urls
        if url.weight and not (url.rules or url.unique_only):
            return url  # the usual case
    urls = [url for url in offer.urls if url.weight and may_take(url, click, is_new=is_new)]
    if len(urls) < 2:
        return urls[0] if urls else None
    best, least, key = None, inf, click.visitor_key
    for url in urls:
        drawn = -log(((key * url.salt & _MASK) >> 11) * _SCALE + _SCALE) / url.weight
        if drawn < least:
            best, least = url, drawn
    return best


def salt(offer_id: int, url_id: int) -> int:
    """The constant salt of an offer's URL: the finalizer of SplitMix64, made odd."""
    mixed = (offer_id * 0x9E3779B97F4A7C15 ^ url_id * 0xD1B54A32D192ED03) & _MASK
    mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB & _MASK
    return mixed ^ mixed >> 31 | 1


# Enum attributes are slow to look up.
_ACTIVE: Final = Standing.ACTIVE
_BLOCKED: Final = Standing.BLOCKED
_PENDING: Final = Standing.PENDING
_NOTHING: Final = Reason.NONE
_LIMITS_BEGIN: Final = Offer._fields.index("is_active")
_LIMITS_END: Final = Offer._fields.index("needs_approval") + 1
_UNLIMITED: Final[tuple[object, ...]] = (True, "", 0, FOREVER, 0, False)
