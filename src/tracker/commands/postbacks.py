"""`tracker postbacks`: the postbacks of advertisers and their results."""

from __future__ import annotations

import asyncio
import json
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from datetime import datetime, tzinfo
from typing import Any

from tracker.commands.arguments import add_json, text, whole
from tracker.domain.click_id import millis_of
from tracker.domain.local_time import first_second, read_local, zone_named
from tracker.domain.normalise import trim
from tracker.domain.postback import Result
from tracker.ops.explain import in_words
from tracker.ops.postback_trial import Trial, try_postback
from tracker.settings import Settings
from tracker.store import db
from tracker.store.conversions import postbacks as postback_log
from tracker.store.conversions.postbacks import Logged
from tracker.stream.postbacks import PostbackStream

_ABOUT = """\
One line each, newest first: time, result and reason, conversion, sender, and parameters. With --json it is
one object per line. Postbacks without a conversion are kept for 90 days. An edge answers success to every
readable postback, so look here for the reason of a rejection. Refused postbacks are shown with their request,
without secrets. The last 10,000 of them are kept.
"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.epilog = _ABOUT
    parser.add_argument(
        "--result", choices=list(Result), help="only postbacks with this result (default: all)"
    )
    parser.add_argument(
        "--since",
        type=_local,
        metavar="TIME",
        help="such as 2026-11-24 or 2026-11-24T18:00:00 (default: all times)",
    )
    parser.add_argument(
        "--count", type=whole(1, 100_000), default=50, metavar="N", help="show the latest N (50)"
    )
    parser.add_argument(
        "--unreadable",
        action="store_true",
        help="show the postbacks that no worker can read instead (docs/operations/health-and-failures.md)",
    )
    parser.add_argument(
        "--try",
        dest="url",
        metavar="URL",
        help="show instead what a GET of this URL would do now, and change nothing. - reads it from stdin",
    )
    parser.add_argument(
        "--ip", default="", metavar="ADDRESS", help="with --try: the address of the sender (default: unknown)"
    )
    add_json(parser)


def run(settings: Settings, arguments: Namespace) -> int:
    if arguments.url is not None:
        trial = asyncio.run(_tried(settings, arguments))
        print(json.dumps(trial) if arguments.json else in_words(trial))
        return 0
    zone = zone_named(settings.time_zone)
    if arguments.unreadable:
        rows = asyncio.run(_unreadable(settings, arguments.count))
    else:
        postbacks = asyncio.run(_logged(settings, zone, arguments))
        rows = [_as_row(row, zone) for row in postbacks]
    for row in rows:
        print(json.dumps(row) if arguments.json else _line(row))
    return 0


async def _tried(settings: Settings, arguments: Namespace) -> Trial:
    assert settings.postgres_dsn
    url = sys.stdin.readline() if arguments.url == "-" else text(arguments.url)
    connection = await db.connect(settings.postgres_dsn)
    try:
        return await try_postback(connection, trim(url), arguments.ip)
    finally:
        await connection.close()


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


def _as_row(postback: Logged, zone: tzinfo) -> dict[str, Any]:
    at = datetime.fromtimestamp(millis_of(postback.hash) / 1000, zone)
    return {"at": at.isoformat(timespec="milliseconds")} | postback._asdict()


def _line(row: dict[str, Any]) -> str:
    return "  ".join(json.dumps(value) if isinstance(value, dict) else str(value) for value in _shown(row))


def _shown(row: dict[str, Any]) -> list[Any]:
    if "record" in row:
        return list(row.values())
    result = f"{row['result']}: {row['reason']}" if row["reason"] else row["result"]
    conversion = f"conversion {row['conversion_id']}" if row["conversion_id"] else "no conversion"
    form = [f"form {row['form']}"] if row["form"] else []
    request = [row["request"]] if row["request"] else []
    meant = [row["read_as"]] if row["read_as"] else []
    return [
        row["at"],
        result,
        conversion,
        row["source"],
        row["ip"],
        *form,
        *request,
        row["parameters"],
        *meant,
    ]


def _local(text: str) -> str:
    try:
        read_local(text, is_end=False)
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} {error}") from error
    return text
