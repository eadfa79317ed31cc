"""Postbacks that had no effect are applied once more, by the rules and the catalogue of now."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

from tracker.domain.postback import Result
from tracker.domain.unstored import AskUnstored
from tracker.store.catalogue import edit
from tracker.store.catalogue.edit import Author, Table
from tracker.store.conversions import apply_postback, manual
from tracker.store.conversions import postbacks as postback_log
from tracker.store.conversions.postbacks import PostbackFilter
from tracker.store.conversions.results import Applied
from tracker.store.db import Connection, Pool

MOST: Final = 2_000
"""Most postbacks of one request."""
_BATCH = 200  # of one transaction, as the writer has them
_LOG = Table("postback", ("result", "reason"), key="hash", is_log=True)


class TooManyError(ValueError):
    """More than MOST postbacks are meant."""


class Replayed(NamedTuple):
    """A postback and what became of it."""

    before: Result
    applied: Applied


async def replay(
    pool: Pool,
    author: Author,
    postbacks: PostbackFilter,
    complete_until: int | None,
    ask_unstored: AskUnstored,
    *,
    dry_run: bool,
) -> list[Replayed]:
    """Apply the postbacks of a filter once more, oldest first. A dry run undoes it.

    Every postback keeps its time of arrival and its hash, so it is still applied at most once.
    `complete_until` and `ask_unstored`: as in apply_postback.take.

    Raises:
        TooManyError: they are too many.
    """
    chosen = await postback_log.to_replay(pool, postbacks, MOST + 1)
    if len(chosen) > MOST:
        raise TooManyError(f"matches more than {MOST:,} postbacks")
    done: list[Replayed] = []
    for start in range(0, len(chosen), _BATCH):
        batch = chosen[start : start + _BATCH]
        async with manual.changing(pool, is_trial=dry_run, is_long=True) as connection:
            await postback_log.park_again(connection, [one.postback.hash for one in batch])
            applied = await apply_postback.take(
                connection, [one.postback for one in batch], complete_until, ask_unstored
            )
            results = [Replayed(one.result, each) for one, each in zip(batch, applied, strict=True)]
            await _note(connection, author, results)
        done += results
    return done


async def _note(connection: Connection, author: Author, results: Sequence[Replayed]) -> None:
    before = Counter(str(one.before) for one in results)
    after = Counter(str(one.applied.result) for one in results)
    await edit.note(connection, author, _LOG, "postbacks", before, after)
