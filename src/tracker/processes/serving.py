"""Serves HTTP until SIGTERM, for edges, the API and the metrics."""

from __future__ import annotations

import logging
from socket import socket
from typing import Any

import uvicorn

from tracker.edge.http.bounds import BoundedProtocol
from tracker.processes.sockets import inherited, listen

KEEP_ALIVE_SECONDS = 75
"""How long a connection may idle.

It is longer than a proxy's own limit (60 s as a rule), so that a proxy never writes into a connection that is
being closed.
"""
DRAIN_SECONDS = 10
"""How long an edge or the API may take to answer accepted requests before it stops."""


class _Server(uvicorn.Server):
    """Ends by the signal that stopped it, so nothing runs at the exit of the process."""

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        await super().shutdown(sockets)
        logging.shutdown()


def serve(
    app: Any,
    variable: str,
    host: str,
    port: int,
    fd: int | None,
    http: type[BoundedProtocol] = BoundedProtocol,
    *,
    host_variable: str = "TRACKER_HOST",
) -> int:
    """Serve on the socket inherited as `fd`, or on host and port.

    `host_variable` and `variable` name their settings.

        Raises:
        CannotStartError: it cannot listen.
    """
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
        timeout_graceful_shutdown=DRAIN_SECONDS,
    )
    listening = listen(variable, host, port, host_variable=host_variable) if fd is None else inherited(fd)
    server = _Server(config)
    server.run(sockets=[listening])
    return 0 if server.started else 1
