"""Every part of a tracker is killed under load in random order. Then answers and stored clicks are compared.

`python -m tests.chaos.scenario --seeds 10` (make chaos) repeats it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from time import monotonic

import asyncpg

from tests.chaos.load import Load
from tests.e2e.running import PATIENCE, Up
from tests.integration.stream_client import dead_letters
from tracker.processes.engines.engine import resolve
from tracker.settings import Settings
from tracker.stream.reader import Reader

MOST_PAUSE_SECONDS = 1.0
"""The longest wait of visitors after a failure that the spool covers."""

LINKS = (
    "/offer/3?affiliate_id=513",
    "/offer/1?affiliate_id=501",  # refuses duplicates
    "/offer/2?affiliate_id=502",  # fills up
)
OFFERS = """
UPDATE offer SET duplicates = 'block', duplicates_forced = true WHERE id = 1;
INSERT INTO cap (offer_id, affiliate_id, counts, period, amount) VALUES (2, NULL, 'clicks', 'total', 300);
"""
_STALL_SECONDS = 0.7  # longer than a click waits for the stream

_RECOUNT = """
SELECT dimension || a_day, key, slot - slot % slots, count(*) FROM click CROSS JOIN LATERAL (
    VALUES ('all', 0::bigint), ('offer', offer_id), ('affiliate', affiliate_id)
) AS of (dimension, key)
CROSS JOIN click_slot(hash) AS slot CROSS JOIN (VALUES ('', 1), ('_day', 96)) AS time (a_day, slots)
GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""
_COUNTS = """
SELECT dimension, key, slot, sum(clicks)::bigint FROM click_count_part GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""
_INCONSISTENT = (
    "SELECT count(*) FROM click WHERE is_unique IS DISTINCT FROM coalesce(group_hash = hash, false)"
)
_UNIQUE_TWICE = """
SELECT count(*) FROM (
    SELECT FROM click WHERE is_unique GROUP BY requested_offer_id, visitor_key HAVING count(*) > 1
) AS twice
"""


class House:
    """A tracker whose parts and supervisor are killed."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._starts = 0
        self.up = self._start()

    def _start(self, **variables: str) -> Up:
        self._starts += 1
        log = self._data_dir.with_name(f"up-{self._starts}.log")
        return Up(self._data_dir, "--edges", "2", log=log, **variables).wait_ready()

    async def kill(self, *words: str) -> None:
        """SIGKILL every child that has any of these words in its command line."""
        for pid in [pid for word in words for pid in self.up.children_with(word)]:
            with suppress(ProcessLookupError):  # it may have ended by another failure
                os.kill(pid, signal.SIGKILL)

    async def stall(self, words: str) -> None:
        (pid,) = self.up.children_with(words)
        os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(_STALL_SECONDS)
        os.kill(pid, signal.SIGCONT)

    async def kill_supervisor(self) -> None:
        self.up.process.kill()
        self.up.process.wait()
        port = str(self.up.port)
        self.up = await asyncio.to_thread(lambda: self._start(TRACKER_PORT=port))


_Failure = Callable[[House], Awaitable[None]]
FAILURES: dict[str, _Failure] = {
    "one edge": lambda house: house.kill("tracker edge --slot 0"),
    "every edge": lambda house: house.kill("tracker edge"),
    "the stream": lambda house: house.kill("valkey-server"),
    "a stalled stream": lambda house: house.stall("valkey-server"),
    "the writer": lambda house: house.kill("tracker worker"),
    "Postgres": lambda house: house.kill("postgres"),
    "the API": lambda house: house.kill("tracker api"),
    "stream, Postgres and edges": lambda house: house.kill("valkey-server", "postgres", "tracker edge"),
    "the supervisor": lambda house: house.kill_supervisor(),
}
COVERED = {"one edge", "the stream", "a stalled stream", "the writer", "Postgres", "the API"}
"""Failures with an edge left to answer."""


