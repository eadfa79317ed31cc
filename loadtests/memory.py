"""What remembering a visitor costs: python -m loadtests.memory [--visitors 1000000].

First clicks of new visitors, spread over one day, go through the real append script into a Valkey of its own.
The stream is emptied, and what the server then holds more than at the start is what it knows visitors by.
Exit code 0: within the budget; 1: over it; 2: it could not be measured.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import uvloop
from redis.asyncio import Redis

from tests.clicks import a_click, outcomes_of
from tracker.children import CannotStart, Claim
from tracker.clickhash import first_hash_at
from tracker.embedded import resolve, start_valkey
from tracker.settings import Settings
from tracker.stream.appender import Appender, Lane
from tracker.stream.record import Entry, encode

BUDGET = 40.0
"""Bytes a visitor, from some 650,000 visitors a day on; with fewer their buckets weigh more."""

_DAY = 86_400_000
_TODAY = 1_800_000_000_000 // _DAY * _DAY
_BATCH = 512
_PATIENCE = 30.0  # seconds


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m loadtests.memory", description="Memory of a visitor.")
    parser.add_argument("--visitors", type=int, default=1_000_000)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            each = runner.run(_bytes_of_each(parser.parse_args().visitors))
    except (CannotStart, ZeroDivisionError) as error:
        print(f"cannot be measured: {error}", file=sys.stderr)
        return 2
    print(f"{each:.1f} bytes a visitor; the budget is {BUDGET:.0f}")
    return int(each > BUDGET)


async def _bytes_of_each(visitors: int) -> float:
    async with _valkey() as url, Redis.from_url(url) as client:
        before = await _used(client)
        appender, lane = Appender(url), Lane()
        for batch in _batches(visitors):
            await appender.append(lane, batch, _PATIENCE)
            lane.next()
            await client.delete("clicks:{0}")
        await appender.close()
        return (await _used(client) - before) / visitors


@asynccontextmanager
async def _valkey() -> AsyncIterator[str]:
    with tempfile.TemporaryDirectory(prefix="tracker-memory-") as directory:
        settings = resolve(Settings(data_dir=Path(directory)))
        claim = await Claim.take(settings.data_dir)
        engine = await start_valkey(settings, claim)
        try:
            yield engine.url
        finally:
            await engine.stop()
            await claim.release()


def _batches(visitors: int) -> Iterator[list[Entry]]:
    chance = Random(1)
    for start in range(0, visitors, _BATCH):
        numbers = range(start, min(start + _BATCH, visitors))
        yield list(_first_clicks(numbers, visitors, chance))


def _first_clicks(numbers: Iterable[int], of: int, chance: Random) -> Iterator[Entry]:
    for number in numbers:
        hash_ = first_hash_at(_TODAY + number * _DAY // of)[:16] + f"8{chance.getrandbits(60):015x}"
        click = a_click(hash=hash_, visitor_key=chance.getrandbits(64))
        yield encode(click, outcomes_of(click))


async def _used(client: Redis) -> int:
    await client.delete("clicks:{0}")
    return int((await client.info("memory"))["used_memory"])


if __name__ == "__main__":
    sys.exit(main())
