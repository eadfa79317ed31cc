"""`tracker up`: started, used, hurt and stopped as an operator would."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.conftest import Furnish
from tests.e2e.rights import ORDINARY, wrong_rights
from tests.e2e.running import (
    PATIENCE,
    Up,
    clicks_of,
    command_line,
    free_port,
    is_anything_left,
    up,
    wait_until,
)
from tests.integration.people import HOME, PASSWORD, people_of
from tracker.people.sign_in import LinkIsOverError
from tracker.processes.engines.engine import postgres_dsn
from tracker.settings import Settings

CLICKS = "/backend/open-api/v1/users/clicks"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@pytest.fixture(scope="module")
def running(furnish: Furnish, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    data_dir = tmp_path_factory.mktemp("running") / "var"
    data_dir.mkdir()
    data_dir.chmod(0o777)  # an operator made it
    with up(furnish(data_dir), "--edges", "2", umask=0) as tracker:
        yield tracker


@pytest.mark.parametrize(
    ("signals", "umask", "account"),
    [
        ((signal.SIGTERM,), 0o077, ()),
        ((signal.SIGINT, signal.SIGINT, signal.SIGTERM), 0, ORDINARY),
    ],
    ids=["sigterm", "impatient-ctrl-c-of-an-ordinary-user"],
)
def test_click_is_read_back_and_still_there_after_a_restart(
    tmp_path: Path, signals: tuple[signal.Signals, ...], umask: int, account: tuple[str, ...]
) -> None:
    with up(tmp_path / "var", umask=umask, account=account) as first:
        response, _ = first.get(first.link)
        assert response.status == 302
        assert wrong_rights_after_an_outage(first) == []
        assert first.end(*signals) == 0  # requests under way are finished
        assert not is_anything_left(first.data_dir)
    with up(tmp_path / "var", umask=umask, account=account) as second:
        click = clicks_of(second, "", 2)[0]
        assert click["hash"] in (response.getheader("location") or "")
        assert click["redirected_link"] == response.getheader("location")
        assert first.token in first.output
        assert first.token not in second.output
        shown = re.search(r"curl -H (.*) '(http.*)'", second.output)
        assert shown
        words = ["sh", "-c", f"printf %s {shown[1]}"]
        assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == (
            f"Authorization: Bearer {first.token}"
        )


def wrong_rights_after_an_outage(tracker: Up) -> list[str]:
    """As wrong_rights, while the spool has a click."""
    valkey = tracker.child("valkey-server")
    os.kill(valkey, signal.SIGSTOP)
    try:
        assert tracker.get(tracker.link)[0].status == 302
        return wrong_rights(tracker)
    finally:
        os.kill(valkey, signal.SIGCONT)


def test_files_are_closed_to_others_with_any_umask(running: Up) -> None:
    assert wrong_rights_after_an_outage(running) == []


def test_simultaneous_first_clicks_over_edge_processes_are_one_unique(
    furnish: Furnish, tmp_path: Path
) -> None:
    options, variables = ("--edges", "3"), {"TRACKER_APPEND_TIMEOUT_MS": "30000", "TRACKER_PARTITIONS": "2"}
    agent = {"User-Agent": "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/141.0.0.0 Safari/537.36"}

    def follow(tracker: Up, number: int) -> None:
        with ThreadPoolExecutor(60) as visitors:
            answers = visitors.map(lambda _: tracker.get(tracker.link, **agent)[0].status, range(number))
            assert set(answers) == {302}

    with up(furnish(tmp_path / "var"), *options, **variables) as tracker:
        follow(tracker, 300)
    with up(tmp_path / "var", *options, **variables) as tracker:
        follow(tracker, 30)
        clicks = clicks_of(tracker, "", 330)
    (first,) = [click for click in clicks if click["is_unique"]]
    assert {click["group_hash"] for click in clicks} == {first["hash"]}


def test_command_lines_name_their_part(running: Up) -> None:
    roles = sorted(line.partition(" -m ")[2].strip() for line in map(command_line, running.children()))
    fds = [word for line in roles for word in line.split()[-1:]]
    assert [role.partition(" --fd")[0] for role in roles if role] == [
        "tracker api",
        "tracker edge --slot 0",
        "tracker edge --slot 1",
        "tracker metrics",
        "tracker worker --slot 0",
    ], fds
    response, _ = running.get("/docs", running.api_port)
    assert response.status == 200


@pytest.mark.parametrize("name", ["valkey-server", "postgres", "edge --slot 0", "tracker api", "worker"])
def test_part_that_is_killed_comes_back(running: Up, name: str) -> None:
    before = {click["hash"] for click in running.clicks()}
    killed = running.child(name)
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: any(name in command_line(pid) for pid in running.children() if pid != killed))
    response = wait_until(lambda: _accepted(running))
    wait_until(lambda: any(click["redirected_link"] == response for click in _clicks(running)))
    assert before <= {click["hash"] for click in running.clicks()}


def test_visitors_wait_while_the_only_edge_is_away(furnish: Furnish, tmp_path: Path) -> None:
    with up(furnish(tmp_path / "var")) as tracker:
        os.kill(tracker.child("tracker edge"), signal.SIGKILL)
        response, _ = tracker.get(tracker.link)
        assert response.status == 302


def test_start_works_after_a_killed_supervisor(furnish: Furnish, tmp_path: Path) -> None:
    with up(furnish(tmp_path / "var")) as first:
        response, _ = first.get(first.link)
        first.end(signal.SIGKILL)
    with up(tmp_path / "var", TRACKER_PORT=str(first.port)) as second:
        click = wait_until(second.clicks)[0]
        assert click["redirected_link"] == response.getheader("location")
        assert second.end() == 0
        assert not is_anything_left(second.data_dir)


def test_revoked_token_of_the_demo_does_not_come_back(furnish: Furnish, tmp_path: Path) -> None:
    with up(furnish(tmp_path / "var")) as first:
        token = first.token
        in_database(first, "UPDATE token SET revoked_at = now()")
    with up(tmp_path / "var") as second:
        assert second.get(second.link)[0].status == 302
        assert "tracker token create --scope clicks:read" in second.output
        assert "demo-token" not in second.output
        answer, _ = second.get(CLICKS, second.api_port, Authorization=f"Bearer {token}")
        assert answer.status == 401
        assert in_database(second, "SELECT count(*) FROM token") == [(1,)]


def test_tracker_without_demo_is_empty_and_gets_none_beside_own_rows(
    furnish: Furnish, tmp_path: Path
) -> None:
    with up(furnish(tmp_path / "var"), "--no-demo") as first:
        response, _ = first.get("/offer/3?affiliate_id=513")
        assert response.status == 404
        assert "trk_" not in first.output
        in_database(first, "INSERT INTO advertiser (name) VALUES ('mine')")
        over = first.admin_link
    with up(tmp_path / "var", "--demo") as second:
        assert "trk_" not in second.output
        assert "tracker: no demo data is loaded: the database is not empty" in second.output
        assert second.get("/offer/3?affiliate_id=513")[0].status == 404
        assert in_database(second, "SELECT name FROM advertiser") == [("mine",)]
        dsn = postgres_dsn(second.data_dir)
        with pytest.raises(LinkIsOverError):  # of an earlier start
            sign_up(dsn, over)
        sign_up(dsn, second.admin_link)


def sign_up(dsn: str, secret: str) -> None:
    """Become the first admin by a link."""

    async def run() -> None:
        async with people_of(Settings(postgres_dsn=dsn)) as people:
            await people.sign_in.with_link(secret, PASSWORD, HOME, email="jane@net.example")

    asyncio.run(run())


async def execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def test_database_by_dsn_gets_the_demo_only_on_request(database: Settings, tmp_path: Path) -> None:
    variables = {"TRACKER_POSTGRES_DSN": database.postgres_dsn or ""}
    with up(tmp_path / "var", **variables) as tracker:
        assert "trk_" not in tracker.output
        assert tracker.get("/offer/3?affiliate_id=513")[0].status == 404
        sign_up(database.postgres_dsn or "", tracker.admin_link)
    asyncio.run(execute(database.postgres_dsn or "", "DELETE FROM user_account"))
    with up(tmp_path / "var", "--demo", **variables) as tracker:
        assert tracker.admin_link == ""  # a user has existed
        assert "tracker users invite" in tracker.output
        assert tracker.get(tracker.link)[0].status == 302
        assert tracker.get(CLICKS, tracker.api_port, Authorization=f"Bearer {tracker.token}")[0].status == 200


def test_metrics_show_every_process_once_on_a_port_of_their_own(running: Up) -> None:
    clicks = 40
    before = _counted(running)
    for _ in range(clicks):
        assert running.get(running.link)[0].status == 302
    text = _metrics(running)
    assert _shown(running) == [f"api-{running.api_port}", "edge-0", "edge-1", "worker-0"]
    assert _counted(running) == before + clicks
    series = [line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#")]
    assert len(series) == len(set(series))
    described = re.findall("# TYPE (.+) ", text)
    assert len(described) == len(set(described))
    for path in ("/metrics", "/hosts/serves", "/hosts/serves?domain=go.example"):
        for port in (running.port, running.api_port):
            assert running.get(path, port)[0].status == 404, (path, port)
    assert running.get("/hosts/serves?domain=go.example", running.metrics_port)[0].status == 404


def test_metrics_are_back_after_any_part_was_killed(running: Up) -> None:
    everything = _shown(running)
    for part in ("tracker edge --slot 1", "tracker api", "tracker worker", "tracker metrics"):
        os.kill(running.child(part), signal.SIGKILL)
    wait_until(lambda: _shown(running) == everything)


FLOODS = [
    (b"GET /metrics HTTP/1.1\r\nHost: t\r\n" + b"X: y\r\n" * 12_000, 431),
    (b"GET /metrics HTTP/1.1\r\nHost: t\r\nConnection: close\r\nX: \x00\r\n\r\n", 400),
    (b"POST /metrics HTTP/1.1\r\nHost: t\r\nConnection: close\r\nContent-Length: 2\r\n\r\nab", 405),
    (b"GET /metrics HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n", 200),
]


def test_metrics_port_keeps_the_bounds_of_the_others(running: Up) -> None:
    for request, status in FLOODS:
        with socket.create_connection(("127.0.0.1", running.metrics_port), PATIENCE) as connection:
            connection.sendall(request)
            assert connection.makefile("rb").readline().split()[1] == b"%d" % status, request[:80]


@pytest.mark.parametrize("variable", ["TRACKER_PORT", "TRACKER_API_PORT", "TRACKER_METRICS_PORT"])
def test_port_in_use_is_one_line(tmp_path: Path, variable: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        tracker = Up(tmp_path / "var", **{variable: str(port)})
        assert tracker.process.wait(60) == 1
    assert tracker.output == (
        f"tracker: {variable}: port {port} on 127.0.0.1 is in use: set {variable} to another\n"
    )
    assert not is_anything_left(tracker.data_dir)


def test_data_directory_in_use_is_one_line(running: Up, tmp_path: Path) -> None:
    second = Up(running.data_dir, log=tmp_path / "log")
    assert second.process.wait(60) == 1
    assert second.output == (
        f"tracker: TRACKER_DATA_DIR: {running.data_dir} is in use"
        f" by another tracker (pid {running.process.pid})\n"
    )
    assert running.get("/health/ready")[0].status == 200


@pytest.mark.parametrize(
    ("variables", "code", "line"),
    [
        ({"TRACKER_PROT": "1"}, 78, "tracker: unknown setting TRACKER_PROT. Known settings: "),
        ({"TRACKER_MAX_WAITING": "many"}, 78, "tracker: TRACKER_MAX_WAITING: 'many' is not a whole number"),
        ({"TRACKER_HOST": "256.0.0.1"}, 1, "tracker: TRACKER_HOST: '256.0.0.1': "),
        ({"TRACKER_METRICS_HOST": "256.0.0.1"}, 1, "tracker: TRACKER_METRICS_HOST: '256.0.0.1': "),
        ({"TRACKER_DATA_DIR": "/dev/null/var"}, 1, "tracker: TRACKER_DATA_DIR: /dev/null/var cannot be used"),
        (
            {"TRACKER_POSTGRES_DSN": f"postgresql://nobody@127.0.0.1:{free_port()}/x"},
            1,
            "tracker: TRACKER_POSTGRES_DSN: ",
        ),
    ],
    ids=["unknown", "unreadable", "host", "metrics-host", "data-dir", "postgres"],
)
def test_impossible_settings_are_refused_in_one_line(
    tmp_path: Path, variables: dict[str, str], code: int, line: str
) -> None:
    tracker = Up(tmp_path / "var", log=tmp_path / "log", **variables)
    assert tracker.process.wait(60) == code
    assert tracker.output.startswith(line)
    assert tracker.output.count("\n") == 1


def in_database(tracker: Up, statement: str) -> list[tuple[Any, ...]]:
    async def run() -> list[tuple[Any, ...]]:
        connection = await asyncpg.connect(postgres_dsn(tracker.data_dir))
        try:
            return [tuple(row) for row in await connection.fetch(statement)]
        finally:
            await connection.close()

    return asyncio.run(run())


def _metrics(tracker: Up) -> str:
    response, body = tracker.get("/metrics", tracker.metrics_port)
    assert response.status == 200
    return body.decode()


def _shown(tracker: Up) -> list[str]:
    """The processes in the metrics. Empty while the listener is away."""
    try:
        return re.findall(r'tracker_process_up{process="(.+?)"} 1.0\n', _metrics(tracker))
    except ConnectionError:
        return []


def _counted(tracker: Up) -> float:
    """The clicks that all edges have counted."""
    return sum(map(float, re.findall(r"(?m)^tracker_clicks_recorded_total{.+} (\S+)$", _metrics(tracker))))


def _accepted(tracker: Up) -> str | None:
    """Follow the link. Returns its target, or None if the click was not recorded."""
    try:
        response, _ = tracker.get(tracker.link)
    except ConnectionError:
        return None
    return response.getheader("location") if response.status == 302 else None


def _clicks(tracker: Up) -> list[dict[str, object]]:
    try:
        return tracker.clicks()
    except (AssertionError, ConnectionError):  # away for a moment
        return []
