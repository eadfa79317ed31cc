"""Sends requests to other people's servers, each at least once: postbacks to affiliates, and webhooks.

Each host has one request of its own, so a slow or dead host delays no other. Further requests to a host come
out of AT_ONCE, which all hosts share. All states are in the database, so workers share the work. A kill at
any point costs at most a second attempt under the same key.
"""

from __future__ import annotations

import asyncio
import random
from abc import ABC, abstractmethod
from contextlib import suppress
from datetime import datetime, timedelta
from logging import Logger
from time import monotonic
from typing import ClassVar

from tracker.outbound_http import Caller, Delivery
from tracker.settings import Settings
from tracker.store import db, deliveries
from tracker.store.conversions import sending
from tracker.store.deliveries import Deliveries, Due
from workers import measures
from workers.retry import AWAY, Retry

HOSTS_AT_ONCE = 1000
"""Most hosts that a worker serves at a time."""
AT_ONCE = 256
"""Most requests of a worker at a time, besides the first one of each host."""
AT_ONCE_TO_HOST = 8
"""Most requests to one host at a time. A host that did not answer lately gets one."""
MOST_REFUSALS = 8
"""Attempts of a request whose answers say that it is wrong: about twenty minutes."""
FIRST_PAUSE = 20.0
"""Longest first pause, in seconds. It doubles with each attempt."""

_LEAST_PAUSE = 1.0
_LONGEST_RETRY_AFTER = 3600.0
_ANNOUNCED_AT_ONCE = 500
_LOOK_SECONDS = 0.5
_OUTAGE_SECONDS = 2.0
_CLOSE_SECONDS = 5.0
_PASSING = frozenset({408, 425, 429})


