"""The part of the catalogue that some links need, read from Postgres now."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from itertools import product

from tracker.domain.model import Link
from tracker.edge.catalogue.catalogue import Catalogue
from tracker.store.catalogue import read as stored_catalogue
from tracker.store.db import Connection


async def add_touched(connection: Connection, catalogue: Catalogue, links: Iterable[Link]) -> None:
    """Add every row that decides the outcome of clicks on these links, for any visitor."""
    asked = {(link.offer_id, link.affiliate_id) for link in links}
    offer_ids, affiliate_ids = {offer_id for offer_id, _ in asked}, {id_ for _, id_ in asked}
    catalogue.visitor_secret = await stored_catalogue.visitor_secret(connection)
    for table in ("bot_rule", "network"):
        await put(catalogue, table, stored_catalogue.read_table(connection, table))
    await put(
        catalogue, "affiliate", stored_catalogue.read_some(connection, "affiliate", _keys(affiliate_ids))
    )
    await put(catalogue, "offer", stored_catalogue.read_some(connection, "offer", _keys(offer_ids)))
    fallbacks = _fallback_offers(catalogue)
    await put(
        catalogue, "offer", stored_catalogue.read_some(connection, "offer", _keys(fallbacks - offer_ids))
    )
    asked |= set(product(fallbacks, affiliate_ids))
    pairs = [f"{offer_id}:{affiliate_id}" for offer_id, affiliate_id in asked]
    await put(catalogue, "terms", stored_catalogue.read_some(connection, "terms", pairs))
    blocks = stored_catalogue.read_blocks(connection, list(catalogue.offers), list(affiliate_ids))
    await put(catalogue, "block", blocks)


async def put(catalogue: Catalogue, table: str, rows: Awaitable[stored_catalogue.Rows]) -> None:
    for key, row in await rows:
        catalogue.put(table, key, row)


def _keys(ids: Iterable[int]) -> list[str]:
    return [str(id_) for id_ in ids]


def _fallback_offers(catalogue: Catalogue) -> set[int]:
    fallbacks = [catalogue.fallback]
    for offer in catalogue.offers.values():
        fallbacks += [offer.fallback, *(url.fallback for url in offer.urls)]
    return {fallback.offer_id for fallback in fallbacks if fallback and fallback.offer_id}
