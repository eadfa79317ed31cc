"""Complete clicks for tests. A test names the fields it cares about."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count
from typing import Any

from tracker.domain.click_id import millis_of
from tracker.domain.model import (
    FOREVER,
    NO_TERMS,
    Affiliate,
    Click,
    ClickRow,
    Device,
    DuplicatePolicy,
    Geo,
    Link,
    Offer,
    OfferUrl,
    Outcome,
    Outcomes,
    Reason,
    Standing,
    Status,
    Visitor,
)
from tracker.edge.http.request import Request
from tracker.edge.http.response import Response
from tracker.edge.record.partitioned import Pending
from tracker.store.clicks import insert as clicks
from tracker.store.clicks.insert import Arrival, Writer
from tracker.store.db import Connection
from tracker.stream.record import decode, encode

HASH = "01900000000070008000000000000001"

_OFFER = Offer(
    id=3,
    name="Test Offer",
    advertiser_id=1,
    brand_id=1,
    is_active=True,
    problem="",
    starts=0,
    ends=FOREVER,
    closed_until=0,
    needs_approval=False,
    time_zone="UTC",
    rules=(),
    urls=(OfferUrl(132, "page", ("https://x.test/",), 1),),
    fallback=None,
    caps=(),
    unique_window=86_400,
    unique_per_affiliate=False,
    visitor_cookie=False,
    duplicates=DuplicatePolicy.REDIRECT,
    duplicates_forced=False,
    redirect_status=302,
    referrer_policy="",
    deep_link_hosts=frozenset(),
    free=("",) * 10,
)
_LINK = Link(3, 513, None, "", "", "", "", ("",) * 20, ("",) * 5)
_VISITOR = Visitor(
    ip="192.0.2.7",
    user_agent="Mozilla/5.0",
    language="en",
    host="t.test",
    requested_link="http://t.test/offer/3?affiliate_id=513",
)
_DEVICE = Device("Windows", "10", "", "", "desktop", "x64", "Chrome", "141.0.0.0")
_GEO = Geo("NL", None, "Amsterdam", None, "UNK")

_entries = count(1)


def an_offer(**changes: Any) -> Offer:
    return _OFFER._replace(**changes)


def an_affiliate(**changes: Any) -> Affiliate:
    return Affiliate(513, "John Doe", None, Standing.ACTIVE, False)._replace(**changes)


def free_texts(*texts: str) -> tuple[str, ...]:
    return (*texts, *[""] * (10 - len(texts)))


def a_click(
    *,
    hash: str = HASH,  # noqa: A002
    offer: Offer = _OFFER,
    aff_subs: tuple[str, ...] = (),
    user_agent: str = _VISITOR.user_agent,
    affiliate_id: int = 513,
    visitor_key: int = 42,
    millis: int | None = None,
    **changes: Any,
) -> Click:
    subs = (*aff_subs, *[""] * (20 - len(aff_subs)))
    return Click(
        hash,
        millis_of(hash) if millis is None else millis,
        _LINK._replace(offer_id=offer.id, affiliate_id=affiliate_id, aff_subs=subs),
        offer,
        an_affiliate(id=affiliate_id),
        _VISITOR._replace(user_agent=user_agent),
        visitor_key,
        False,
        _DEVICE,
        _GEO,
        NO_TERMS,
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


class UnansweredHit:
    """The hit of a click that nobody waits for."""

    request = Request("GET", "http", "127.0.0.1", "/offer/3", b"/offer/3", b"", {})

    def give(self, answer: Response) -> None:
        """Nobody waits for it."""


def pending(click: Click, outcomes: Outcomes | None = None) -> Pending:
    return UnansweredHit(), click, outcomes or outcomes_of(click)


def a_row(click: Click | None = None, **changes: Any) -> ClickRow:
    """The row of an accepted, unique click, as a writer decodes it."""
    click = click or a_click()
    _, record = encode(click, outcomes_of(click))
    return decode({b"a": b"0" + bytes.fromhex(click.hash), b"r": record})._replace(**changes)


async def store(connection: Connection, rows: Iterable[ClickRow]) -> None:
    """Store rows as a writer would, an entry a row. Each connection is a writer."""
    writer = Writer(0, connection.get_server_pid())
    await clicks.store(connection, writer, [Arrival(next(_entries), row) for row in rows])
    await clicks.open_gate(connection)