async def run(data_dir: Path, seed: int) -> tuple[Load, dict[str, float]]:
    """Run the scenario and check it. Returns the visitors, and the longest pause by failure, in seconds.

    Raises:
        AssertionError: a promise was not kept.
    """
    house = await asyncio.to_thread(House, data_dir)
    try:
        settings = resolve(Settings(data_dir=data_dir))
        await _run_sql(settings, OFFERS)
        load, pauses = await _fail_under_load(house, random.Random(seed))
        await _drained(settings)
        assert settings.postgres_dsn
        await check_stored(settings.postgres_dsn, load)
        environ = os.environ | {"TRACKER_DATA_DIR": str(data_dir)}
        await asyncio.to_thread(check_books, environ)
    finally:
        await asyncio.to_thread(house.up.end)
    return load, pauses


async def _fail_under_load(house: House, lot: random.Random) -> tuple[Load, dict[str, float]]:
    """Failures one by one, each while clicks flow."""
    pauses = {}
    async with asyncio.timeout(2 * PATIENCE), Load([house.up.port], *LINKS) as load:
        for name in lot.sample(list(FAILURES), len(FAILURES)):
            await load.answers(lot.randint(100, 600))
            load.begin_watch()
            await FAILURES[name](house)
            await load.answers(100)
            await asyncio.sleep(lot.uniform(0.3, 0.8))
            pauses[name] = load.longest_pause
        await load.answers(500)
    return load, pauses


async def _drained(settings: Settings) -> None:
    """Check that all recorded clicks are stored and none is a dead letter."""
    assert settings.redis_url
    async with Reader(settings.redis_url, slot=9) as reader:
        begun = monotonic()
        while (spools := list(settings.data_dir.glob("spool/*.spool"))) or await reader.waiting():
            await asyncio.sleep(0.05)
            if monotonic() > begun + PATIENCE:
                logs = [log.read_text()[-4000:] for log in sorted(settings.data_dir.parent.glob("up-*.log"))]
                raise AssertionError(f"{await reader.waiting()} still on the stream, {spools}", *logs)
    assert await dead_letters(settings) == []


async def check_stored(dsn: str, load: Load) -> None:
    """Check that each answer is stored once, as it was given, and that the counts agree."""
    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetch("SELECT aff_sub, redirected_link FROM click")
        stored = {row["aff_sub"]: row["redirected_link"] for row in rows}
        assert load.unexpected == []
        assert [sub for sub, times in Counter(row["aff_sub"] for row in rows).items() if times > 1] == []
        wrong = {
            sub: (told, stored.get(sub)) for sub, told in load.answered.items() if told != stored.get(sub)
        }
        assert wrong == {}, f"{len(wrong)} answered otherwise than stored: {dict(list(wrong.items())[:5])}"
        assert await connection.fetch(_COUNTS) == await connection.fetch(_RECOUNT)
        assert await connection.fetchval(_INCONSISTENT) == 0
        assert await connection.fetchval(_UNIQUE_TWICE) == 0
    finally:
        await connection.close()


def check_books(environ: Mapping[str, str]) -> None:
    """Check that the ledger of these settings balances."""
    for command in (["ledger"], ["rebuild-stats", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "tracker", *command],
            env=environ,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)


async def _run_sql(settings: Settings, statements: str) -> None:
    assert settings.postgres_dsn
    connection = await asyncpg.connect(settings.postgres_dsn)
    await connection.execute(statements)
    await connection.close()


def main() -> int:
    """Run some seeds and print a line for each. Returns 1 if a promise was broken."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos.scenario", description="Kill every part under load, and compare."
    )
    parser.add_argument("--seeds", type=int, default=10, metavar="N", help="how many (10)")
    parser.add_argument("--first", type=int, default=1, metavar="SEED", help="the first one (1)")
    arguments = parser.parse_args()
    broken = False
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        with tempfile.TemporaryDirectory(prefix="tracker-chaos-") as directory:
            Path(directory).chmod(0o755)
            load, pauses = asyncio.run(run(Path(directory) / "var", seed))
        too_long = {name for name in COVERED if pauses[name] > MOST_PAUSE_SECONDS}
        broken |= bool(too_long)
        told = ", ".join(
            f"{name} {pause:.2f}{' TOO LONG' * (name in too_long)}" for name, pause in pauses.items()
        )
        print(
            f"seed {seed}: {load.redirected} redirected, {len(load.answered) - load.redirected} sent away,"
            f" {load.unanswered} cut off, {load.refused} refused; all stored once; pauses in s: {told}",
            flush=True,
        )
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
