"""Serves HTTP until SIGTERM, for edges, the API and the metrics."""

from __future__ import annotations

import asyncio
import logging
import signal
from socket import socket
from time import monotonic
from types import FrameType
from typing import Any

import uvicorn

from tracker.edge.http.bounds import BoundedProtocol
from tracker.processes.draining import Draining
from tracker.processes.sockets import inherited, listen
from tracker.processes.systemd import ServiceManager

KEEP_ALIVE_SECONDS = 75
"""How long a connection may idle.

It is longer than a proxy's own limit (60 s as a rule), so that a proxy never writes into a connection that is
being closed.
"""
LAST_ANSWERS_SECONDS = 10
"""How long an edge or the API may take to answer accepted requests before it stops."""
NEWCOMER_SECONDS = 0.5
"""How long a stop waits for the first request of connections that were accepted a moment before."""
_POLL_SECONDS = 0.01

logger = logging.getLogger(__name__)


class _Server(uvicorn.Server):
    """Ends by the signal that stopped it, so nothing runs at the exit of the process.

    At a SIGTERM it first serves on for `drain_seconds`, see Draining. A second signal ends that at once.
    """

    def __init__(self, config: uvicorn.Config, drain_seconds: float, manager: ServiceManager) -> None:
        super().__init__(config)
        self._manager = manager
        self._feeding: asyncio.Task[None] | None = None
        self._drain_seconds = drain_seconds
        self._stops_at: float | None = None  # by the monotonic clock

    async def startup(self, sockets: list[socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._manager.report("READY=1")
            self._feeding = asyncio.create_task(self._manager.keep_alive())

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._manager.report("STOPPING=1")
        is_first = self._stops_at is None and not self.should_exit
        if sig == signal.SIGTERM and is_first and self.started and self._drain_seconds:
            self._captured_signals.append(sig)
            self._stops_at = monotonic() + self._drain_seconds
        else:
            super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        if self._stops_at is not None:
            if self._drain():
                logger.warning(
                    "stopping: not ready from now on, and serving for another %(seconds)g s",
                    {"event": "draining", "seconds": self._drain_seconds},
                )
            if monotonic() >= self._stops_at:
                self.should_exit = True
        return await super().on_tick(counter)

    def _drain(self) -> bool:
        """Let all connections have the application that stops. Return whether they had another."""
        if isinstance(self.config.loaded_app, Draining):
            return False
        self.config.loaded_app = app = Draining(self.config.loaded_app)
        for connection in self.server_state.connections:
            connection.app = app  # type: ignore[union-attr]
        return True

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        for listening in (*self.servers, *(sockets or ())):
            listening.close()
        await self._answer_newcomers()
        await super().shutdown(sockets)
        logging.shutdown()

    async def _answer_newcomers(self) -> None:
        """Answer connections that were accepted and have sent nothing yet.

        A listening socket that outlives this process has clients at any time. Closing these connections would
        be an error to them.
        """
        self._drain()
        until = monotonic() + NEWCOMER_SECONDS
        while monotonic() < until and any(map(_is_new, self.server_state.connections)):  # noqa: ASYNC110
            await asyncio.sleep(_POLL_SECONDS)


def _is_new(connection: Any) -> bool:
    return connection.cycle is None


def serve(
    app: Any,
    name: str,
    variable: str,
    host: str,
    port: int,
    fd: int | None,
    http: type[BoundedProtocol] = BoundedProtocol,
    *,
    host_variable: str = "TRACKER_HOST",
    drain_seconds: float = 0,
) -> int:
    """Serve on the socket inherited as `fd`, on systemd's socket of this name, or on host and port.

    `host_variable` and `variable` name their settings. `drain_seconds`: how long it serves on after SIGTERM.
    An inherited socket outlives this process, and its connections wait for the next one. So it needs none.

    Raises:
        CannotStartError: it cannot listen.
    """
    manager = ServiceManager.of_process()
    passed = manager.socket(name, variable, port)
    manager.check_rest(name)
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=http,
        ws="none",  # a library that happens to be there would be loaded and never used
        lifespan="on",
        proxy_headers=False,  # TRACKER_TRUSTED_PROXIES decides which peers are trusted
        server_header=False,
        access_log=False,
        log_config=None,  # its lines use our log handler and format
        log_level="warning",
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=LAST_ANSWERS_SECONDS,
    )
    if fd is not None:
        listening = inherited(fd)
    else:
        listening = passed or listen(variable, host, port, host_variable=host_variable)
    server = _Server(config, drain_seconds if fd is None else 0, manager)
    server.run(sockets=[listening])
    return 0 if server.started else 1
