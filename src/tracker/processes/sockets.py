"""Listening sockets: made here, or inherited from who made them."""

from __future__ import annotations

import errno
import socket

from tracker.errors import CannotStartError

_BACKLOG = 2048  # connections that wait while no edge is there


def listen(variable: str, host: str, port: int, *, host_variable: str = "TRACKER_HOST") -> socket.socket:
    """Listen from now on: who comes before an edge is there, or while one is started again, waits.

    Raises:
        CannotStartError: the address cannot be had; the message names `variable`, or that of the host.
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
        text = "in use" if error.errno == errno.EADDRINUSE else f"not to be had ({error.strerror})"
        raise CannotStartError(
            f"{variable}: port {port} on {host} is {text}: set {variable} to another"
        ) from error
    return listening


def inherited(fd: int) -> socket.socket:
    """The socket that whoever started this process has left open for it.

    Raises:
        CannotStartError: there is none.
    """
    try:
        return socket.socket(fileno=fd)
    except OSError as error:
        raise CannotStartError(f"--fd: {fd} is no open socket: {error.strerror}") from error