class Sender(ABC):
    """The loop of one worker over one table of requests."""

    table: ClassVar[Deliveries]
    what: ClassVar[str]
    """The requests in log lines, such as "postbacks to affiliates"."""
    logger: ClassVar[Logger]

    def __init__(
        self, settings: Settings, stopping: asyncio.Event | None, caller: Caller | None, *, burst: bool
    ) -> None:
        assert settings.postgres_dsn
        self._dsn = settings.postgres_dsn
        self._caller = caller or Caller(settings.postback_networks)
        self._stopping = stopping or asyncio.Event()
        self._burst = burst
        self._more = AT_ONCE  # free requests besides the first one of each host
        self._served: set[str] = set()  # hosts with a task
        self._silent: set[str] = set()  # hosts that did not answer their last requests
        self._retry = Retry(
            self.logger,
            self.what,
            self._stopping,
            burst=burst,
            pause=_OUTAGE_SECONDS,
            fault=f"{self.what} cannot be sent",  # it does not end the writers of the same worker
        )
        self._held_at: datetime | None = None  # time of the backup, if the database is a copy

    async def run(self) -> None:
        """Send until `stopping` is set, then finish what is under way. With `burst`: until nothing is due."""
        self._pool = await db.open_pool(self._dsn)
        try:
            async with self._caller, asyncio.TaskGroup() as hosts:
                await self._retry.run(lambda: self._work(hosts))
        finally:
            with suppress(TimeoutError):  # close() ends the connections even then
                await asyncio.wait_for(self._pool.close(), _CLOSE_SECONDS)

    @abstractmethod
    async def _ask(self, due: Due) -> Delivery:
        """Make one attempt."""

    async def _work(self, hosts: asyncio.TaskGroup) -> None:
        while await self._look(hosts) or not self._burst:
            if await self._wait(_LOOK_SECONDS):
                break

    async def _look(self, hosts: asyncio.TaskGroup) -> bool:
        """Start serving the hosts with due requests. Returns whether there was anything to do."""
        async with self._pool.acquire() as connection:
            announced = await self.table.announce(connection, _ANNOUNCED_AT_ONCE)
            if await self._is_held(connection):
                return bool(announced)
        waiting = await self.table.due_hosts(self._pool) - self._served
        for host in sorted(waiting, key=self._silent.__contains__)[: HOSTS_AT_ONCE - len(self._served)]:
            self._served.add(host)
            hosts.create_task(self._serve(host))
        return bool(announced or self._served)

    async def _is_held(self, connection: db.Connection) -> bool:
        """Whether this database sends nothing for now. Logs it once."""
        made_at = await sending.copy_of(connection)
        if made_at is not None and self._held_at != made_at:
            self.logger.warning(
                "%(what)s are held since %(since)s (a backup's time, or that of hold-sending): "
                "`tracker resume-sending` sends them",
                {"event": "sending_held", "what": self.what, "since": made_at},
            )
        self._held_at = made_at
        return made_at is not None

    async def _serve(self, host: str) -> None:
        """Send the due requests of a host, a few at a time, until none is left or it does not answer."""
        try:
            while not self._stopping.is_set():
                wave = await self._wave(host)
                if not wave:
                    break
                if not any(wave):
                    self._silent.add(host)
                    break  # other hosts may have its place
                self._silent.discard(host)
        except AWAY as error:  # taken requests are due again when their lease ends
            cause = f"{type(error).__name__}: {error}"
            self.logger.warning(
                "%(what)s at %(host)s: %(cause)s",
                {"event": "sending_interrupted", "what": self.what, "host": host, "cause": cause},
            )
            await self._wait(_OUTAGE_SECONDS)
        except Exception:  # as in run
            self.logger.exception(
                "%(what)s at %(host)s cannot be sent",
                {"event": "sending_failed", "what": self.what, "host": host},
            )
            await self._wait(_OUTAGE_SECONDS)
        finally:
            self._served.discard(host)

    async def _wave(self, host: str) -> list[bool]:
        """Send as many requests as a host may get at a time. Returns which of them were answered."""
        more = 0 if host in self._silent else min(AT_ONCE_TO_HOST - 1, self._more)
        self._more -= more
        try:
            taken = await self.table.take(self._pool, host, 1 + more)
            unused = more - max(len(taken) - 1, 0)
            self._more, more = self._more + unused, more - unused
            return await asyncio.gather(*map(self._send, taken))
        finally:
            self._more += more

    async def _send(self, due: Due) -> bool:
        """Make one attempt, and note its result. Returns whether it was answered."""
        began = monotonic()
        answer = await self._ask(due)
        state, pause = outcome(answer, due)
        if answer.status is not None:
            waited = deliveries.PATIENCE - due.patience
            measures.POSTBACKS_OUT.observe(waited.total_seconds() + monotonic() - began)
        if state == "failed":
            why = answer.error or f"status {answer.status}"
            self.logger.warning(
                "%(what)s: number %(number)d is given up: %(cause)s",
                {"event": "sending_given_up", "what": self.what, "number": due.id, "cause": why},
            )
        await self.table.settle(self._pool, due.id, state, pause, answer.status, answer.error)
        return answer.status is not None

    async def _wait(self, seconds: float) -> bool:
        return await self._retry.wait(0.01 if self._burst else seconds)


def outcome(answer: Delivery, due: Due) -> tuple[str, timedelta | None]:
    """The state of a request after an attempt, and the pause before the next attempt.

    The database adds the pause to its own clock, because clocks of workers may differ.
    """
    if answer.status is not None and 200 <= answer.status < 300:
        return "sent", None
    pause = timedelta(seconds=_pause(answer, due.attempts))
    if pause > due.patience or (_is_refusal(answer) and due.attempts >= MOST_REFUSALS):
        return "failed", None
    return "waiting", pause


def _is_refusal(answer: Delivery) -> bool:
    """Whether the next answer would be the same: the request is wrong, or is redirected."""
    status = answer.status
    return answer.is_barred or (status is not None and 300 <= status < 500 and status not in _PASSING)


def _pause(answer: Delivery, attempts: int) -> float:
    """An exponential pause with full jitter, so that requests that failed together are spread out."""
    most = min(deliveries.LONGEST_PAUSE.total_seconds(), FIRST_PAUSE * 2 ** (attempts - 1))
    wanted = min(answer.retry_after or 0.0, _LONGEST_RETRY_AFTER)
    return max(_LEAST_PAUSE, random.uniform(0.0, most), wanted)  # noqa: S311 - no secret
