"""The webhook sender: tells the network's own systems of events, signed as Standard Webhooks says."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress

from tracker import secret_key
from tracker.domain import webhooks
from tracker.outbound_http import USER_AGENT, Caller, Delivery
from tracker.secret_key import OtherKeyError
from tracker.settings import Settings
from tracker.store.deliveries import Due
from tracker.store.webhooks import sent
from tracker.store.webhooks.sent import WEBHOOKS, Message
from workers.sender import Sender

UNREADABLE = "its secret was encrypted with another key file: put that file back, or rotate the secret"
"""The error of a request that cannot be signed."""


async def run(
    settings: Settings,
    stopping: asyncio.Event | None = None,
    *,
    burst: bool = False,
    caller: Caller | None = None,
) -> None:
    """Send until `stopping` is set, then finish what is under way. With `burst`: until nothing is due."""
    await WebhookSender(settings, stopping, caller, burst=burst).run()


class WebhookSender(Sender):
    """The loop of one worker."""

    table = WEBHOOKS
    what = "webhooks"
    logger = logging.getLogger(__name__)

    def __init__(
        self, settings: Settings, stopping: asyncio.Event | None, caller: Caller | None, *, burst: bool
    ) -> None:
        super().__init__(settings, stopping, caller, burst=burst)
        self._key = secret_key.load(settings.key_file)

    async def _ask(self, due: Due) -> Delivery:
        message = await sent.message(self._pool, due.id)
        try:
            secrets = self._secrets(message)
        except OtherKeyError:
            return Delivery(error=UNREADABLE)
        id_, now = webhooks.message_id(due.key), int(time.time())
        headers = {
            "Content-Type": "application/json",
            "User-Agent": USER_AGENT,
            "webhook-id": id_,
            "webhook-timestamp": str(now),
            "webhook-signature": webhooks.signature(secrets, id_, now, message.payload),
        }
        return await self._caller.post(due.url, headers, message.payload)

    def _secrets(self, message: Message) -> list[str]:
        """The secrets that sign. An earlier secret of another key file is left out."""
        secrets = [self._key.open(message.secret).decode()]
        if message.previous_secret is not None:
            with suppress(OtherKeyError):
                secrets.append(self._key.open(message.previous_secret).decode())
        return secrets
