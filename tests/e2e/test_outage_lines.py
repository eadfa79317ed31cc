"""The log of an outage: a tracker under load without its engines and its spool's disk."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from itertools import count, repeat
from pathlib import Path
from time import monotonic
from typing import NamedTuple, Self

import pytest
from httpx import AsyncClient, HTTPError

from tests.conftest import Furnish
from tests.e2e.running import PATIENCE, free_port
from tests.environ import clean_environ
from tests.integration.engines import House, until
from tracker.store.catalogue.demo import load_demo
from tracker.store.tokens import create_token

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]

ROLES = ("edge", "api", "worker")
CLICKS = "/backend/open-api/v1/users/clicks"
VISITORS, READERS = 16, 8
_LINE = re.compile(
    r"\S+Z \w+\[\d+\] (INFO|WARNING|ERROR) ([\w.]+): .*?"
    r"(?: \(([\d,]+) more like it left out\))?(?: \(request \w+\))?",
    re.DOTALL,
)


class Line(NamedTuple):
    level: str
    logger: str
    left_out: int


class Tracker:
    """The processes of a tracker without a supervisor, each with a log of its own."""

    def __init__(self, data_dir: Path) -> None:
        self.port = free_port()
        self.began = monotonic()
        self._data_dir = data_dir
        clean = clean_environ()
        self._env = clean | {"TRACKER_DATA_DIR": str(data_dir), "TRACKER_PORT": str(self.port)}

    def __enter__(self) -> Self:
        self._processes = [self._start(role) for role in ROLES]
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.wait(PATIENCE)

    def _start(self, role: str) -> subprocess.Popen[bytes]:
        with self._log(role).open("wb") as log:
            words = [sys.executable, "-m", "tracker", role]
            return subprocess.Popen(words, env=self._env, stdout=log, stderr=log)

    def _log(self, role: str) -> Path:
        return self._data_dir.with_name(f"{role}.log")

    def lines(self, role: str) -> list[Line]:
        """All lines. A line that is not a log record, as in a traceback, is an error."""
        matches = [(line, _LINE.fullmatch(line)) for line in self._log(role).read_text().splitlines()]
        strange = [line for line, match in matches if match is None]
        assert strange == []
        found = [match.groups() for _, match in matches if match]
        return [Line(level, logger, int((n or "0").replace(",", ""))) for level, logger, n in found]

    async def has_left_out(self, role: str, times: int) -> bool:
        return sum(line.left_out > 0 for line in self.lines(role)) >= times


class Asking:
    """Send requests of many clients. Returns the number refused."""

    def __init__(self, base_url: str, paths: Iterable[str], **headers: str) -> None:
        self.refused = 0
        self._client = AsyncClient(base_url=base_url, headers=headers, timeout=PATIENCE)
        self._paths = iter(paths)
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        await until(self._is_ready)
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.aclose()

    def begin(self, clients: int) -> None:
        self._tasks = [asyncio.create_task(self._ask()) for _ in range(clients)]

    async def _ask(self) -> None:
        while True:
            answer = await self._client.get(next(self._paths))
            self.refused += answer.status_code == 503
            await asyncio.sleep(0)

    async def _is_ready(self) -> bool:
        with suppress(HTTPError):
            return (await self._client.get("/health/ready")).status_code == 200
        return False


async def test_outage_writes_one_line_a_second_of_a_kind(furnish: Furnish, tmp_path: Path) -> None:
    async with House(furnish(tmp_path / "var")) as house:
        await load_demo(house.postgres.url)
        token = await create_token(house.postgres.url, ["clicks:read"])
        with Tracker(tmp_path / "var") as tracker:
            links = (f"/offer/3?affiliate_id=513&aff_sub={n}" for n in count())
            async with (
                Asking(f"http://127.0.0.1:{tracker.port}", links) as visitors,
                Asking(
                    f"http://127.0.0.1:{tracker.port + 1}", repeat(CLICKS), Authorization=f"Bearer {token}"
                ) as readers,
            ):
                shutil.rmtree(tmp_path / "var" / "spool", ignore_errors=True)
                (tmp_path / "var" / "spool").touch()  # a full disk
                visitors.begin(VISITORS)
                readers.begin(READERS)
                await asyncio.gather(house.valkey.stop(), house.postgres.stop())
                await until(lambda: tracker.has_left_out("edge", 4))
                await until(lambda: tracker.has_left_out("api", 4))
    seconds = monotonic() - tracker.began
    for role in ROLES:
        written = Counter((line.level, line.logger) for line in tracker.lines(role))
        assert max(written.values()) <= seconds + 1, (role, written)
    told = sum(
        1 + line.left_out for line in tracker.lines("api") if line.logger == "tracker.api.http.problems"
    )
    assert readers.refused <= told <= readers.refused + READERS, "each refusal is written or counted"
    assert visitors.refused > 100 * len(tracker.lines("edge")) / seconds
