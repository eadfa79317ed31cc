"""`tracker postbacks`: what advertisers called, and what became of it."""

from __future__ import annotations

import asyncio
import json
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from datetime import datetime, tzinfo
from typing import Any

from tracker.commands.arguments import add_json, whole
from tracker.domain.click_id import millis_of
from tracker.domain.local_time import first_second, read_local, zone_named
from tracker.settings import Settings
from tracker.store import db
from tracker.store.conversions import postbacks as postback_log
from tracker.store.conversions.apply_postback import Result
from tracker.store.conversions.postbacks import Logged
from tracker.stream.postbacks import PostbackStream

_ABOUT = """\
A line each, newest first: when it came, what became of it and why, its conversion, who sent it, and what it
said; of JSON an object a line. Those that came to nothing are kept for 90 days. An edge answers success to
all that it can read: what is wrong with one is told here. What it refused is told with the call that it was,
without secrets; the last 10,000 of these are kept.
"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.epilog = _ABOUT
    parser.add_argument("--result", choices=list(Result), help="those of which this became (all)")
    parser.add_argument("--since", type=_local, metavar="TIME", help="2026-11-24, or with 18:00:00 (ever)")
    parser.add_argument(
        "--count", type=whole(1, 100_000), default=50, metavar="N", help="the latest so many (50)"
    )
    parser.add_argument(
        "--unreadable",
        action="store_true",
        help="instead, what no worker can read, and why (docs/operations/health-and-failures.md)",
    )
    add_json(parser)


def run(settings: Settings, arguments: Namespace) -> int:
    zone = zone_named(settings.time_zone)
    if arguments.unreadable:
        told = asyncio.run(_unreadable(settings, arguments.count))
    else:
        logged = asyncio.run(_logged(settings, zone, arguments))
        told = [_told(one, zone) for one in logged]
    for one in told:
        print(json.dumps(one) if arguments.json else _line(one))
    return 0


async def _logged(settings: Settings, zone: tzinfo, arguments: Namespace) -> list[Logged]:
    assert settings.postgres_dsn
    since = 0
    if arguments.since:
        since = first_second(read_local(arguments.since, is_end=False), zone) * 1000
    connection = await db.connect(settings.postgres_dsn)
    try:
        return await postback_log.latest(connection, since, arguments.result, arguments.count)
    finally:
        await connection.close()


async def _unreadable(settings: Settings, count: int) -> list[dict[str, Any]]:
    assert settings.redis_url
    async with PostbackStream(settings.redis_url) as stream:
        return [
            {"id": id_.decode(), "reason": reason, "record": record.decode(errors="replace")}
            for (id_, record), reason in await stream.dead_letters(count)
        ]


def _told(logged: Logged, zone: tzinfo) -> dict[str, Any]:
    at = datetime.fromtimestamp(millis_of(logged.hash) / 1000, zone)
    return {"at": at.isoformat(timespec="milliseconds")} | logged._asdict()


def _line(told: dict[str, Any]) -> str:
    return "  ".join(json.dumps(one) if isinstance(one, dict) else str(one) for one in _shown(told))


def _shown(told: dict[str, Any]) -> list[Any]:
    if "record" in told:
        return list(told.values())
    become = f"{told['result']}: {told['reason']}" if told["reason"] else told["result"]
    made = f"conversion {told['conversion_id']}" if told["conversion_id"] else "no conversion"
    request = [told["request"]] if told["request"] else []
    return [told["at"], become, made, told["source"], told["ip"], *request, told["parameters"]]


def _local(text: str) -> str:
    try:
        read_local(text, is_end=False)
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} {error}") from error
    return text
