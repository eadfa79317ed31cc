"""`tracker retention`: drops old days of clicks now, or shows what would go."""

from __future__ import annotations

import asyncio
import json
import sys
from argparse import ArgumentParser, Namespace
from datetime import timedelta

from tracker.commands.arguments import add_json
from tracker.commands.author import author
from tracker.errors import UserError
from tracker.settings import Settings
from tracker.store import db, retention
from tracker.store.reports import rollups
from tracker.store.retention import Step

_ABOUT = """\
Workers do this by themselves, some days at a time. The command does all of it, and shows each day as it goes.
A day is counted first, and dropped only if its counts agree with its clicks. Counts, conversions and money
stay. The first day that must stay ends it, with exit code 1. Then a later run goes on from there. It is safe
while clicks are stored.

example: tracker retention --dry-run
"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--dry-run", action="store_true", help="check each day, and drop none: exit code 1 if one would stay"
    )
    add_json(parser)
    parser.epilog = _ABOUT


def run(settings: Settings, arguments: Namespace) -> int:
    if not settings.keep_days:
        raise UserError("TRACKER_KEEP_DAYS is not set: all days are kept")
    return asyncio.run(_run(settings, is_trial=arguments.dry_run, as_json=arguments.json))


async def _run(settings: Settings, *, is_trial: bool, as_json: bool) -> int:
    assert settings.postgres_dsn
    end, found = retention.end_of(settings.keep_days), list[Step]()
    connection = await db.connect(settings.postgres_dsn)
    try:
        await rollups.build_missing(connection)
        async for step in retention.steps(connection, end, is_trial=is_trial, author=author()):
            found.append(step)
            print(_as_json(step) if as_json else _in_words(step, is_trial=is_trial), flush=True)
    finally:
        await connection.close()
    going = [step for step in found if not step.why]
    words = "would be dropped" if is_trial else "were dropped"
    total = f"{sum(step.days for step in going)} days with {sum(step.clicks for step in going):,} clicks"
    print(f"tracker: {total} {words}: {end} is the first day to keep", file=sys.stderr)
    return int(len(going) < len(found))


def _in_words(step: Step, *, is_trial: bool) -> str:
    last = step.first_day + timedelta(days=step.days - 1)
    days = f"{step.first_day}" if step.days == 1 else f"{step.first_day} to {last}"
    fate = f"stays: {step.why}" if step.why else "its counts agree" if is_trial else "dropped"
    return f"{days}  {step.clicks:>12,} clicks  {step.bytes / 1e6:>10,.1f} MB  {fate}"


def _as_json(step: Step) -> str:
    return json.dumps(
        {
            "first_day": str(step.first_day),
            "days": step.days,
            "clicks": step.clicks,
            "bytes": step.bytes,
            "stays": step.why or None,
        }
    )
