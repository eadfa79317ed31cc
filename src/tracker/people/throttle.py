"""Wrong passwords and codes: an address that fails too often has to wait.

Failures count for an address, and for an address and an account together. They never count for an account
alone: nobody can lock out a user from other addresses.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from hashlib import sha256
from ipaddress import IPv6Address, ip_address
from math import ceil
from typing import Final

from tracker.domain import normalise
from tracker.store.db import Pool
from tracker.store.people import failures

WINDOW: Final = timedelta(minutes=15)
MOST_OF_ACCOUNT: Final = 5
"""Most failures of an address for one account, within the window."""
MOST_OF_ADDRESS: Final = 30
"""Most failures of an address for all accounts."""

_SITE_BITS = 64


class WaitError(Exception):
    """The address has failed too often. `seconds` says how long it has to wait."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"too many failed attempts: wait {seconds} s")
        self.seconds = seconds


class Throttle:
    """Counts failures in the database, so that all processes know them and a restart forgets none."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._lines: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._in_line: Counter[str] = Counter()

    @asynccontextmanager
    async def attempt(self, address: str, account: str) -> AsyncIterator[Attempt]:
        """One attempt. Those of one address wait for each other, so that all count.

        It also keeps one address from taking all places where passwords are checked.

        Raises:
            WaitError: the address has failed too often.
        """
        site = _site(address)
        place = site, account_digest(account)
        self._in_line[site] += 1
        try:
            async with self._lines[site]:
                await self._check(*place)
                yield Attempt(self._pool, *place)
        finally:
            self._in_line[site] -= 1
            if not self._in_line[site]:
                del self._in_line[site], self._lines[site]

    async def _check(self, address: str, account: bytes) -> None:
        counts = await failures.counts(self._pool, address, account, WINDOW)
        for key, most in ((account, MOST_OF_ACCOUNT), (failures.ALL_ACCOUNTS, MOST_OF_ADDRESS)):
            number, seconds = counts.get(key, (0, 0.0))
            if number >= most:
                raise WaitError(max(ceil(seconds), 1))


class Attempt:
    """An attempt that may go on."""

    def __init__(self, pool: Pool, address: str, account: bytes) -> None:
        self._pool = pool
        self.address = address
        self.account = account

    async def failed(self) -> None:
        """Count it as a failure."""
        await failures.note(self._pool, self.address, self.account, WINDOW)


def account_digest(account: str) -> bytes:
    """What is kept of an account's name. A text that may be a misplaced password is not kept."""
    name = normalise.name_key(account)
    return sha256((name if "@" in name else "").encode(errors="replace")).digest()


def _site(address: str) -> str:
    """The address, of IPv6 the /64: one client has all addresses of it."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is None:
        return str(IPv6Address(int(parsed) >> _SITE_BITS << _SITE_BITS))
    return str(parsed)
