"""`tracker status-upload`: the statuses in an advertiser's file, by the rules of the API."""

from __future__ import annotations

import asyncio
import json
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from pathlib import Path
from typing import Any

from tracker.api.conversions.status_upload import ENCODINGS, MAX_BODY, read_lines, summary
from tracker.api.http.problems import Problem
from tracker.commands.arguments import add_json
from tracker.commands.author import author
from tracker.errors import UserError
from tracker.settings import Settings
from tracker.store.conversions import manual
from tracker.store.db import open_pool

_STDIN = Path("-")
_MOST_SHOWN = 50

_ABOUT = """\
FILE is CSV with a header, or NDJSON. "-" is stdin. A line names a conversion by order_id, by hash (its own,
its click's, or its click's id in an earlier tracker) or by legacy_id (its own id in an earlier tracker):

  order_id,status,sale_status
  A-1001,approved,paid
  A-1002,declined,returned

goal_id, goal (a code or name) and advertiser_id tell conversions with the same order id apart. A status may
be a word that other platforms use, or one of `tracker status-words`. The file is one transaction: lines that
match no conversion, or are not allowed, are named, and the others are applied.

examples:
  tracker status-upload --dry-run october.csv
  tracker status-upload october.csv
"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.epilog, parser.formatter_class = _ABOUT, RawDescriptionHelpFormatter
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("--dry-run", action="store_true", help="show what would change, and change nothing")
    parser.add_argument(
        "--charset",
        choices=ENCODINGS,
        default="utf-8",
        help="if the file is not UTF-8, and has no byte order mark",
    )
    parser.add_argument("--source", metavar="NAME", help="the earlier tracker whose ids the file has")
    add_json(parser)


def run(settings: Settings, arguments: Namespace) -> int:
    body = _content(arguments.file)
    try:
        result = asyncio.run(_apply(settings, arguments, body))
    except Problem as problem:  # of the file as a whole
        (why, *_) = problem.errors.get("body", [problem.detail])
        raise UserError(f"{arguments.file}: {why}") from None
    print(json.dumps(result) if arguments.json else _in_words(result))
    return 1 if result["problems"] else 0


def _content(path: Path) -> bytes:
    try:
        with sys.stdin.buffer if path == _STDIN else path.open("rb") as file:
            body = file.read(MAX_BODY + 1)
    except OSError as error:
        raise UserError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    if len(body) > MAX_BODY:
        raise UserError(f"{path}: is longer than {MAX_BODY:,} bytes: split it")
    return body


async def _apply(settings: Settings, arguments: Namespace, body: bytes) -> dict[str, Any]:
    assert settings.postgres_dsn
    is_csv = not body.lstrip().startswith(b"{")
    lines, unreadable = read_lines(body, ENCODINGS[arguments.charset], is_csv)
    pool = await open_pool(settings.postgres_dsn, size=1)
    try:
        results = await manual.set_statuses(
            pool, lines, author().token_name, dry_run=arguments.dry_run, source=arguments.source
        )
    finally:
        pool.terminate()
    return summary(sorted([*results, *unreadable]), arguments.dry_run, shows_before=True)


def _in_words(result: dict[str, Any]) -> str:
    changes = [
        "line {line}: conversion {conversion_id}: {status_before} -> {status_after}".format_map(each)
        for each in result["changes"]
    ]
    problems = [f"line {each['line']}: {each['result']}: {each['reason']}" for each in result["problems"]]
    would_be = "would be " if result["dry_run"] else ""
    changed = f"{result['changed']} {would_be}changed, {result['unchanged']} had the status"
    left = f"{result['unmatched']} match no conversion, {result['refused']} are refused"
    return "\n".join([*_first(changes), *_first(problems), f"{result['lines']} lines: {changed}, {left}"])


def _first(lines: list[str]) -> list[str]:
    more = len(lines) - _MOST_SHOWN
    return lines if more <= 0 else [*lines[:_MOST_SHOWN], f"… and {more} more: --json has the first 1,000"]
