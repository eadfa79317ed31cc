"""Makes tracking links: with the host that is theirs, and signed where they are for testing."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from urllib.parse import urlencode, urlsplit

from tracker.domain import deep_links
from tracker.domain.click_fields import AFF_SUBS
from tracker.domain.normalise import trim
from tracker.domain.test_links import sign
from tracker.errors import Errors, UserError
from tracker.settings import Settings, reachable
from tracker.store import db
from tracker.store.catalogue import link_hosts
from tracker.store.catalogue.read import visitor_secret

CARRIED = ("source", "external_id", *AFF_SUBS, "url")
"""What a link may say about its clicks: parameters of the link."""


class LinkError(UserError):
    """The link would lead nowhere. The message says why."""


async def make_link(
    settings: Settings,
    offer_id: int,
    affiliate_id: int,
    offer_url_id: int | None = None,
    test_until: datetime | None = None,
) -> str:
    """The tracking link of an offer and affiliate, to one of the offer's URLs where that is named.

    Until `test_until` its clicks are test clicks. None makes no test link.

    Raises:
        LinkError: one of them does not exist.
    """
    assert settings.postgres_dsn
    connection = await db.connect(settings.postgres_dsn)
    try:
        return await read_link(connection, settings, offer_id, affiliate_id, offer_url_id, test_until)
    finally:
        await connection.close()


async def read_link(
    connection: db.Connection,
    settings: Settings,
    offer_id: int,
    affiliate_id: int,
    offer_url_id: int | None = None,
    test_until: datetime | None = None,
) -> str:
    """The same over a connection that is there."""
    named = await link_hosts.read_named(connection, offer_id, affiliate_id, offer_url_id)
    _check(named, offer_id, affiliate_id, offer_url_id)
    base = await _base(connection, settings, named.brand_id, affiliate_id)
    query = {"affiliate_id": str(affiliate_id)}
    if offer_url_id is not None:
        query["url_id"] = str(offer_url_id)
    if test_until is not None:
        secret = await visitor_secret(connection)
        query["test"] = sign(secret, offer_id, affiliate_id, int(test_until.timestamp()))
    return _link(base, offer_id, query)


async def read_links(
    connection: db.Connection, settings: Settings, affiliate_id: int, brands: Mapping[int, int | None]
) -> dict[int, str]:
    """An affiliate's links of several offers, whose brands are given."""
    bases = {
        brand_id: await _base(connection, settings, brand_id, affiliate_id)
        for brand_id in set(brands.values())
    }
    return {
        offer_id: _link(bases[brand_id], offer_id, {"affiliate_id": str(affiliate_id)})
        for offer_id, brand_id in brands.items()
    }


def _link(base: str, offer_id: int, query: Mapping[str, str]) -> str:
    return f"{base}/offer/{offer_id}?{urlencode(query)}"


async def _base(
    connection: db.Connection, settings: Settings, brand_id: int | None, affiliate_id: int
) -> str:
    return await link_hosts.link_base(connection, brand_id, affiliate_id) or _own_base(settings)


def carrying(link: str, sent: Mapping[str, str | None]) -> str:
    """A link that says more about its clicks."""
    said = {name: value for name in CARRIED if (value := sent.get(name))}
    return f"{link}&{urlencode(said)}" if said else link


async def with_host(
    connection: db.Connection, link: str, host: str, offer_id: int, affiliate_id: int
) -> tuple[str, str]:
    """A link on one of the tracking hosts, or why it cannot be there."""
    base, why = await link_hosts.chosen_base(connection, trim(host), offer_id, affiliate_id)
    parts = urlsplit(link)
    return f"{base}{parts.path}?{parts.query}", why


async def wrong_page(source: db.Pool | db.Connection, offer_id: int, url: str | None) -> Errors:
    """Why links of an offer cannot lead to a page, by the name of the parameter."""
    if not url:
        return {}
    hosts = await link_hosts.deep_link_hosts(source, offer_id)
    if deep_links.follow(url, deep_links.hosts(hosts), "") is not None:
        return {}
    allowed = f"one of {', '.join(hosts)}" if hosts else "and it allows none"
    return {"url": [f"does not begin with https:// and a host that the offer allows: {allowed}"]}


def _check(named: link_hosts.Named, offer_id: int, affiliate_id: int, offer_url_id: int | None) -> None:
    if not named.has_offer:
        raise LinkError(f"there is no offer {offer_id}")
    if not named.has_affiliate:
        raise LinkError(f"there is no affiliate {affiliate_id}")
    if not named.has_url:
        raise LinkError(f"offer {offer_id} has no URL {offer_url_id}")


def _own_base(settings: Settings) -> str:
    host = reachable(settings.host)
    return f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"
