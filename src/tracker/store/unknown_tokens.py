"""Looks up unknown tokens, most of which may be wrong."""

from __future__ import annotations

import asyncio

from tracker.store.db import Pool
from tracker.store.tokens import Found, Token, digest, find_all, note_use

_MOST_TOGETHER = 500


class UnknownTokens:
    """Tokens that arrive together are looked up together, with one query at a time.

    So any number of wrong tokens needs one connection, and a valid one waits for two queries at most.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._asking = asyncio.Lock()  # fair: batches are queried in the order of their creation
        self._next = _Batch()

    async def find(self, token: str) -> Token | None:
        """The presented token, or None. Notes its use as `find_token` does.

        Raises:
            pool.UNREACHABLE, pool.REFUSED: as for all that were asked for together.
        """
        secret = digest(token)
        batch = self._next
        batch.secrets.add(secret)
        if len(batch.secrets) == _MOST_TOGETHER:
            self._next = _Batch()
        async with self._asking:
            if not batch.is_asked:
                if self._next is batch:
                    self._next = _Batch()
                await batch.ask(self._pool)
        known = batch.answer(secret)
        return None if known is None else await note_use(self._pool, known)


class _Batch:
    """Digests of tokens, and the result of their query."""

    def __init__(self) -> None:
        self.secrets: set[bytes] = set()
        self.is_asked = False
        self._found: dict[bytes, Found] = {}
        self._error: Exception | None = None

    async def ask(self, pool: Pool) -> None:
        """Query once for all. If the querying request is cancelled, the next waiting one takes over."""
        try:
            self._found = await find_all(pool, self.secrets)
        except Exception as error:
            self._error = error
        self.is_asked = True

    def answer(self, secret: bytes) -> Found | None:
        if self._error is not None:
            raise self._error
        return self._found.get(secret)
