"""The end of background tasks."""

from __future__ import annotations

import asyncio

_CANCEL_SECONDS = 0.5


async def end(*tasks: asyncio.Task[None]) -> None:
    """Cancel tasks until they end: a cancellation was seen to be swallowed below a call of redis-py."""
    while running := [task for task in tasks if not task.done()]:
        for task in running:
            task.cancel()
        await asyncio.wait(running, timeout=_CANCEL_SECONDS)
