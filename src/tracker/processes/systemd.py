"""The protocol of systemd: sockets that it opened for a process, and reports of the process to it.

See sd_listen_fds(3), sd_notify(3) and sd_watchdog_enabled(3). Another service manager may speak it, too.
Why it is no library: docs/decisions/0059-systemd.md.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from tracker.errors import CannotStartError
from tracker.settings import take_variables

logger = logging.getLogger(__name__)

_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")
_FIRST_FD = 3  # SD_LISTEN_FDS_START
_SEND_SECONDS = 1.0  # that a report may wait for systemd
_REPORTS_A_TIMEOUT = 3


class ServiceManager:
    """The service manager that started this process. Without one, it gives no sockets and hears nothing."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        """Raises CannotStartError if a socket of it cannot be served on."""
        self._address = variables.get("NOTIFY_SOCKET", "")
        self._sockets = _sockets(variables)
        self._watchdog_seconds = _watchdog_seconds(variables)

    @classmethod
    def of_process(cls) -> ServiceManager:
        """Take the variables out of the environment: they are not for the children of this process."""
        return cls(take_variables(_VARIABLES))

    def socket(self, name: str, variable: str, port: int) -> socket.socket | None:
        """The socket with this FileDescriptorName. `variable` is the setting of its port.

        Raises:
            CannotStartError: the setting names another port, which other parts would then use.
        """
        listening = self._sockets.pop(name, None)
        if listening is not None and listening.getsockname()[1] != port:
            there = listening.getsockname()[1]
            listening.close()
            raise CannotStartError(
                f"{variable}: it is {port}, but systemd listens on port {there}: set both to one"
            )
        return listening

    def check_rest(self, *names: str) -> None:
        """Refuse sockets that nobody has asked for. `names` are those that could be.

        Raises:
            CannotStartError: there is one. It would have connections that nobody answers.
        """
        for name in self._sockets:
            raise CannotStartError(
                f"systemd passes the socket {name!r}: set FileDescriptorName={' or '.join(names)} in its unit"
            )

    def report(self, state: str) -> None:
        """Send a state such as READY=1."""
        if not self._address.startswith(("/", "@")):
            return
        address = self._address.replace("@", "\0", 1) if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sending:
                sending.settimeout(_SEND_SECONDS)
                sending.sendto(state.encode(), address)
        except OSError as error:
            logger.warning(
                "systemd cannot be told %(state)s: %(cause)s",
                {"event": "systemd_unreachable", "state": state, "cause": error},
            )

    async def keep_alive(self) -> None:
        """Feed the watchdog from the event loop, so that a loop that hangs is noticed."""
        while self._watchdog_seconds:
            self.report("WATCHDOG=1")
            await asyncio.sleep(self._watchdog_seconds / _REPORTS_A_TIMEOUT)

    @asynccontextmanager
    async def told(self) -> AsyncIterator[None]:
        """Report that this process is ready, and feed the watchdog until the context ends."""
        self.report("READY=1")
        feeding = asyncio.create_task(self.keep_alive())
        try:
            yield
        finally:
            feeding.cancel()


def _sockets(variables: Mapping[str, str]) -> dict[str, socket.socket]:
    if variables.get("LISTEN_PID") != str(os.getpid()):  # they are for the process that started us
        return {}
    count, names = int(variables.get("LISTEN_FDS", "0")), variables.get("LISTEN_FDNAMES", "").split(":")
    sockets: dict[str, socket.socket] = {}
    for fd in range(_FIRST_FD, _FIRST_FD + count):
        name = (names[fd - _FIRST_FD : fd - _FIRST_FD + 1] or ["unknown"])[0]
        if name in sockets:
            raise CannotStartError(f"systemd passes two sockets {name!r}: one ListenStream= is served")
        sockets[name] = _listening(fd, name)
    return sockets


def _listening(fd: int, name: str) -> socket.socket:
    try:
        given = socket.socket(fileno=fd)
        is_listening = given.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise CannotStartError(f"systemd passes {name!r} as file {fd}: {error.strerror}") from error
    if not is_listening or given.family not in (socket.AF_INET, socket.AF_INET6):
        given.close()
        raise CannotStartError(f"systemd passes {name!r}: it needs ListenStream= with a TCP port")
    given.set_inheritable(False)
    given.setblocking(False)
    return given


def _watchdog_seconds(variables: Mapping[str, str]) -> float:
    """How long systemd waits for a report. 0 if it does not."""
    if variables.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0
    return int(variables.get("WATCHDOG_USEC", "0")) / 1_000_000
