"""The parts of a worker, side by side."""

from __future__ import annotations

import asyncio
import signal
from resource import RLIM_INFINITY, RLIMIT_NOFILE, getrlimit, setrlimit

from tracker import secret_key
from tracker.metrics_socket import answering
from tracker.settings import Settings
from workers import (
    click_writer,
    conversion_writer,
    count_adder,
    housekeeping,
    postback_sender,
    refused_log,
    watch,
    webhook_sender,
)

_FILES = 4096  # each postback under way has a connection


async def run(settings: Settings, slot: int = 0) -> None:
    """Work until SIGTERM or SIGINT. Each part then finishes its batch.

    Raises:
        CannotStartError: the key file cannot be used.
    """
    secret_key.load(settings.key_file)  # made at the first start, and refused before any work
    _allow_files()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with answering(settings.data_dir, f"worker-{slot}", {}), asyncio.TaskGroup() as chores:
        beside = [
            chores.create_task(run(settings))
            for run in (housekeeping.run, count_adder.run, refused_log.run, watch.run)
        ]
        async with asyncio.TaskGroup() as writers:
            writers.create_task(click_writer.run(settings, slot, stopping))
            writers.create_task(conversion_writer.run(settings, stopping))
            writers.create_task(postback_sender.run(settings, stopping))
            writers.create_task(webhook_sender.run(settings, stopping))
        for task in beside:
            task.cancel()


def _allow_files() -> None:
    """Raise the limit of open files to the hard one: the usual soft limit, 1,024, dates from select(2)."""
    soft, hard = getrlimit(RLIMIT_NOFILE)
    wanted = _FILES if hard == RLIM_INFINITY else min(_FILES, hard)
    if soft != RLIM_INFINITY and soft < wanted:
        setrlimit(RLIMIT_NOFILE, (wanted, hard))
