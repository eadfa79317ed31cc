"""`tracker dead-letters`: what could not be stored, for an operator to read, replay or drop."""

from __future__ import annotations

import asyncio
import json
from argparse import ArgumentParser, Namespace
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from tracker.commands.arguments import add_json
from tracker.domain.click_id import millis_of
from tracker.settings import Settings
from tracker.stream.dead_letters import DeadLetter, DeadLetters
from tracker.stream.record import Undecodable, decode, read_answer

_ABOUT = """\
An entry that no writer can store is set aside with the reason, and the rest of its batch is stored. Replay it
when what stood in the way has been mended; one that fails again is a dead letter again, under a new id. Both
replay and drop keep the ledger: a dropped click stays counted, as given up.
"""


_WORDS = {
    "list": "one line for each: id, when, hash, minute, reason",
    "show": "show all of one, as far as it can be read",
    "replay": "put them back on the stream, to be stored",
    "drop": "give them up for good; without --yes only say which",
}


def add_arguments(parser: ArgumentParser) -> None:
    parser.epilog = _ABOUT
    words = parser.add_subparsers(dest="word", metavar="COMMAND", required=True)
    of = {
        name: words.add_parser(name, help=purpose, description=f"{purpose[0].upper()}{purpose[1:]}.")
        for name, purpose in _WORDS.items()
    }
    of["show"].add_argument("id", metavar="ID", help="as the list has it")
    of["drop"].add_argument("--yes", action="store_true", help="really drop them")
    for several in (of["replay"], of["drop"]):
        which = several.add_mutually_exclusive_group(required=True)
        which.add_argument("ids", nargs="*", default=[], metavar="ID", help="as the list has it")
        which.add_argument("--all", action="store_true", help="all that are there now")
    for word in of.values():
        add_json(word)


def run(settings: Settings, arguments: Namespace) -> int:
    assert settings.redis_url
    asyncio.run(_do(settings.redis_url, arguments))
    return 0


async def _do(url: str, arguments: Namespace) -> None:
    as_json: bool = arguments.json
    match arguments.word:
        case "list":
            await list_(url, as_json=as_json)
        case "show":
            await show(url, arguments.id, as_json=as_json)
        case "replay":
            await replay(url, arguments.ids, as_json=as_json)
        case "drop":
            await drop(url, arguments.ids, really=arguments.yes, as_json=as_json)


async def list_(url: str, *, as_json: bool) -> None:
    """Print one line for each."""
    is_any = False
    async with DeadLetters(url) as letters:
        async for letter in letters.all():
            is_any = True
            print(json.dumps(_facts(letter)) if as_json else _line(letter))
    if not is_any and not as_json:
        print("no dead letters")


async def show(url: str, id_: str, *, as_json: bool) -> None:
    """Print all of one, as far as it can be read."""
    async with DeadLetters(url) as letters:
        letter = await letters.get(id_)
    told = _facts(letter) | _contents(letter.fields)
    if as_json:
        print(json.dumps(told))
        return
    for name, value in told.items():
        text = json.dumps(value, indent=2, ensure_ascii=False) if isinstance(value, dict | list) else value
        print(f"{name:9} {'unknown' if text is None else text}")


async def replay(url: str, ids: Sequence[str], *, as_json: bool) -> None:
    """Put those of these ids back on the stream; all of them where none is named."""
    async with DeadLetters(url) as letters:
        done = await _each(_chosen(letters, ids), letters.replay)
    print(json.dumps({"replayed": done}) if as_json else f"replayed {len(done)}")


async def drop(url: str, ids: Sequence[str], *, really: bool, as_json: bool) -> None:
    """Give those of these ids up, or all where none is named; only says which, unless `really`."""
    async with DeadLetters(url) as letters:
        if really:
            done = await _each(_chosen(letters, ids), letters.drop)
            print(json.dumps({"dropped": done}) if as_json else f"dropped {len(done)}")
            return
        condemned = [letter async for letter in _chosen(letters, ids)]
    if as_json:
        print(json.dumps({"dropped": [], "would_drop": [letter.id for letter in condemned]}))
        return
    for letter in condemned:
        print(_line(letter))
    print(f"nothing dropped; with --yes these {len(condemned)} clicks are given up for good")


async def _chosen(letters: DeadLetters, ids: Sequence[str]) -> AsyncIterator[DeadLetter]:
    """Looked up before the first is touched, so that a wrong id changes nothing."""
    if not ids:
        async for letter in letters.all():
            yield letter
    for letter in [await letters.get(id_) for id_ in dict.fromkeys(ids)]:
        yield letter


async def _each(letters: AsyncIterator[DeadLetter], do: Callable[[DeadLetter], Awaitable[bool]]) -> list[str]:
    return [letter.id async for letter in letters if await do(letter)]


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
    """The click by the names of its columns; or else the pieces, as they are."""
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
    """UTC; far beyond all calendars as the number it is."""
    try:
        return f"{datetime.fromtimestamp(millis / 1000, UTC):%Y-%m-%d %H:%M:%S}"
    except (ValueError, OverflowError, OSError):
        return f"{millis} ms"
