"""Whether clicks on an offer need their device before they are answered.

They do if a rule or a macro that they can meet asks for it: of the offer, of its fallbacks, or of the
network's fallback. Free texts have no macros. Bots are recognised by the User-Agent itself.
"""

from __future__ import annotations

from collections.abc import Mapping

from tracker.domain.macros import OF_DEVICE
from tracker.domain.model import Fallback, Offer, OfferUrl, Rules


def needs_device(offer: Offer, offers: Mapping[int, Offer], network: Fallback | None) -> bool:
    """`offers`: by id, since a fallback may be an offer. `network`: the fallback of the network."""
    fallbacks = (network, offer.fallback, *(url.fallback for url in offer.urls))
    return _asks(offer) or any(_leads_to_asking(fallback, offers) for fallback in fallbacks if fallback)


def _leads_to_asking(fallback: Fallback, offers: Mapping[int, Offer]) -> bool:
    if fallback.url:
        return _url_asks(fallback.url)
    offer = offers.get(fallback.offer_id or 0)
    return offer is not None and _asks(offer)  # its own fallbacks do not count: see resolve_fallback


def _asks(offer: Offer) -> bool:
    return _rules_ask(offer.rules) or any(map(_url_asks, offer.urls))


def _url_asks(url: OfferUrl) -> bool:
    return _rules_ask(url.rules) or not OF_DEVICE.isdisjoint(url.template[1::2])


def _rules_ask(rules: Rules) -> bool:
    return any(rule.asks_device for rule in rules)
