"""Hosts of a tracker whose engines are on several nodes: each has an edge, a worker and an API of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import suppress
from http.client import HTTPConnection
from pathlib import Path
from time import monotonic

from tests.e2e.running import PATIENCE, free_port
from tests.environ import clean_environ

_PARTS = ("edge", "worker", "api")
_RESTART_SECONDS = 0.2  # as a unit with Restart=always


class Host:
    """The processes of one machine. What ends is started again, until the machine is lost."""

    def __init__(self, directory: Path, slot: int, **variables: str) -> None:
        self.directory = directory
        self.port = free_port()
        self.environ = clean_environ() | variables | {"TRACKER_DATA_DIR": str(directory)}
        self.environ["TRACKER_PORT"] = str(self.port)
        directory.mkdir(mode=0o700)
        self._slot = slot
        self._log = (directory.with_suffix(".log")).open("ab")
        self._processes = {part: self._start(part) for part in _PARTS}
        self._watching = asyncio.create_task(self._watch())

    def _start(self, part: str) -> subprocess.Popen[bytes]:
        words = [] if part == "api" else ["--slot", str(self._slot)]
        return subprocess.Popen(
            [sys.executable, "-m", "tracker", part, *words],
            env=self.environ,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_RESTART_SECONDS)
            for part, process in self._processes.items():
                if process.poll() is not None:
                    self._processes[part] = self._start(part)

    async def ready(self) -> None:
        """Wait until its edge and its API are ready.

        Raises:
            AssertionError: it does not, for the reasons in the log.
        """
        began = monotonic()
        while not await asyncio.to_thread(self._is_ready):
            assert monotonic() < began + PATIENCE, self.log[-4000:]
            await asyncio.sleep(0.05)

    def _is_ready(self) -> bool:
        """Whether the edge, and then the API, say that they are ready."""
        for port in (self.port, self.port + 1):
            connection = HTTPConnection("127.0.0.1", port, timeout=1)
            try:
                connection.request("GET", "/health/ready")
                if connection.getresponse().status != 200:
                    return False
            except OSError:
                return False
            finally:
                connection.close()
        return True

    @property
    def log(self) -> str:
        """What its processes have logged."""
        return self.directory.with_suffix(".log").read_text()

    def kill(self, part: str) -> None:
        """SIGKILL one of its processes, which comes again."""
        self._processes[part].kill()

    def lose(self) -> None:
        """SIGKILL all of its processes, for good. The disk stays."""
        self._watching.cancel()
        for process in self._processes.values():
            process.kill()
            process.wait()

    async def end(self) -> None:
        """Stop all of its processes as an operator does."""
        self._watching.cancel()
        for process in self._processes.values():
            process.send_signal(signal.SIGTERM)
        for process in self._processes.values():
            await asyncio.to_thread(process.wait, PATIENCE)

    async def run(self, *words: str) -> str:
        """The output of `tracker WORDS` on this host.

        Raises:
            AssertionError: it failed.
        """
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "tracker", *words],
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return str(done.stdout)


async def stall(pid: int, seconds: float) -> None:
    """Let a process stand still."""
    os.kill(pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
