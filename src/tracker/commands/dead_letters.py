"""`tracker dead-letters`: clicks that could not be stored. Read, replay or drop them."""

from __future__ import annotations

import asyncio
import json
from argparse import ArgumentParser, Namespace
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from tracker.commands.arguments import add_json
from tracker.domain.click_id import millis_of, minute_of
from tracker.settings import Settings
from tracker.store import db
from tracker.store.conversions import postbacks as postback_log
from tracker.stream.dead_letters import DeadLetter, DeadLetters
from tracker.stream.record import Undecodable, decode, read_answer

_ABOUT = """\
An entry that a writer cannot store is set aside with the reason. The rest of its batch is stored. Replay it
when the cause is fixed. If it fails again, it is a dead letter again, with a new id. Replay and drop both
keep the ledger: a dropped click stays counted, as given up. Postbacks that wait for the dead letters are then
tried again.

examples:
  tracker dead-letters show 0:1764000000000-0   read one, with the reason
  tracker dead-letters replay --all             store them again after the fix
"""


_WORDS = {
    "list": "one line each: id, time, hash, minute, reason",
    "show": "show one in full, or its readable parts",
    "replay": "put them back on the stream to be stored",
    "drop": "give them up for good (without --yes: only show which)",
}


def add_arguments(parser: ArgumentParser) -> None:
    parser.epilog = _ABOUT
    words = parser.add_subparsers(dest="word", metavar="COMMAND", required=True)
    of = {
        name: words.add_parser(name, help=purpose, description=f"{purpose[0].upper()}{purpose[1:]}.")
        for name, purpose in _WORDS.items()
    }
    of["show"].add_argument("id", metavar="ID", help="as `tracker dead-letters list` shows it")
    of["drop"].add_argument("--yes", action="store_true", help="really drop them")
    for several in (of["replay"], of["drop"]):
        which = several.add_mutually_exclusive_group(required=True)
        which.add_argument(
            "ids", nargs="*", default=[], metavar="ID", help="as `tracker dead-letters list` shows it"
        )
        which.add_argument("--all", action="store_true", help="all that are there now")
    for word in of.values():
        add_json(word)


def run(settings: Settings, arguments: Namespace) -> int:
    asyncio.run(_do(settings, arguments))
    return 0


async def _do(settings: Settings, arguments: Namespace) -> None:
    assert settings.redis_url
    url, as_json = settings.redis_url, arguments.json
    match arguments.word:
        case "list":
            await list_(url, as_json=as_json)
        case "show":
            await show(url, arguments.id, as_json=as_json)
        case "replay":
            await replay(settings, arguments.ids, as_json=as_json)
        case "drop" if arguments.yes:
            await drop(settings, arguments.ids, as_json=as_json)
        case "drop":
            await show_drop(url, arguments.ids, as_json=as_json)


async def list_(url: str, *, as_json: bool) -> None:
    """Print one line for each dead letter."""
    is_any = False
    async with DeadLetters(url) as letters:
        async for letter in letters.all():
            is_any = True
            print(json.dumps(_facts(letter)) if as_json else _line(letter))
    if not is_any and not as_json:
        print("no dead letters")


async def show(url: str, id_: str, *, as_json: bool) -> None:
    """Print one dead letter in full, or its readable parts."""
    async with DeadLetters(url) as letters:
        letter = await letters.get(id_)
    facts = _facts(letter) | _contents(letter.fields)
    if as_json:
        print(json.dumps(facts))
        return
    for name, value in facts.items():
        text = json.dumps(value, indent=2, ensure_ascii=False) if isinstance(value, dict | list) else value
        print(f"{name:9} {'unknown' if text is None else text}")


async def replay(settings: Settings, ids: Sequence[str], *, as_json: bool) -> None:
    """Put the dead letters with these ids back on the stream, or all of them without ids."""
    await _settle(settings, ids, "replayed", DeadLetters.replay, as_json=as_json)


async def drop(settings: Settings, ids: Sequence[str], *, as_json: bool) -> None:
    """Give up the dead letters with these ids, or all of them without ids."""
    await _settle(settings, ids, "dropped", DeadLetters.drop, as_json=as_json)


async def show_drop(url: str, ids: Sequence[str], *, as_json: bool) -> None:
    """Print which dead letters would be dropped."""
    async with DeadLetters(url) as letters:
        chosen = [letter async for letter in _chosen(letters, ids)]
    if as_json:
        print(json.dumps({"dropped": [], "would_drop": [letter.id for letter in chosen]}))
        return
    for letter in chosen:
        print(_line(letter))
    print(f"nothing dropped. With --yes these {len(chosen)} clicks are given up for good")


async def _settle(
    settings: Settings,
    ids: Sequence[str],
    done_word: str,
    do: Callable[[DeadLetters, DeadLetter], Awaitable[bool]],
    *,
    as_json: bool,
) -> None:
    """Replay or drop dead letters, then try the postbacks that wait for them."""
    assert settings.redis_url
    assert settings.postgres_dsn
    connection = await db.connect(settings.postgres_dsn)  # first: it may be away, and then nothing is done
    try:
        async with DeadLetters(settings.redis_url) as letters:
            done = [letter async for letter in _chosen(letters, ids) if await do(letters, letter)]
            postbacks = await _try_postbacks_again(connection, letters, done)
    finally:
        await connection.close()
    if as_json:
        print(json.dumps({done_word: [letter.id for letter in done], "postbacks_tried_again": postbacks}))
        return
    print(f"{done_word} {len(done)}")
    if postbacks:
        print(f"postbacks that waited for dead letters and are tried again: {postbacks}")


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


async def _chosen(letters: DeadLetters, ids: Sequence[str]) -> AsyncIterator[DeadLetter]:
    """All ids are looked up before the first change, so that a wrong id changes nothing."""
    if not ids:
        async for letter in letters.all():
            yield letter
    for letter in [await letters.get(id_) for id_ in dict.fromkeys(ids)]:
        yield letter


def _facts(letter: DeadLetter) -> dict[str, Any]:
    hash_ = letter.hash
    return {
        "id": letter.id,
        "died_at": _time(letter.millis),
        "reason": letter.reason,
        "hash": hash_,
        "minute": None if hash_ is None else _time(millis_of(hash_))[:-3],
        "entry": letter.entry,
    }


def _line(letter: DeadLetter) -> str:
    facts = _facts(letter)
    hash_, minute = facts["hash"] or "hash unknown", facts["minute"] or "minute unknown"
    return f"{facts['id']}  {facts['died_at']}  {hash_:32}  {minute:16}  {facts['reason']}"


def _contents(fields: dict[bytes, bytes]) -> dict[str, Any]:
    """The click by column names. A damaged record is shown in its raw pieces."""
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
        contents = orjson.loads(record[1:])
    except ValueError:
        contents = record[1:].decode(errors="backslashreplace")
    return {"version": record[0], "record": contents}


def _time(millis: int) -> str:
    """UTC. A time out of the calendar's range is shown as a number."""
    try:
        return f"{datetime.fromtimestamp(millis / 1000, UTC):%Y-%m-%d %H:%M:%S}"
    except (ValueError, OverflowError, OSError):
        return f"{millis} ms"
