"""Builds the click of a hit from its link, its visitor and the catalogue."""

from __future__ import annotations

from tracker import device
from tracker.device import UnreadDevice
from tracker.domain import caps, test_links
from tracker.domain.click_id import millis_of
from tracker.domain.model import NO_TERMS, Click, Link, Visitor, fast
from tracker.edge.catalogue.catalogue import Catalogue
from tracker.edge.enrich import bots
from tracker.edge.enrich.geo import Locator
from tracker.edge.read.visitor import identify


def prepare() -> None:
    """Load what reads User-Agents, so that the first click does not wait for it."""
    device.prepare()
    bots.prepare()


def assemble(
    hash_: str,
    link: Link,
    visitor: Visitor,
    cookie_key: int | None,
    catalogue: Catalogue,
    geo: Locator,
    *,
    leaves_device: bool = False,
) -> Click | None:
    """The click of a hit. None if its link names an unknown offer or affiliate.

    `hash_` carries the click's time. `cookie_key` is the visitor key in the browser's cookie.
    `leaves_device`: the worker reads the device. Only what a rule or macro asks for is read here, because to
    read a new one takes longer than all else that a click needs.
    """
    offer = catalogue.offers.get(link.offer_id)
    affiliate = catalogue.affiliates.get(link.affiliate_id)
    if offer is None or affiliate is None:
        return None
    millis = millis_of(hash_)
    secret = catalogue.visitor_secret
    terms = catalogue.terms.get((offer.id, affiliate.id), NO_TERMS)
    visitor_key, is_certain = identify(link, visitor, secret, cookie_key if offer.visitor_cookie else None)
    fields = (
        hash_,
        millis,
        link,
        offer,
        affiliate,
        visitor,
        visitor_key,
        is_certain,
        fast(UnreadDevice, (visitor.user_agent, visitor.client_hints))
        if leaves_device
        else device.read(visitor.user_agent, visitor.client_hints),
        geo.locate(visitor.ip),
        terms,
        affiliate.is_test or (link.test != "" and test_links.is_valid(secret, link, millis)),
        bots.read(visitor.user_agent)
        if catalogue.operator_bots.is_empty
        else catalogue.operator_bots.reason(visitor.user_agent, visitor.ip) or bots.read(visitor.user_agent),
        caps.counters(offer, terms, affiliate.id, millis) if offer.caps or terms.caps else (),
    )
    return fast(Click, fields)
