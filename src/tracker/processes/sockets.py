"""Listening sockets: created here, or inherited from the parent process."""

from __future__ import annotations

import errno
import socket

from tracker.errors import CannotStartError

_BACKLOG = 2048  # connections that wait while no edge accepts them


def listen(variable: str, host: str, port: int, *, host_variable: str = "TRACKER_HOST") -> socket.socket:
    """Listen from now on: connections wait while an edge starts or restarts.

    Raises:
        CannotStartError: the address is not available. The message names `variable`, or the variable of the
            host.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind)
    except OSError as error:
        raise CannotStartError(f"{host_variable}: {host!r}: {error.strerror}") from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(_BACKLOG)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        text = "in use" if error.errno == errno.EADDRINUSE else f"not available ({error.strerror})"
        raise CannotStartError(
            f"{variable}: port {port} on {host} is {text}: set {variable} to another"
        ) from error
    return listening


def inherited(fd: int) -> socket.socket:
    """The socket that the parent process has left open for this process.

    Raises:
        CannotStartError: there is no such socket.
    """
    try:
        return socket.socket(fileno=fd)
    except OSError as error:
        raise CannotStartError(f"--fd: {fd} is not an open socket: {error.strerror}") from error
