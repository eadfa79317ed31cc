"""Dead letters: what they are in words, and their replay and drop together with the postbacks that wait."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson

from tracker.domain.click_id import millis_of, minute_of
from tracker.store import db
from tracker.store.catalogue import edit
from tracker.store.catalogue.edit import Author, Change, Table
from tracker.store.conversions import postbacks as postback_log
from tracker.stream.dead_letters import DeadLetter, DeadLetters
from tracker.stream.record import Undecodable, decode, read_answer

TABLE = Table("dead_letter", (), is_log=True)
"""The resource of replays and drops in the audit trail."""

Settle = Callable[[DeadLetters, DeadLetter], Awaitable[bool]]
"""What is done with a dead letter. False if it is gone."""


class Settled(NamedTuple):
    """Dead letters that were replayed or dropped."""

    ids: list[str]
    postbacks_tried_again: int


async def chosen(letters: DeadLetters, ids: Sequence[str]) -> AsyncIterator[DeadLetter]:
    """The dead letters with some ids, or all of them without ids.

    All ids are looked up before the first is given, so that a wrong id changes nothing.

    Raises:
        NoSuchLetterError: an id is of no dead letter.
    """
    if not ids:
        async for letter in letters.all():
            yield letter
    for letter in [await letters.get(id_) for id_ in dict.fromkeys(ids)]:
        yield letter


async def settle(
    connection: db.Connection, letters: DeadLetters, ids: Sequence[str], do: Settle, author: Author
) -> Settled:
    """Replay or drop dead letters, or all without ids. Then try the postbacks that wait for them.

    The audit trail gets an entry for each.

    Raises:
        NoSuchLetterError: an id is of no dead letter. Nothing was done.
    """
    done = [letter async for letter in chosen(letters, ids) if await do(letters, letter)]
    if done:
        word = "replayed" if do is DeadLetters.replay else "dropped"
        changes = [_change(letter, word) for letter in done]
        await edit.note_all(connection, author, TABLE, changes)
    return Settled([letter.id for letter in done], await _try_postbacks_again(connection, letters, done))


def _change(letter: DeadLetter, word: str) -> Change:
    known = {name: value for name, value in facts(letter).items() if name != "id"}
    return Change(f"dead-letters/{letter.id}", {**known, "state": "dead"}, {**known, "state": word})


async def _try_postbacks_again(
    connection: db.Connection, letters: DeadLetters, done: Sequence[DeadLetter]
) -> int:
    """Try the postbacks of these dead letters, and those of minutes without dead letters. Returns how many.

    The writer decides about them as about parked postbacks. A kill before this leaves them waiting: the next
    replay or drop finds them, because their minutes have no dead letters.
    """
    waiting = await postback_log.waiting(connection)
    if not waiting:
        return 0
    hashes = {letter.hash for letter in done}
    dead = {letter.minute async for letter in letters.all()}
    again = [
        postback for postback, click in waiting.items() if click in hashes or minute_of(click) not in dead
    ]
    await postback_log.try_again(connection, again)
    return len(again)


def facts(letter: DeadLetter) -> dict[str, Any]:
    """What is known of a dead letter. Times are UTC."""
    hash_ = letter.hash
    return {
        "id": letter.id,
        "died_at": _time(letter.millis),
        "reason": letter.reason,
        "hash": hash_,
        "minute": None if hash_ is None else _time(millis_of(hash_))[:-3],
        "entry": letter.entry,
    }


def contents(letter: DeadLetter) -> dict[str, Any]:
    """The click by column names. A damaged record is shown in its raw pieces."""
    fields = letter.fields
    try:
        return {"click": decode(fields)._asdict()}
    except Undecodable:
        pass
    return {"answer": _answer(fields.get(b"a")), **_record(fields.get(b"r"))}


def _answer(packed: bytes | None) -> dict[str, Any] | None:
    return read_answer(packed)._asdict() if packed else None


def _record(record: bytes | None) -> dict[str, Any]:
    if not record:
        return {"record": None}
    try:
        read = orjson.loads(record[1:])
    except ValueError:
        read = record[1:].decode(errors="backslashreplace")
    return {"version": record[0], "record": read}


def _time(millis: int) -> str:
    """UTC. A time out of the calendar's range is shown as a number."""
    try:
        return f"{datetime.fromtimestamp(millis / 1000, UTC):%Y-%m-%d %H:%M:%S}"
    except (ValueError, OverflowError, OSError):
        return f"{millis} ms"
