"""Requests to hosts that other people chose, only to public addresses. A slow host delays no other request.

The name is resolved here, its addresses are checked, and the connection goes to a checked address. A later
change of the name has no effect. Redirects are not followed, cookies are not kept and proxies are not used.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from types import TracebackType
from typing import NamedTuple

import aiohttp
import certifi
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from tracker.domain.public_addresses import Network, refusal
from tracker.release import version

ANSWER_SECONDS = 10.0
"""How long one request may take, including the resolution of its name."""
USER_AGENT = f"Tracker/{version()}"
_LOOK_UPS = 1024  # names resolved at a time, each once: a slow name server delays only its own names
_MOST_READ = 4096  # bytes of a body that are read, so that the other side can finish

LookUp = Callable[[str, int], Awaitable[Collection[str]]]
"""The addresses of a host for a port."""


class Delivery(NamedTuple):
    """The result of a request."""

    status: int | None = None  # HTTP status, None without a response
    error: str = ""  # why there is no response
    is_barred: bool = False  # the address may not be called
    retry_after: float | None = None  # seconds


class BarredError(OSError):
    """None of a host's addresses may be called."""


class Caller:
    """Sends requests to foreign hosts. Each request has a connection of its own.

    Requests may go to public addresses, and to the allowed networks. Strict ones may not go to these.
    """

    def __init__(
        self,
        allowed: Collection[Network] = (),
        *,
        look_up: LookUp | None = None,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self._allowed = allowed
        self._threads = ThreadPoolExecutor(_LOOK_UPS, "look-up")
        self._looking: dict[tuple[str, int], asyncio.Future[list[str]]] = {}
        self._look_up = look_up or self._ask_system
        self._seconds = answer_seconds

    async def __aenter__(self) -> Caller:
        trusted = ssl.create_default_context()
        trusted.load_verify_locations(certifi.where())  # for systems without certificates of their own
        self._sessions = {is_strict: self._open(trusted, is_strict) for is_strict in (False, True)}
        return self

    def _open(self, trusted: ssl.SSLContext, is_strict: bool) -> aiohttp.ClientSession:
        resolver = _Resolver(partial(self.addresses, is_strict=is_strict))
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                resolver=resolver, use_dns_cache=False, force_close=True, limit=0, ssl=trusted
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=self._seconds),
            auto_decompress=False,
            trust_env=False,
        )

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for session in self._sessions.values():
            await session.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def get(self, url: str, headers: Mapping[str, str], *, is_strict: bool = False) -> Delivery:
        """GET a URL and return the response. Never raises for a fault of the other side."""
        return await self._call("GET", url, headers, None, is_strict=is_strict)

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Delivery:
        """POST a body to a URL. Otherwise the same."""
        return await self._call("POST", url, headers, body)

    async def _call(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        *,
        is_strict: bool = False,
    ) -> Delivery:
        try:
            target = URL(url, encoded=True)
            if _is_address(target.host):
                await self.addresses(target.host or "", target.port or 0, is_strict=is_strict)
            return await self._ask(self._sessions[is_strict], method, target, headers, body)
        except BarredError as error:
            return Delivery(error=str(error), is_barred=True)
        except aiohttp.ClientConnectorDNSError as error:
            barred = isinstance(error.os_error, BarredError)
            return Delivery(
                error=str(error.os_error) if barred else "its name has no address", is_barred=barred
            )
        except TimeoutError:
            return Delivery(error=f"no answer within {self._seconds:g} s")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Delivery(error=_reason(error))

    async def addresses(self, host: str, port: int, *, is_strict: bool = False) -> list[str]:
        """The addresses of a host that may be called.

        Raises:
            BarredError: none of the addresses may be called.
            OSError: the host has no address.
        """
        found = [host] if _is_address(host) else await self._look_up(host, port)
        allowed = () if is_strict else self._allowed
        refused = {address: refusal(address, port, allowed) for address in found}
        fine = [address for address, why in refused.items() if not why]
        if not fine:
            raise BarredError("; ".join(refused.values()) or "its name has no address")
        return fine

    @staticmethod
    async def _ask(
        session: aiohttp.ClientSession,
        method: str,
        target: URL,
        headers: Mapping[str, str],
        body: bytes | None,
    ) -> Delivery:
        async with session.request(
            method, target, headers=headers, data=body, allow_redirects=False
        ) as response:
            with suppress(aiohttp.ClientError, TimeoutError):  # only the status counts
                await response.content.read(_MOST_READ)
            return Delivery(response.status, retry_after=_seconds(response.headers.get("Retry-After", "")))

    async def _ask_system(self, host: str, port: int) -> list[str]:
        """Resolve each name in one thread. The thread continues if the caller gives up."""
        looking = self._looking.get((host, port))
        if looking is None:
            looking = asyncio.get_running_loop().run_in_executor(self._threads, _system_addresses, host, port)
            self._looking[host, port] = looking
            looking.add_done_callback(lambda done: self._looked_up(host, port, done))
        return await asyncio.shield(looking)

    def _looked_up(self, host: str, port: int, done: asyncio.Future[list[str]]) -> None:
        del self._looking[host, port]
        if not done.cancelled():
            done.exception()  # and its error may reach no caller


class _Resolver(AbstractResolver):
    """The resolver for aiohttp: it connects to these addresses only."""

    def __init__(self, addresses: Callable[[str, int], Awaitable[list[str]]]) -> None:
        self._addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for address in await self._addresses(host, port)
        ]

    async def close(self) -> None:
        """There is nothing to close."""


def _system_addresses(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def _is_address(host: str | None) -> bool:
    """Whether aiohttp connects to the host directly, without a resolver."""
    return host is not None and (":" in host or host.replace(".", "").isdigit())


def _reason(error: Exception) -> str:
    """The fault without the address, because the query may contain secrets that do not belong in logs."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return "its certificate is not trusted"
    if isinstance(error, aiohttp.ClientSSLError):
        return "TLS failed"
    if isinstance(error, aiohttp.ClientConnectorError):
        return "cannot be connected to" if error.errno is None else f"cannot be connected to ({error.errno})"
    if isinstance(error, aiohttp.ServerDisconnectedError | ConnectionError):
        return "the connection was closed before a response"
    return type(error).__name__


def _seconds(text: str) -> float | None:
    """Retry-After, in seconds or as a date (RFC 9110, section 10.2.3). None if it is neither."""
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        when = parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # a date whose year, hour or offset is out of range
        return None
    return max(0.0, (when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
