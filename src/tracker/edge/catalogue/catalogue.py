"""The catalogue in an edge's memory: immutable objects, replaced one by one.

Rows come from Postgres or from the snapshot on local disk. Unusable objects are left out, `problems` has the
reasons, and the rest serves.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path

import orjson

from tracker.domain.model import Affiliate, Fallback, Offer, Terms
from tracker.edge.catalogue import build
from tracker.edge.catalogue.advertiser_secrets import AdvertiserSecrets
from tracker.edge.catalogue.block_lists import BlockList
from tracker.edge.catalogue.bot_rules import OperatorBots
from tracker.edge.catalogue.build import Row
from tracker.edge.catalogue.link_forms import LinkForms
from tracker.edge.catalogue.postback_forms import PostbackForms
from tracker.edge.catalogue.snapshot import Chunk, parsed
from tracker.edge.catalogue.status_words import StatusWords
from tracker.edge.catalogue.tracking_hosts import TrackingHosts

logger = logging.getLogger(__name__)

_AT_ONCE = 20  # objects. Each offer with rules delays clicks by about 0.2 ms

_Put = Callable[[str, Row | None], None]


class Catalogue:
    def __init__(self) -> None:
        self.offers: dict[int, Offer] = {}
        self.affiliates: dict[int, Affiliate] = {}
        self.terms: dict[tuple[int, int], Terms] = {}  # by offer and affiliate
        self.blocks = BlockList()
        self.link_forms = LinkForms()
        self.postback_forms = PostbackForms()
        self.hosts = TrackingHosts()
        self.operator_bots = OperatorBots()
        self.secrets = AdvertiserSecrets()
        self.status_words = StatusWords()
        self.fallback: Fallback | None = None  # the network's
        self.visitor_secret = b""  # the deployment's key for visitor keys
        self.problems: dict[tuple[str, str], list[str]] = {}  # by table and key
        self.loaded = asyncio.Event()
        self._puts: dict[str, _Put] = {
            "offer": self._put_offer,
            "affiliate": self._put_affiliate,
            "terms": self._put_terms,
            "block": lambda key, row: self.blocks.put(int(key), row),
            "link_form": lambda key, row: self.link_forms.put(int(key), row),
            "postback_form": lambda key, row: self.postback_forms.put(int(key), row),
            "link_code": lambda key, row: self.link_forms.codes.put(int(key), row),
            "bot_rule": lambda key, row: self.operator_bots.put(int(key), row),
            "tracking_host": self.hosts.put,
            "secret": lambda key, row: self.secrets.put(int(key), row),
            "status_word": lambda key, row: self.status_words.put(int(key), row),
            "network": self._put_network,
        }
        self._held: dict[str, set[str]] = {table: set() for table in self._puts}

    def put(self, table: str, key: str, row: Row | None) -> None:
        """Replace one object. None removes it. An unusable one is left out."""
        self.problems.pop((table, key), None)
        (self._held[table].discard if row is None else self._held[table].add)(key)
        try:
            if row and "unreadable" in row:
                raise ValueError(row["unreadable"])
            self._puts[table](key, row)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self._complain(table, key, f"left out: {error}")
            self._puts[table](key, None)

    async def put_some(self, table: str, objects: Iterable[tuple[str, Row | None]]) -> None:
        """Replace objects of a table, a few at a time, so that clicks do not wait."""
        for number, (key, row) in enumerate(objects, 1):
            self.put(table, key, row)
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)

    def _complain(self, table: str, key: str, why: str) -> None:
        logger.warning(
            "catalogue: %(table)s %(key)s: %(cause)s",
            {"event": "catalogue_problem", "table": table, "key": key, "cause": why},
        )
        self.problems.setdefault((table, key), []).append(why)

    def _put_offer(self, key: str, row: Row | None) -> None:
        if row is None:
            self.offers.pop(int(key), None)
        else:
            self.offers[int(key)] = build.offer(row, lambda why: self._complain("offer", key, why))

    def _put_affiliate(self, key: str, row: Row | None) -> None:
        if row is None:
            self.affiliates.pop(int(key), None)
        else:
            self.affiliates[int(key)] = build.affiliate(row)

    def _put_terms(self, key: str, row: Row | None) -> None:
        offer_id, _, affiliate_id = key.partition(":")
        pair = int(offer_id), int(affiliate_id)
        if row is None:
            self.terms.pop(pair, None)
        else:
            self.terms[pair] = build.terms(row, lambda why: self._complain("terms", key, why))

    def _put_network(self, key: str, row: Row | None) -> None:
        self.fallback = None
        if row is not None:
            self.fallback = build.fallback(row, lambda why: self._complain("network", key, why))

    def orphan_location(self) -> str:
        """The Location of hits without a known offer or affiliate, all macros empty. "" without one."""
        if self.fallback is None:
            return ""
        url = self.fallback.url
        if url is None and (offer := self.offers.get(self.fallback.offer_id or 0)) and offer.is_active:
            url = next(iter(offer.urls), None)
        return "".join(url.template[::2]) if url else ""

    async def load(self, secret: bytes, chunks: AsyncIterator[Chunk]) -> None:
        """Load a whole catalogue, chunk by chunk, and remove objects that are not in it."""
        self.visitor_secret = secret  # first: a click may come between two chunks
        gone = {table: held.copy() for table, held in self._held.items()}
        async for table, chunk in chunks:
            await self.put_some(table, chunk)
            gone[table].difference_update(key for key, _ in chunk)
            await asyncio.sleep(0)
        for table, keys in gone.items():
            await self.put_some(table, [(key, None) for key in keys])
        self.loaded.set()

    async def restore(self, snapshot: Path) -> bool:
        """Load a snapshot. False if it is missing or cannot be read."""
        try:
            head, *lines = (await asyncio.to_thread(snapshot.read_bytes)).splitlines()
            await self.load(bytes.fromhex(orjson.loads(head)["visitor_secret"]), parsed(lines))
        except FileNotFoundError:
            return False
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.warning(
                "catalogue snapshot %(path)s cannot be read: %(cause)s",
                {"event": "snapshot_unread", "path": snapshot, "cause": error},
            )
            return False
        return True
