"""Run the real click writer until the stream is empty: python -m loadtests.drain, TRACKER_ settings set.

Prints the CPU seconds that it took, start and imports left out.
"""

from __future__ import annotations

import asyncio
from time import process_time

import uvloop

from tracker.settings import Settings
from workers import click_writer


async def _drain() -> float:
    begun = process_time()
    await click_writer.run(Settings.from_env(), burst=True)
    return process_time() - begun


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(runner.run(_drain()))
