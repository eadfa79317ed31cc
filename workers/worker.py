"""The parts of a worker, side by side."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from resource import RLIM_INFINITY, RLIMIT_NOFILE, getrlimit, setrlimit

from tracker import secret_key
from tracker.metrics_socket import answering
from tracker.processes.systemd import ServiceManager
from tracker.settings import Settings
from workers import (
    click_writer,
    conversion_writer,
    count_adder,
    housekeeping,
    measures,
    postback_sender,
    refused_log,
    sub_id_counter,
    watch,
    webhook_sender,
)

logger = logging.getLogger(__name__)

STOP_SECONDS = 30.0
"""How long the parts may take to finish their batches. `tracker up` waits longer than that."""
_FILES = 4096  # each postback under way has a connection


async def run(settings: Settings, slot: int = 0) -> None:
    """Work until SIGTERM or SIGINT. Each part then finishes its batch, unless an engine is frozen.

    Raises:
        CannotStartError: the key file cannot be used.
    """
    manager = ServiceManager.of_process()
    secret_key.load(settings.key_file)  # made at the first start, and refused before any work
    _allow_files()
    stopping, loop = asyncio.Event(), asyncio.get_running_loop()

    def stop() -> None:
        stopping.set()
        manager.report("STOPPING=1")
        loop.call_later(STOP_SECONDS, _leave)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    async with (
        answering(settings.data_dir, f"worker-{slot}", measures.answers(slot)),
        manager.told(),
        asyncio.TaskGroup() as chores,
    ):
        beside = [
            chores.create_task(run(settings))
            for run in (
                housekeeping.run,
                count_adder.run,
                sub_id_counter.run,
                refused_log.run,
                watch.run,
            )
        ]
        async with asyncio.TaskGroup() as writers:
            writers.create_task(click_writer.run(settings, slot, stopping))
            writers.create_task(conversion_writer.run(settings, stopping))
            writers.create_task(postback_sender.run(settings, stopping))
            writers.create_task(webhook_sender.run(settings, stopping))
        for task in beside:
            task.cancel()


def _leave() -> None:
    """End at once, as if killed: a call to a frozen engine cannot be cancelled.

    Unacknowledged entries stay on the stream, and are read again.
    """
    logger.warning(
        "worker: its batches are not finished after %(seconds).0f s: it ends, and they are read again",
        {"event": "worker_stop_forced", "seconds": STOP_SECONDS},
    )
    os._exit(1)


def _allow_files() -> None:
    """Raise the limit of open files to the hard one: the usual soft limit, 1,024, dates from select(2)."""
    soft, hard = getrlimit(RLIMIT_NOFILE)
    wanted = _FILES if hard == RLIM_INFINITY else min(_FILES, hard)
    if soft != RLIM_INFINITY and soft < wanted:
        setrlimit(RLIMIT_NOFILE, (wanted, hard))
