"""The sockets that systemd passes, and what it is told. Its end is a real socket."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tracker.errors import CannotStartError
from tracker.processes import systemd
from tracker.processes.systemd import ServiceManager


@pytest.fixture
def passed(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A listening socket in the place of systemd's first one. A manager takes it over."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        copy = os.dup(listening.fileno())
        monkeypatch.setattr(systemd, "_FIRST_FD", copy)
        yield listening


def passing(*names: str, pid: int | None = None, count: int = 1) -> ServiceManager:
    variables = {"LISTEN_PID": str(pid or os.getpid()), "LISTEN_FDS": str(count)}
    return ServiceManager(variables | {"LISTEN_FDNAMES": ":".join(names)})


def test_passed_socket_is_served_by_its_name(passed: socket.socket) -> None:
    port = passed.getsockname()[1]
    manager = passing("links")
    assert manager.socket("api", "TRACKER_API_PORT", 1) is None
    with pytest.raises(CannotStartError, match="socket 'links': set FileDescriptorName=api"):
        manager.check_rest("api")
    listening = manager.socket("links", "TRACKER_PORT", port)
    assert listening is not None
    with listening:
        assert listening.getsockname() == passed.getsockname()
        assert not listening.get_inheritable()
    manager.check_rest("links")


def test_passed_socket_of_another_port_is_refused(passed: socket.socket) -> None:
    port = passed.getsockname()[1]
    with pytest.raises(
        CannotStartError, match=f"TRACKER_PORT: it is 8000, but systemd listens on port {port}"
    ):
        passing("links").socket("links", "TRACKER_PORT", 8000)


def test_sockets_for_another_process_are_left_alone(passed: socket.socket) -> None:
    assert passing("links", pid=1).socket("links", "TRACKER_PORT", 8000) is None
    os.close(systemd._FIRST_FD)


@pytest.mark.parametrize("kind", [socket.AF_UNIX, socket.AF_INET])
def test_socket_that_takes_no_visitors_is_refused(kind: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systemd, "_FIRST_FD", socket.socket(kind).detach())
    with pytest.raises(CannotStartError, match="'links': it needs ListenStream= with a TCP port"):
        passing("links")


def test_file_that_is_no_socket_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with open(os.devnull) as file:
        monkeypatch.setattr(systemd, "_FIRST_FD", os.dup(file.fileno()))
        with pytest.raises(CannotStartError, match=r"'links' as file .*: Socket operation on non-socket"):
            passing("links")


def test_watchdog_hears_of_a_loop_that_runs(tmp_path: Path) -> None:
    async def run(variables: dict[str, str]) -> None:
        async with ServiceManager(variables).told():
            await asyncio.sleep(0.05)

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as hearing:
        hearing.bind(str(tmp_path / "notify"))
        hearing.setblocking(False)
        own = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "30000000"}
        asyncio.run(run(own))
        assert [hearing.recv(100), hearing.recv(100)] == [b"READY=1", b"WATCHDOG=1"]
        asyncio.run(run(own | {"WATCHDOG_PID": "1"}))
        assert hearing.recv(100) == b"READY=1"
        with pytest.raises(BlockingIOError):
            hearing.recv(100)


def test_manager_that_is_gone_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "gone")}).report("READY=1")
    assert "systemd cannot be told READY=1" in caplog.text
    ServiceManager({}).report("READY=1")
    assert len(caplog.records) == 1
