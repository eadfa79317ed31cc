"""Two edges with one slot: Complete-Until waits for both, and log and doctor name them."""

from __future__ import annotations

import asyncio
import logging
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
from httpx import AsyncClient

from tests.e2e.running import free_port
from tests.environ import clean_environ
from tests.integration.edge_client import PATIENCE, edge_of
from tracker.domain.click_id import millis_of
from tracker.edge.record import identity, slot_watch
from tracker.edge.record.identity import EdgeId
from tracker.edge.record.spool import segments
from tracker.ops import ledger
from tracker.ops.doctor import report
from tracker.settings import Settings
from tracker.store.catalogue.demo import load_demo
from tracker.stream.client import open_client
from tracker.stream.ledger import Heartbeat, StreamLedger
from workers import click_writer

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]

LINK = "/offer/3?affiliate_id=513"


class Cable:
    """A connection of one machine to the stream server that can be cut."""

    def __init__(self, url: str, path: Path) -> None:
        self._server = url.removeprefix("unix://").partition("?")[0]
        self._path = path
        self._listening: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.url = f"unix://{path}"

    async def mend(self) -> None:
        self._listening = await asyncio.start_unix_server(self._connect, self._path)

    async def cut(self) -> None:
        if self._listening:
            self._listening.close()
        self._path.unlink(missing_ok=True)
        for writer in [*self._writers]:
            writer.transport.abort()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            there, here = await asyncio.open_unix_connection(self._server)
            self._writers |= {writer, here}
            await asyncio.gather(_pipe(reader, here), _pipe(there, writer))


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()


