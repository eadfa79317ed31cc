"""Which offer URL a click goes to, or why it goes to none."""

from __future__ import annotations

from tracker.model import Affiliate, Link, Offer, OfferUrl, Reason

_MASK = (1 << 64) - 1
_SPREAD = 0x9E3779B97F4A7C15  # 2^64 / golden ratio: neighbouring offer ids land far apart


def choose(
    offer: Offer, affiliate: Affiliate, link: Link, visitor_key: int, *, is_test: bool
) -> OfferUrl | Reason:
    """The URL asked for by url_id where it is this offer's, else one by weight; a visitor keeps its own.

    Test clicks go through a paused offer too.
    """
    if not affiliate.is_active:
        return Reason.AFFILIATE_BLOCKED
    if not offer.is_active and not is_test:
        return Reason.OFFER_PAUSED
    if link.url_id is not None:
        for url in offer.urls:
            if url.id == link.url_id:
                return url
    return _by_weight(offer, visitor_key)


def _by_weight(offer: Offer, visitor_key: int) -> OfferUrl | Reason:
    point = ((visitor_key ^ offer.id) * _SPREAD & _MASK) * offer.total_weight >> 64
    for url in offer.urls:
        point -= url.weight
        if point < 0:
            return url
    return Reason.OFFER_HAS_NO_URL  # none, or none that takes traffic by weight
