"""Serving HTTP until SIGTERM, as edges and the API do."""

from __future__ import annotations

from typing import Any

import uvicorn

from tracker.protocol import BoundedProtocol
from tracker.sockets import inherited, listen

KEEP_ALIVE_SECONDS = 75
"""How long a connection may idle: longer than a proxy keeps its own (60 s as a rule), so that it never writes
into one that is being closed."""
DRAIN_SECONDS = 10
"""How long an edge or the API may take to answer what it has accepted before it stops."""


def serve(
    app: Any,
    variable: str,
    host: str,
    port: int,
    fd: int | None,
    http: type[BoundedProtocol] = BoundedProtocol,
) -> int:
    """Serve on the socket inherited as `fd`, or on host and port, which `variable` names.

    Raises:
        CannotStart: there is nothing to listen on.
    """
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=http,
        lifespan="on",
        proxy_headers=False,  # whom to believe is TRACKER_TRUSTED_PROXIES
        server_header=False,
        access_log=False,
        log_config=None,  # its lines go where ours go, and look like them
        log_level="warning",
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=DRAIN_SECONDS,
    )
    listening = listen(variable, host, port) if fd is None else inherited(fd)
    server = uvicorn.Server(config)
    server.run(sockets=[listening])
    return 0 if server.started else 1
