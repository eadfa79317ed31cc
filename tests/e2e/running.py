"""A tracker as an operator runs it: `tracker up` in a process of its own."""

from __future__ import annotations

import fcntl
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

from tests.environ import clean_environ
from tests.integration.people import secret_of

PATIENCE = 60.0
"""Seconds to wait for an event before the test fails."""


def free_port() -> int:
    """The first of three free ports below those that the kernel gives to connections."""
    while True:
        port = random.randrange(10_000, 32_000)
        with socket.socket() as first, socket.socket() as second, socket.socket() as third:
            try:
                for number, each in enumerate((first, second, third)):
                    each.bind(("127.0.0.1", port + number))
            except OSError:
                continue
            return port


class Up:
    """One `tracker up` on free ports. Its output is kept."""

    def __init__(
        self,
        data_dir: Path,
        *options: str,
        log: Path | None = None,
        python: str = sys.executable,
        umask: int = -1,
        account: Sequence[str] = (),
        **variables: str,
    ) -> None:
        self.data_dir = data_dir
        self.port = int(variables.get("TRACKER_PORT") or free_port())
        self.api_port = int(variables.get("TRACKER_API_PORT") or self.port + 1)
        self.metrics_port = int(variables.get("TRACKER_METRICS_PORT") or self.port + 2)
        self._log = log or data_dir.with_name(f"{data_dir.name}-{self.port}.log")
        clean = clean_environ()
        own = {"TRACKER_DATA_DIR": str(data_dir), "TRACKER_PORT": str(self.port)}
        with self._log.open("wb") as output:
            self.process = subprocess.Popen(
                [*account, python, "-m", "tracker", "up", *options],
                env=clean | own | variables,
                umask=umask,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        return self._log.read_text()

    @property
    def link(self) -> str:
        """The path of the tracking link that it printed."""
        return re.search(rf"http://127\.0\.0\.1:{self.port}(/\S+)", self.output)[1]  # type: ignore[index]

    @property
    def admin_link(self) -> str:
        """The secret of the first admin's link that it printed. "" if it printed none."""
        printed = re.search(rf"First admin +http://127\.0\.0\.1:{self.api_port}(/\S+)", self.output)
        return secret_of(printed[1]) if printed else ""

    @property
    def token(self) -> str:
        """The demo's token, which is printed once."""
        printed = re.search(r"Bearer (trk_[\w-]+)", self.output)
        return printed[1] if printed else (self.data_dir / "demo-token").read_text().strip()

    def wait_ready(self) -> Up:
        wait_until(lambda: "tracker: ready" in self.output or self.process.poll() is not None)
        assert self.process.poll() is None, self.output
        return self

    def get(self, path: str, port: int | None = None, **headers: str) -> tuple[HTTPResponse, bytes]:
        connection = HTTPConnection("127.0.0.1", port or self.port, timeout=PATIENCE)
        try:
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            return response, response.read()
        finally:
            connection.close()

    def head_location(self, path: str) -> str:
        """The target of a link, without a click."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request("HEAD", path)
            return connection.getresponse().headers.get("location", "")
        finally:
            connection.close()

    def clicks(self, query: str = "") -> list[dict[str, Any]]:
        path = f"/backend/open-api/v1/users/clicks?{query}"
        response, body = self.get(path, self.api_port, Authorization=f"Bearer {self.token}")
        assert response.status == 200, body
        data: list[dict[str, Any]] = json.loads(body)["data"]
        return data

    def child(self, words: str) -> int:
        """The pid of the child with these words in its command line."""
        return self.children_with(words)[0]

    def children_with(self, words: str) -> list[int]:
        return [pid for pid in self.children() if words in command_line(pid)]

    def children(self) -> list[int]:
        return [
            int(pid)
            for task in Path(f"/proc/{self.process.pid}/task").iterdir()
            for pid in _children_of(task)
        ]

    def end(self, *signals: signal.Signals) -> int:
        for number in signals or (signal.SIGTERM,):
            self.process.send_signal(number)
            time.sleep(0.02)
        return self.process.wait(PATIENCE)


def _children_of(task: Path) -> list[str]:
    try:
        return (task / "children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):  # a thread that has just ended
        return []


@contextmanager
def up(
    data_dir: Path,
    *options: str,
    python: str = sys.executable,
    umask: int = -1,
    account: Sequence[str] = (),
    **variables: str,
) -> Iterator[Up]:
    """A ready tracker, stopped after the test. `account` is a command that runs another as a user."""
    tracker = Up(data_dir, *options, python=python, umask=umask, account=account, **variables)
    try:
        yield tracker.wait_ready()
    finally:
        if tracker.process.poll() is None:
            tracker.end()


def command(tracker: Up, *words: str, may_warn: bool = False) -> str:
    """The output of `tracker WORDS` on a running tracker."""
    done = subprocess.run(
        [sys.executable, "-m", "tracker", *words],
        env=os.environ | {"TRACKER_DATA_DIR": str(tracker.data_dir)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done
    assert may_warn or not done.stderr, done
    return done.stdout


def clicks_of(tracker: Up, query: str, number: int) -> list[dict[str, Any]]:
    """The matching clicks, oldest first, once there are `number` of them."""

    def fetch() -> list[dict[str, Any]] | None:
        found = tracker.clicks(f"sort=created_at&per_page=1000&{query}")
        return found if len(found) >= number else None

    found: list[dict[str, Any]] = wait_until(fetch)
    assert len(found) == number
    return found


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def is_anything_left(data_dir: Path) -> bool:
    """Whether a process of this data directory still runs. Each one holds the inherited lock."""
    with (data_dir / "children").open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def wait_until(happened: Any) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (result := happened()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    return result
