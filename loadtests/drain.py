"""Run the real click writer until the stream is empty: python -m loadtests.drain, TRACKER_ settings set.

Its counts are added up beside it, and garbage is collected rarely, as in a worker. Prints the CPU seconds
that it took, start and imports left out.
"""

from __future__ import annotations

import asyncio
from time import process_time

import uvloop

from tracker.processes.garbage import collect_rarely
from tracker.settings import Settings
from tracker.store import db
from tracker.store.clicks import deltas
from workers import click_writer, count_adder


async def _drain() -> float:
    settings = Settings.from_env()
    assert settings.postgres_dsn
    begun = process_time()
    adding = asyncio.create_task(count_adder.run(settings))
    await click_writer.run(settings, burst=True)
    adding.cancel()
    connection = await db.connect(settings.postgres_dsn)
    await deltas.add_up(connection)
    await connection.close()
    return process_time() - begun


if __name__ == "__main__":
    collect_rarely()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(runner.run(_drain()))
