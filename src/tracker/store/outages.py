"""Log messages of a loop that cannot use Postgres."""

from __future__ import annotations

from logging import Logger

import asyncpg

from tracker.store.db import NotMigratedError

NOT_MIGRATED: tuple[type[Exception], ...] = (
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedColumnError,
    asyncpg.UndefinedFunctionError,
    NotMigratedError,
)
"""The errors of a database that was not migrated, or not since this version was installed."""

MIGRATE = "the database is not up to date: run `tracker migrate`"


class Outages:
    """Warns of errors each time, but only once of a database without migrations."""

    def __init__(self, logger: Logger, who: str) -> None:
        self._logger = logger
        self._who = who
        self._is_waiting = False  # by a migration

    def warn(self, error: BaseException, then: str = "") -> None:
        """Log the error and its consequence."""
        was_waiting, self._is_waiting = self._is_waiting, isinstance(error, NOT_MIGRATED)
        if not self._is_waiting:
            cause = f"{type(error).__name__}: {error}{f'; {then}' if then else ''}"
            self._logger.warning("%(who)s: %(cause)s", {"event": "outage", "who": self._who, "cause": cause})
        elif not was_waiting:
            cause = str(error).partition("\n")[0]
            self._logger.warning(
                f"%(who)s: {MIGRATE}; waiting for it (%(cause)s)",
                {"event": "not_migrated", "who": self._who, "cause": cause},
            )
