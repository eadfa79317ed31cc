"""The postback sender: sends postbacks to affiliates."""

from __future__ import annotations

import asyncio
import logging

from tracker.outbound_http import Caller, Delivery
from tracker.settings import Settings
from tracker.store import db
from tracker.store.conversions.affiliate_postbacks import POSTBACKS
from tracker.store.deliveries import Due
from workers.sender import USER_AGENT, Sender

logger = logging.getLogger(__name__)


async def run(
    settings: Settings,
    stopping: asyncio.Event | None = None,
    *,
    burst: bool = False,
    caller: Caller | None = None,
) -> None:
    """Send until `stopping` is set, then finish what is under way. With `burst`: until nothing is due."""
    assert settings.postgres_dsn
    await PostbackSender(
        settings.postgres_dsn,
        POSTBACKS,
        caller or Caller(settings.postback_networks),
        stopping or asyncio.Event(),
        burst=burst,
        logger=logger,
        what="postbacks to affiliates",
    ).run()


class PostbackSender(Sender):
    """The loop of one worker."""

    async def _announce(self, connection: db.Connection, most: int) -> int:
        return await POSTBACKS.announce(connection, most)

    async def _ask(self, due: Due) -> Delivery:
        headers = {"Idempotency-Key": due.key, "User-Agent": USER_AGENT, "Accept": "*/*"}
        return await self._caller.get(due.url, headers)
