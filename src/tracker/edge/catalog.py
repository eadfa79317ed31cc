"""The offer catalogue in an edge's memory: immutable objects, replaced one by one.

Rows come from app (Postgres, or the snapshot on local disk); a row that is wrong is left out with a warning
and the rest serves.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import orjson

from tracker import macros
from tracker.model import Affiliate, Offer, OfferUrl

logger = logging.getLogger(__name__)

Row = dict[str, Any]
"""An offer with its `urls` and `free` values, or an affiliate, as store.catalogue reads it."""

Chunk = tuple[str, list[Row]]
"""A table's name, offer or affiliate, and some hundred of its rows."""


class Catalog:
    def __init__(self) -> None:
        self.offers: dict[int, Offer] = {}
        self.affiliates: dict[int, Affiliate] = {}
        self.visitor_secret = b""  # the deployment's key for visitor keys
        self.loaded = asyncio.Event()

    def put(self, table: str, id_: int, row: Row | None) -> None:
        """Replace one offer or affiliate; None removes it."""
        if table == "offer":
            _replace(self.offers, id_, row and _offer(row))
        else:
            _replace(self.affiliates, id_, row and _affiliate(row))

    async def load(self, secret: bytes, rows: AsyncIterator[Chunk]) -> None:
        """Take a whole catalogue, chunk by chunk, and drop what is not in it."""
        self.visitor_secret = secret  # first: a click may come between two chunks
        seen: dict[str, set[int]] = {"offer": set(), "affiliate": set()}
        async for table, chunk in rows:
            for row in chunk:
                self.put(table, row["id"], row)
                seen[table].add(row["id"])
            await asyncio.sleep(0)  # clicks go first
        for table, held in (("offer", self.offers), ("affiliate", self.affiliates)):
            for id_ in held.keys() - seen[table]:
                self.put(table, id_, None)
        self.loaded.set()

    async def restore(self, snapshot: Path) -> bool:
        """Load a snapshot; False where there is none that can be read."""
        try:
            head, *lines = (await asyncio.to_thread(snapshot.read_bytes)).splitlines()
            await self.load(bytes.fromhex(orjson.loads(head)["visitor_secret"]), _parsed(lines))
        except FileNotFoundError:
            return False
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.warning("catalogue snapshot %s cannot be read: %s", snapshot, error)
            return False
        return True


async def keep(snapshot: Path, secret: bytes, rows: AsyncIterator[Chunk]) -> AsyncIterator[Chunk]:
    """Pass a catalogue on, and leave behind the snapshot that an edge starts from while Postgres is down.

    The file is replaced when the last row has passed, so it is whole or the one before. A disk that cannot
    take it costs the snapshot, not the catalogue.
    """
    lines = [orjson.dumps({"visitor_secret": secret.hex()})]
    async for table, chunk in rows:
        lines.append(orjson.dumps([table, chunk]))
        yield table, chunk
    try:
        await asyncio.to_thread(_replace_file, snapshot, b"\n".join(lines))
    except OSError as error:
        logger.warning("catalogue snapshot %s cannot be written: %s", snapshot, error)


def _replace_file(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.touch(mode=0o600)  # it holds the visitor secret
    fresh.write_bytes(content)
    fresh.replace(path)


async def _parsed(lines: Iterable[bytes]) -> AsyncIterator[Chunk]:
    for line in lines:
        table, rows = orjson.loads(line)
        yield table, rows


def _replace(table: dict[int, Any], id_: int, value: object) -> None:
    if value is None:
        table.pop(id_, None)
    else:
        table[id_] = value


def _affiliate(row: Row) -> Affiliate:
    return Affiliate(row["id"], row["name"], row["group_id"], row["status"] == "active", row["is_test"])


def _offer(row: Row) -> Offer:
    urls = tuple(filter(None, (_offer_url(row["id"], url) for url in row["urls"])))
    return Offer(
        id=row["id"],
        name=row["name"],
        advertiser_id=row["advertiser_id"],
        brand_id=row["brand_id"],
        is_active=row["status"] == "active",
        urls=urls,
        total_weight=sum(url.weight for url in urls),
        unique_window=row["unique_window"],
        unique_per_affiliate=row["unique_scope"] == "offer_affiliate",
        redirect_status=row["redirect_status"],
        referrer_policy=row["referrer_policy"],
        free={int(affiliate): _free_texts(row["id"], texts) for affiliate, texts in row["free"].items()},
    )


def _free_texts(offer_id: int, texts: list[str]) -> tuple[str, ...]:
    try:
        return tuple(map(macros.free_text, texts))
    except macros.TemplateError as error:
        logger.warning("offer %d: its free texts are left out: %s", offer_id, error)
        return ("",) * len(texts)


def _offer_url(offer_id: int, row: Row) -> OfferUrl | None:
    try:
        template = macros.compile(row["url"])
    except macros.TemplateError as error:
        logger.warning("offer %d: its URL %d is left out: %s", offer_id, row["id"], error)
        return None
    return OfferUrl(row["id"], row["name"], template, row["weight"])
