"""The postback sender: sends postbacks to affiliates."""

from __future__ import annotations

import asyncio
import logging

from tracker.outbound_http import USER_AGENT, Caller, Delivery
from tracker.settings import Settings
from tracker.store.conversions.affiliate_postbacks import POSTBACKS
from tracker.store.deliveries import Due
from workers.sender import Sender


async def run(
    settings: Settings,
    stopping: asyncio.Event | None = None,
    *,
    burst: bool = False,
    caller: Caller | None = None,
) -> None:
    """Send until `stopping` is set, then finish what is under way. With `burst`: until nothing is due."""
    await PostbackSender(settings, stopping, caller, burst=burst).run()


class PostbackSender(Sender):
    """The loop of one worker."""

    table = POSTBACKS
    what = "postbacks to affiliates"
    logger = logging.getLogger(__name__)

    async def _ask(self, due: Due) -> Delivery:
        headers = {"Idempotency-Key": due.key, "User-Agent": USER_AGENT, "Accept": "*/*"}
        return await self._caller.get(due.url, headers, is_strict=due.is_strict)
