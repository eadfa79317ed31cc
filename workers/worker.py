"""All that a worker does, side by side."""

from __future__ import annotations

import asyncio
import signal

from tracker.metrics_socket import answering
from tracker.settings import Settings
from workers import click_writer, conversion_writer, housekeeping, postback_sender


async def run(settings: Settings, slot: int = 0) -> None:
    """Work until SIGTERM or SIGINT; then each part finishes what it is at."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with answering(settings.data_dir, f"worker-{slot}", {}), asyncio.TaskGroup() as chores:
        keeping_house = chores.create_task(housekeeping.run(settings))
        async with asyncio.TaskGroup() as writers:
            writers.create_task(click_writer.run(settings, slot, stopping))
            writers.create_task(conversion_writer.run(settings, stopping))
            writers.create_task(postback_sender.run(settings, stopping))
        keeping_house.cancel()