async def until(happened: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await happened():
            await asyncio.sleep(0.05)


async def complete_until(settings: Settings) -> int:
    assert settings.redis_url
    async with StreamLedger(settings.redis_url) as stream:
        return await ledger.complete_until(stream, settings.data_dir) or 0


async def click(client: AsyncClient) -> int:
    """Follow a link. Returns the millisecond of its hash."""
    answer = await client.get(LINK)
    assert answer.status_code == 302, answer.text
    return millis_of(answer.headers["location"].partition("=")[2][:32])


async def ready(client: AsyncClient) -> int:
    return (await client.get("/health/ready")).status_code


class Machines(NamedTuple):
    """Edge 0 on this machine, and edge 0 on another one."""

    first: AsyncClient
    second: AsyncClient
    other: Settings
    cable: Cable  # of the other machine


@asynccontextmanager
async def two_machines(database: Settings, *, starts_cut_off: bool = False) -> AsyncIterator[Machines]:
    assert database.postgres_dsn
    assert database.redis_url
    await load_demo(database.postgres_dsn)
    cable = Cable(database.redis_url, database.data_dir / "cable.sock")
    other = replace(database, data_dir=database.data_dir / "other", redis_url=cable.url)
    if not starts_cut_off:
        await cable.mend()
    async with edge_of(database, demo=False) as first, edge_of(other, demo=False, wait=False) as second:
        try:
            yield Machines(first, second, other, cable)
        finally:
            await cable.cut()


async def test_complete_until_waits_for_the_edge_that_is_cut_off(
    database: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    async with two_machines(database) as (first, second, other, cable):
        await until(lambda: _is(ready(second), 200))
        await click(second)
        await cable.cut()
        spooled = await click(second)
        assert len(segments(other.data_dir / "spool")) == 1
        for _ in range(30):  # three seconds, in which the first edge sends thirty heartbeats or more
            later = await click(first)
            await click_writer.run(database, burst=True)
            assert await complete_until(database) <= spooled < later
            await asyncio.sleep(0.1)
        (word,) = [edge for edge in (await _words(database)) if edge.spooled or edge.low_watermark <= spooled]
        assert word.run == identity.read(other.data_dir, 0).run
        await cable.mend()

        async def has_passed() -> bool:
            await click_writer.run(database, burst=True)
            return await complete_until(database) > spooled

        await until(has_passed)
        assert segments(other.data_dir / "spool") == []

        async def has_complained() -> bool:
            return "another edge has this slot" in caplog.text

        await until(has_complained)


async def test_edges_started_without_the_stream_leave_one_ready(database: Settings) -> None:
    assert database.postgres_dsn
    await load_demo(database.postgres_dsn)
    cable = Cable(str(database.redis_url), database.data_dir / "cable.sock")
    first, second = (
        replace(database, data_dir=database.data_dir / name, redis_url=cable.url) for name in ("a", "b")
    )
    async with edge_of(first, demo=False, wait=False) as a, edge_of(second, demo=False, wait=False) as b:
        await asyncio.gather(click(a), click(b))
        await cable.mend()

        async def are_judged() -> bool:
            return 503 in {await ready(a), await ready(b)} and await _both_heard(database)

        await until(are_judged)
        await asyncio.sleep(2 * slot_watch.LOOK_SECONDS)  # both have looked
        assert {await ready(a), await ready(b)} == {200, 503}
        await cable.cut()


async def _both_heard(settings: Settings) -> bool:
    return len(await _words(settings)) == 2


async def _is(answer: Awaitable[int], wanted: int) -> bool:
    return await answer == wanted


async def _words(settings: Settings) -> list[Heartbeat]:
    assert settings.redis_url
    async with StreamLedger(settings.redis_url) as stream:
        return (await stream.heartbeats())[1]


@pytest.mark.parametrize("starts_cut_off", [False, True])
async def test_second_edge_is_not_ready_and_log_and_doctor_name_it(
    database: Settings, caplog: pytest.LogCaptureFixture, starts_cut_off: bool
) -> None:
    async with two_machines(database, starts_cut_off=starts_cut_off) as (first, second, other, cable):
        if starts_cut_off:
            spooled = await click(second)  # it serves without a stream
            assert len(segments(other.data_dir / "spool")) == 1
            await cable.mend()

        async def is_second() -> bool:
            return "another edge" in (await second.get("/health/ready")).text

        await until(is_second)
        assert await ready(second) == 503
        assert "another edge has this slot" in caplog.text
        assert await ready(first) == 200  # traffic goes on
        errors = [record for record in caplog.records if record.levelno == logging.ERROR]
        runs = {identity.read(settings.data_dir, 0).run for settings in (database, other)}
        assert len(runs) == 2
        assert all(run in record.getMessage() for record in errors for run in runs)
        found = [
            finding
            for finding in await report.examine(database, "ledger")
            if "have the slot 0" in finding.text
        ]
        assert [finding.level for finding in found] == ["fail"]
        assert all(run in found[0].text for run in runs)
        if starts_cut_off:

            async def has_passed() -> bool:
                await click_writer.run(database, burst=True)
                return await complete_until(database) > spooled

            await until(has_passed)


async def test_restarted_edge_is_not_a_second_one(
    database: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        async with edge_of(database) as client:
            await click(client)
            assert len(await _words(database)) == 1
    await click_writer.run(database, burst=True)
    assert await _words(database) == []
    assert "another edge" not in caplog.text


def _catalogue(data_dir: Path) -> None:
    (data_dir / "catalogue").mkdir()
    (data_dir / "catalogue" / "0.ndjson").touch()


def _segment(data_dir: Path) -> None:
    (data_dir / "spool").mkdir()
    (data_dir / "spool" / f"{1720446000000:012x}-0-0-{'a' * 16}.spool").touch()


@pytest.mark.parametrize("left_behind", [_catalogue, _segment])
async def test_heartbeat_of_0_1_is_withdrawn(database: Settings, left_behind: Callable[[Path], None]) -> None:
    left_behind(database.data_dir)
    identity.read(database.data_dir, 0)  # the second start knows of the killed first one
    async with open_client(str(database.redis_url)) as client:
        await client.hset("edges:{0}", "0", "1720446000000 1720446000000 {}")
        await client.hset("edges:{0}", "1", "1720446000000 1720446000000 {}")
        async with edge_of(database):

            async def is_taken_back() -> bool:
                return not await client.hexists("edges:{0}", "0")

            await until(is_taken_back)
            assert await client.hexists("edges:{0}", "1"), "it is another edge's"


async def test_heartbeat_of_0_1_stays_if_its_spool_is_elsewhere(database: Settings) -> None:
    assert database.redis_url
    async with open_client(database.redis_url) as client:
        await client.hset("edges:{0}", "0", "1720446000000 1720446000000 {}")
        watch = slot_watch.SlotWatch(database.redis_url, identity.read(database.data_dir, 0))
        await watch.look()
        await watch.look()
        await watch.close()
        assert await client.hexists("edges:{0}", "0")
    assert await complete_until(database) == 1720446000000


async def test_edge_of_the_version_before_is_forgotten_beside_a_newer_one(database: Settings) -> None:
    async with open_client(str(database.redis_url)) as client:
        for field in ("3", f"3/{'a' * 16}"):
            await client.hset("edges:{0}", field, '1720446000000 1720446000000 {"1": 2}')
    with pytest.raises(LookupError, match=f"is one of 3/, 3/{'a' * 16}"):
        await ledger.forget_edge(database, "3")
    assert await ledger.forget_edge(database, "3/") == 2
    assert [word.run for word in await _words(database)] == ["a" * 16]


async def test_edge_of_two_is_forgotten_by_its_run_id(database: Settings) -> None:
    async with open_client(str(database.redis_url)) as client:
        for run in ("a" * 16, "b" * 16):
            await client.hset("edges:{0}", str(EdgeId(3, run)), '1720446000000 1720446000000 {"1": 2}')
    with pytest.raises(LookupError, match=f"is one of 3/{'a' * 16}, 3/{'b' * 16}"):
        await ledger.forget_edge(database, "3")
    assert await ledger.forget_edge(database, f"3/{'a' * 16}") == 2
    assert [word.run for word in await _words(database)] == ["b" * 16]
    assert await ledger.forget_edge(database, "3") == 2


def _copy(data_dir: Path, target: Path) -> None:
    shutil.copytree(data_dir, target, ignore=shutil.ignore_patterns("*.sock"))


async def test_complete_until_waits_for_the_edge_that_was_copied_while_it_was_cut_off(
    database: Settings,
) -> None:
    """A copy of its data directory, with its run id, is started on another machine."""
    assert database.postgres_dsn
    await load_demo(database.postgres_dsn)
    cable = Cable(str(database.redis_url), database.data_dir / "cable.sock")
    original = replace(database, data_dir=database.data_dir / "original", redis_url=cable.url)
    copy = replace(database, data_dir=database.data_dir / "copy")
    await cable.mend()
    async with edge_of(original, demo=False) as first:
        await click(first)
        await cable.cut()
        _copy(original.data_dir, copy.data_dir)
        spooled = await click(first)
        async with edge_of(copy, demo=False) as second:
            for _ in range(10):
                later = await click(second)
                await click_writer.run(copy, burst=True)
                assert await complete_until(copy) <= spooled < later
                await asyncio.sleep(0.1)
            await cable.mend()

            async def has_passed() -> bool:
                await click_writer.run(copy, burst=True)
                return await complete_until(copy) > spooled

            await until(has_passed)


# As processes


def _edge(settings: Settings, data_dir: Path, *words: str, redis_url: str = "") -> subprocess.Popen[str]:
    clean = clean_environ()
    variables = {
        "TRACKER_REDIS_URL": redis_url or str(settings.redis_url),
        "TRACKER_POSTGRES_DSN": str(settings.postgres_dsn),
        "TRACKER_DATA_DIR": str(data_dir),
        "TRACKER_PORT": str(free_port()),
    }
    command = [sys.executable, "-m", "tracker", "edge", *words]
    return subprocess.Popen(command, env=clean | variables, stderr=subprocess.PIPE, text=True)


async def _until_heartbeat(database: Settings, edge: subprocess.Popen[str]) -> None:
    async def is_there() -> bool:
        assert edge.poll() is None
        return bool(await _words(database))

    await until(is_there)


async def _refused(edge: subprocess.Popen[str]) -> str:
    said = await asyncio.to_thread(edge.communicate, timeout=60)
    assert edge.returncode == 1, said
    (line,) = said[1].splitlines()
    return line


async def test_second_edge_does_not_start(database: Settings, tmp_path: Path) -> None:
    assert database.postgres_dsn
    await load_demo(database.postgres_dsn)
    here, there = tmp_path / "here", tmp_path / "there"
    running = [_edge(database, here)]
    try:
        await _until_heartbeat(database, running[0])
        line = await _refused(_edge(database, there))
        assert line.startswith(
            "tracker: edge 0 runs already, on another machine or with another TRACKER_DATA_DIR "
            f"(run {identity.read(here, 0).run})"
        ), line
        line = await _refused(_edge(database, here))
        assert line.startswith(f"tracker: edge 0 runs in {here} already: give this one another --slot"), line
        running.append(_edge(database, here, "--slot", "1"))

        async def are_two() -> bool:
            assert running[1].poll() is None
            return {word.slot for word in await _words(database)} == {"0", "1"}

        await until(are_two)
        running[0].kill()
        running[0].wait()
        running.append(_edge(database, there))  # the first edge is dead and sends no heartbeat

        async def runs_there() -> bool:
            assert running[2].poll() is None
            return identity.read(there, 0).run in {word.run for word in await _words(database)}

        await until(runs_there)
        assert {word.run for word in await _words(database) if word.slot == "0"} == {
            identity.read(here, 0).run,  # whose spool may hold clicks
            identity.read(there, 0).run,
        }
    finally:
        for edge in running:
            edge.kill()
            edge.communicate()


async def test_edge_of_a_copied_data_directory_counts_as_another(database: Settings, tmp_path: Path) -> None:
    assert database.postgres_dsn
    await load_demo(database.postgres_dsn)
    here, there = tmp_path / "here", tmp_path / "there"
    running = [_edge(database, here)]
    try:
        await _until_heartbeat(database, running[0])
        _copy(here, there)
        first = identity.read(here, 0).run
        edge = _edge(database, there)
        said = await asyncio.to_thread(edge.communicate, timeout=60)
        assert edge.returncode == 1, said
        warning, line = said[1].splitlines()
        second = identity.read(there, 0).run
        assert first != second
        assert f"{there} is a copy of another edge's data directory (run {first})" in warning
        assert f"gets the new run id {second}" in warning
        assert warning.endswith(f"tracker ledger --forget-edge 0/{first}")
        assert line.startswith("tracker: edge 0 runs already"), line
        running[0].kill()
        running[0].wait()
        before = await _heard(database, first)
        running.append(_edge(database, here))  # its own recent heartbeat does not lock it out

        async def goes_on() -> bool:
            assert running[1].poll() is None
            return await _heard(database, first) > before

        await until(goes_on)
        assert {word.run for word in await _words(database)} == {first}
    finally:
        for edge in running:
            edge.kill()
            edge.communicate()


async def _heard(settings: Settings, run: str) -> int:
    return max(word.sent_at for word in await _words(settings) if word.run == run)


async def test_edge_starts_without_a_stream(database: Settings, tmp_path: Path) -> None:
    assert database.postgres_dsn
    await load_demo(database.postgres_dsn)
    edge = _edge(database, tmp_path / "here", redis_url=f"unix://{tmp_path}/nobody.sock")
    try:

        async def is_there() -> bool:
            assert edge.poll() is None
            return (tmp_path / "here" / "edges" / "0.run").exists()

        await until(is_there)
        await asyncio.sleep(slot_watch.LOOK_SECONDS)
        assert edge.poll() is None
    finally:
        edge.kill()
        edge.communicate()


def test_run_ids_stay_in_the_data_directory(tmp_path: Path) -> None:
    first = identity.read(tmp_path, 0)
    assert identity.read(tmp_path, 0) == first
    assert identity.read(tmp_path, 1).run != first.run
    shutil.copytree(tmp_path / "edges", tmp_path / "copy" / "edges")
    assert identity.read(tmp_path / "copy", 0).run != first.run
    assert identity.read(tmp_path / "copy", 0) == identity.read(tmp_path / "copy", 0)
    (tmp_path / "edges" / "0.run").write_text(first.run)  # as the version before and backups write it
    for _ in range(2):
        assert identity.read(tmp_path, 0) == first
    (tmp_path / "edges" / "0.run").write_text("damaged, and longer than any that was ever written" * 4)
    second = identity.read(tmp_path, 0)
    assert second.run != first.run
    assert identity.read(tmp_path, 0) == second
    with identity.held(tmp_path, 0) as held:
        assert held == identity.read(tmp_path, 0)
    unwritable = tmp_path / "file"
    unwritable.write_text("")
    with identity.held(unwritable, 0) as held:  # no directory: it starts nevertheless
        assert held.run != identity.read(unwritable, 0).run
