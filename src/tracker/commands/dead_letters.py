"""`tracker dead-letters`: clicks that could not be stored. Read, replay or drop them."""

from __future__ import annotations

import asyncio
import json
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

from tracker.commands.arguments import add_json
from tracker.commands.author import author
from tracker.ops.dead_letters import Settle, chosen, contents, facts, settle
from tracker.settings import Settings
from tracker.store import db
from tracker.stream.dead_letters import DeadLetter, DeadLetters

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
            print(json.dumps(facts(letter)) if as_json else _line(letter))
    if not is_any and not as_json:
        print("no dead letters")


async def show(url: str, id_: str, *, as_json: bool) -> None:
    """Print one dead letter in full, or its readable parts."""
    async with DeadLetters(url) as letters:
        letter = await letters.get(id_)
    whole = facts(letter) | contents(letter)
    if as_json:
        print(json.dumps(whole))
        return
    for name, value in whole.items():
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
        would = [letter async for letter in chosen(letters, ids)]
    if as_json:
        print(json.dumps({"dropped": [], "would_drop": [letter.id for letter in would]}))
        return
    for letter in would:
        print(_line(letter))
    print(f"nothing dropped. With --yes these {len(would)} clicks are given up for good")


async def _settle(
    settings: Settings,
    ids: Sequence[str],
    done_word: str,
    do: Settle,
    *,
    as_json: bool,
) -> None:
    """Replay or drop dead letters, then try the postbacks that wait for them."""
    assert settings.redis_url
    assert settings.postgres_dsn
    connection = await db.connect(settings.postgres_dsn)  # first: it may be away, and then nothing is done
    try:
        async with DeadLetters(settings.redis_url) as letters:
            done = await settle(connection, letters, ids, do, author())
    finally:
        await connection.close()
    if as_json:
        again = done.postbacks_tried_again
        print(json.dumps({done_word: done.ids, "postbacks_tried_again": again}))
        return
    print(f"{done_word} {len(done.ids)}")
    if done.postbacks_tried_again:
        print(f"postbacks that waited for dead letters and are tried again: {done.postbacks_tried_again}")


def _line(letter: DeadLetter) -> str:
    known = facts(letter)
    hash_, minute = known["hash"] or "hash unknown", known["minute"] or "minute unknown"
    return f"{known['id']}  {known['died_at']}  {hash_:32}  {minute:16}  {known['reason']}"
