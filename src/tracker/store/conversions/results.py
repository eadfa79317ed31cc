"""The results of postbacks, as the log has them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple

import orjson

from tracker.domain.postback import Postback, Result
from tracker.store.conversions.sql import KNOWN, LOG
from tracker.store.db import Connection


class Applied(NamedTuple):
    """The result of a postback, with a reason unless it was simply stored."""

    hash: str
    result: Result
    reason: str = ""
    conversion_id: int | None = None
    held_at: int | None = None  # the catalogue's version, if it is held
    waits_until: datetime | None = None


async def known(
    connection: Connection, postbacks: Iterable[Postback]
) -> tuple[dict[str, Applied], dict[str, int]]:
    """The postbacks that were applied before, except waiting ones, and the positions of the waiting ones."""
    rows = await connection.fetch(KNOWN, [postback.hash for postback in postbacks])
    logged = {
        hash_.hex: (arrival, Applied(hash_.hex, Result(result), reason, id_))
        for arrival, hash_, result, reason, id_ in rows
    }
    waiting = (Result.PARKED, Result.HELD)
    done = {hash_: applied for hash_, (_, applied) in logged.items() if applied.result not in waiting}
    return done, {hash_: arrival for hash_, (arrival, _) in logged.items() if hash_ not in done}


async def log(connection: Connection, results: Iterable[tuple[Postback, Applied, str | None]]) -> None:
    """Log postbacks with their results and the hashes of their clicks."""
    await connection.executemany(LOG, [_row(*result) for result in results])


def _row(postback: Postback, applied: Applied, click_hash: str | None) -> tuple[Any, ...]:
    parameters = orjson.dumps(dict(postback.parameters)).decode()
    return (
        *(postback.hash, postback.source, postback.ip, postback.advertiser_id, parameters),
        postback.click_hash or postback.click_id,
        *(
            applied.result,
            applied.reason,
            applied.conversion_id,
            applied.held_at,
            click_hash,
            postback.order_id,
            applied.waits_until,
            postback.form and orjson.dumps(postback.form._asdict()).decode(),
        ),
    )
