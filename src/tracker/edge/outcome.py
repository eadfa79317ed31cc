"""Prepares the outcomes of a click: accepted, forwarded or rejected, for each decision of the stream."""

from __future__ import annotations

from typing import Final

from tracker.domain import deep_links, macros, targeting
from tracker.domain.model import (
    NO_TERMS,
    NO_URL_ID,
    Choice,
    Click,
    DuplicatePolicy,
    Fallback,
    Offer,
    OfferUrl,
    Outcome,
    Outcomes,
    Reason,
    Status,
    Terms,
    fast,
)
from tracker.edge import pass_through
from tracker.edge.catalogue.catalogue import Catalogue
from tracker.edge.http import response
from tracker.edge.http.response import Response


def prepare_outcomes(click: Click, catalogue: Catalogue) -> Outcomes:
    """The outcomes of a unique, a duplicate and a capped click. Usually all three are the same."""
    unique = _outcome(click, catalogue, is_new=True)
    if unique.status is not _ACCEPTED or click.is_test or click.bot_reason is not None:
        return Outcomes(unique, unique, unique)  # the stream only looks the visitor up
    offer = click.offer
    duplicate = capped = unique
    if offer.duplicates is not _REDIRECT and (click.is_certain or offer.duplicates_forced):
        duplicate = _refused(click, catalogue, Reason.DUPLICATE, _url_of(offer, unique))
    elif targeting.wants_uniques(offer):
        duplicate = _outcome(click, catalogue, is_new=False)
    if click.counters:
        capped = _refused(click, catalogue, Reason.CAPPED, _url_of(offer, unique))
    return fast(Outcomes, (unique, duplicate, capped))


def taker(click: Click, outcome: Outcome, catalogue: Catalogue) -> Offer:
    """The offer that took the click: the one of its link, or a fallback."""
    offer = click.offer
    return offer if outcome.offer_id == offer.id else catalogue.offers.get(outcome.offer_id, offer)


def response_of(outcome: Outcome, offer: Offer) -> Response:
    """The redirect to an outcome's Location, or the page of its refusal. `offer` took the click."""
    if outcome.status is _REJECTED:
        return response.refusal(outcome.reason)
    return response.redirect(offer.redirect_status, outcome.location, offer.referrer_policy)


def _outcome(click: Click, catalogue: Catalogue, *, is_new: bool) -> Outcome:
    choice = choose_offer_url(click, click.offer, click.terms, catalogue, is_new=is_new)
    if not isinstance(choice, Choice):
        return _refused(click, catalogue, choice, targeting.requested_url(click.offer, click.link))
    offer, _, url = choice
    location = _location(click, choice)
    if location is None:
        return _refused(click, catalogue, Reason.LOCATION_UNSENDABLE, url)
    advertiser_id, brand_id = offer.advertiser_id, offer.brand_id
    return fast(Outcome, (_ACCEPTED, _NOTHING, offer.id, url.id, advertiser_id, brand_id, location))


def choose_offer_url(
    click: Click, offer: Offer, terms: Terms, catalogue: Catalogue, *, is_new: bool
) -> Choice | Reason:
    """The URL of an offer that takes a click, or the reason why none does."""
    reason = targeting.refusal(click, offer, terms)
    if reason is _NOTHING and catalogue.blocks and not click.is_test:
        reason = catalogue.blocks.reason(click, offer.id)
    return targeting.choose(click, offer, terms, is_new=is_new) if reason is _NOTHING else reason


def _location(click: Click, choice: Choice) -> str | None:
    """The Location, with what the offer takes from the link: a deep link and parameters.

    None if it cannot be sent.
    """
    offer, _, url = choice
    location = macros.fill(url.template, click, choice)
    if not macros.sendable(location):
        return None
    if click.link.deep_link and offer.deep_link_hosts and url.id != NO_URL_ID:
        location = deep_links.follow(click.link.deep_link, offer.deep_link_hosts, location) or location
    if offer.pass_through is not None and url.id != NO_URL_ID:
        location = pass_through.add(location, click.link.query, offer.pass_through)
    return location


def _refused(click: Click, catalogue: Catalogue, reason: Reason, url: OfferUrl | None) -> Outcome:
    """The first fallback that takes the click: the URL's, the offer's, the network's. Else a rejection."""
    offer = click.offer
    if reason is Reason.DUPLICATE and offer.duplicates is DuplicatePolicy.BLOCK:
        return _rejected(offer, reason)
    if reason is not Reason.AFFILIATE_BLOCKED:
        for fallback in (url and url.fallback, offer.fallback, catalogue.fallback):
            choice = resolve_fallback(click, catalogue, fallback) if fallback else None
            if isinstance(choice, Choice) and (location := _location(click, choice)):
                return _forwarded(reason, choice, location)
    return _rejected(offer, reason)


def resolve_fallback(click: Click, catalogue: Catalogue, fallback: Fallback) -> Choice | Reason:
    """The choice of a fallback, or the reason why it does not take the click.

    A fallback offer is tried once. Its own fallbacks do not count.
    """
    if fallback.url:
        return Choice(click.offer, click.terms, fallback.url)
    offer = catalogue.offers.get(fallback.offer_id or 0)
    if offer is None or offer.id == click.offer.id:
        return Reason.OFFER_MISCONFIGURED
    terms = catalogue.terms.get((offer.id, click.affiliate.id), NO_TERMS)
    return choose_offer_url(click, offer, terms, catalogue, is_new=True)


def _forwarded(reason: Reason, choice: Choice, location: str) -> Outcome:
    offer, _, url = choice
    status, url_id = Status.FORWARDED, url.id or None
    return Outcome(status, reason, offer.id, url_id, offer.advertiser_id, offer.brand_id, location)


def _rejected(offer: Offer, reason: Reason) -> Outcome:
    return Outcome(Status.REJECTED, reason, offer.id, None, offer.advertiser_id, offer.brand_id, "")


def _url_of(offer: Offer, outcome: Outcome) -> OfferUrl | None:
    return next((url for url in offer.urls if url.id == outcome.offer_url_id), None)


# An Enum's attributes are slow.
_ACCEPTED: Final = Status.ACCEPTED
_REJECTED: Final = Status.REJECTED
_REDIRECT: Final = DuplicatePolicy.REDIRECT
_NOTHING: Final = Reason.NONE
