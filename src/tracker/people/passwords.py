"""Passwords: which ones are taken, and their hashes.

The rules are those of NIST SP 800-63B-4, section 3.1.1.2: length counts, no kind of character is asked for,
and what many people choose is refused. Hashes are argon2id with OWASP's parameters (Password Storage Cheat
Sheet), by argon2-cffi.
"""

from __future__ import annotations

import asyncio
import re
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import Final, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError

from tracker.domain import normalise

SHORTEST: Final = 12
"""Least characters of a password."""
LONGEST: Final = 200
"""Most characters of a password."""

_LEAST_DISTINCT = 5
_SHORTEST_NAME = 4  # a shorter part of a name may be in any password
_HASHER = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)  # KiB
_WORDS = (  # of the passwords that are found most often in stolen lists
    *(
        "password",
        "passwort",
        "passw0rd",
        "p@ssw0rd",
        "p@ssword",
        "letmein",
        "welcome",
        "changeme",
        "iloveyou",
    ),
    *("administrator", "admin", "tracker", "dashboard", "secret", "login", "master", "monkey", "dragon"),
    *("football", "baseball", "sunshine", "princess", "superman", "starwars", "default", "guest", "test"),
)
_ROWS = (
    *("abcdefghijklmnopqrstuvwxyz", "01234567890", "qwertyuiop", "qwertzuiopü", "azertyuiop"),
    *("asdfghjkl", "zxcvbnm", "yxcvbnm", "1qaz2wsx3edc4rfv5tgb6yhn7ujm", "!@#$%^&*()"),
)
_SHORTEST_RUN = 3


def _runs() -> set[str]:
    """Each run of neighbours in the alphabet, the digits and on keyboards, in both directions."""
    rows = (*_ROWS, *(row[::-1] for row in _ROWS))
    return {
        row[first:end]
        for row in rows
        for end in range(len(row) + 1)
        for first in range(end - _SHORTEST_RUN + 1)
    }


@cache
def _common() -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, sorted({*_WORDS, *_runs()}, key=len, reverse=True))))


_AT_ONCE = 2
_MOST_WAITING = 32

Result = TypeVar("Result")


class BusyError(Exception):
    """Too many passwords are being checked. The same request works in a moment."""


def fault(password: str, *names: str) -> str:
    """Why a password is not taken. "" if it is. `names` are the user's address and name."""
    plain = _normalised(password)
    if len(plain) < SHORTEST:
        return f"needs at least {SHORTEST} characters"
    if len(plain) > LONGEST:
        return f"has more than {LONGEST} characters"
    if len(set(plain)) < _LEAST_DISTINCT:
        return f"needs at least {_LEAST_DISTINCT} different characters"
    key = normalise.name_key(plain)
    known = [normalise.name_key(name) for name in names]
    parts = {part for name in known for part in (name, *name.split("@"))}
    if any(len(part) >= _SHORTEST_NAME and part in key for part in parts):
        return "must not contain your name or e-mail address"
    if len(set(_common().sub("", key))) < _LEAST_DISTINCT:
        return "is one of the first that attackers try: add a few words of your own"
    return ""


class Passwords:
    """Hashes and checks passwords in threads, a few at a time, so that other requests go on."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_AT_ONCE, "password")
        self._waiting = 0
        self._nobodys = _HASHER.hash("")  # of unknown accounts: their check takes as long as any

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def hash(self, password: str) -> str:
        """The hash of a password in the PHC format.

        Raises:
            BusyError: too many wait.
        """
        return await self._run(partial(_HASHER.hash, _bytes(_normalised(password))))

    async def is_right(self, password: str, hash_: str | None) -> bool:
        """Whether a password has a hash. Without a hash it never has, after the same time.

        Raises:
            BusyError: too many wait.
        """
        plain = _normalised(password)
        right = await self._run(partial(_verify, hash_ or self._nobodys, _bytes(plain[:LONGEST])))
        return right and hash_ is not None and len(plain) <= LONGEST

    async def _run(self, work: partial[Result]) -> Result:
        if self._waiting >= _MOST_WAITING:
            raise BusyError
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._waiting -= 1


def is_outdated(hash_: str) -> bool:
    """Whether a hash was made with other parameters than today's."""
    return _HASHER.check_needs_rehash(hash_)


def _verify(hash_: str, password: bytes) -> bool:
    try:
        return _HASHER.verify(hash_, password)
    except (VerifyMismatchError, InvalidHashError):
        return False


def _normalised(password: str) -> str:
    """The same text for each way to type it (NFKC, as NIST asks)."""
    return unicodedata.normalize("NFKC", password)


def _bytes(password: str) -> bytes:
    """A lone surrogate has no UTF-8. It is a wrong character of a password, not a fault of ours."""
    return password.encode("utf-8", "surrogatepass")
