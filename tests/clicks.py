"""Clicks for tests: complete, and changed only where a test cares."""

from __future__ import annotations

from typing import Any

from tracker.clickhash import millis_of
from tracker.model import (
    Affiliate,
    Click,
    ClickRow,
    Device,
    Geo,
    Link,
    Offer,
    OfferUrl,
    Outcome,
    Outcomes,
    Reason,
    Status,
    Visitor,
)
from tracker.stream.record import decode, encode

HASH = "01900000000070008000000000000001"

_OFFER = Offer(
    3,
    "Test Offer",
    1,
    1,
    True,
    (OfferUrl(132, "page", ("https://x.test/",), 1),),
    1,
    86_400,
    False,
    302,
    "",
    {},
)
_LINK = Link(3, 513, None, "", "", "", "", ("",) * 20, ("",) * 5)
_VISITOR = Visitor(
    "192.0.2.7", "Mozilla/5.0", "", "en", "", "t.test", "http://t.test/offer/3?affiliate_id=513", "", ""
)
_DEVICE = Device("Windows", "10", "", "", "desktop", "x64", "Chrome", "141.0.0.0")
_GEO = Geo("NL", None, "Amsterdam", None, "UNK")


def an_offer(**changes: Any) -> Offer:
    return _OFFER._replace(**changes)


def a_click(
    *,
    hash: str = HASH,  # noqa: A002
    offer: Offer = _OFFER,
    free: dict[int, tuple[str, ...]] | None = None,
    aff_subs: tuple[str, ...] = (),
    user_agent: str = _VISITOR.user_agent,
    affiliate_id: int = 513,
    visitor_key: int = 42,
    millis: int | None = None,
    **changes: Any,
) -> Click:
    if free is not None:
        offer = offer._replace(free={id_: (*texts, *[""] * (10 - len(texts))) for id_, texts in free.items()})
    subs = (*aff_subs, *[""] * (20 - len(aff_subs)))
    return Click(
        hash,
        millis_of(hash) if millis is None else millis,
        _LINK._replace(offer_id=offer.id, affiliate_id=affiliate_id, aff_subs=subs),
        offer,
        Affiliate(affiliate_id, "John Doe", None, True, False),
        _VISITOR._replace(user_agent=user_agent),
        visitor_key,
        _DEVICE,
        _GEO,
        False,
        None,
    )._replace(**changes)


def outcomes_of(click: Click, location: str = "https://x.test/") -> Outcomes:
    outcome = Outcome(
        Status.ACCEPTED,
        Reason.NONE,
        click.offer.id,
        132,
        click.offer.advertiser_id,
        click.offer.brand_id,
        location,
    )
    return Outcomes(outcome, outcome, outcome)


def a_row(click: Click | None = None, **changes: Any) -> ClickRow:
    """The row of an accepted, unique click, as a writer decodes it."""
    click = click or a_click()
    _, record = encode(click, outcomes_of(click))
    return decode({b"a": b"0" + bytes.fromhex(click.hash), b"r": record})._replace(**changes)
