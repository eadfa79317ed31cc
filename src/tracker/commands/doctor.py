"""`tracker doctor`: finds problems and says how to fix them."""

from __future__ import annotations

import asyncio
import json
from argparse import ArgumentParser, Namespace
from typing import NamedTuple

from tracker.commands.arguments import add_json
from tracker.errors import UserError
from tracker.ops.doctor import report
from tracker.ops.upgrade import checks as upgrade
from tracker.ops.upgrade.concern import Concern
from tracker.settings import Settings
from tracker.store.db import Pool, connect, open_pool

_FIXED, _WOULD_BE_FIXED = "fixed", "would be fixed"


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--only", choices=report.TOPICS, help="check this alone")
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--upgrade", action="store_true", help="list the saved rows that this version treats differently"
    )
    what.add_argument("--fix", action="store_true", help="fix the rows that are safe to change")
    parser.add_argument(
        "--dry-run", action="store_true", help="with --fix: show what would be changed, and change nothing"
    )
    add_json(parser)


def run(settings: Settings, arguments: Namespace) -> int:
    if arguments.dry_run and not arguments.fix:
        raise UserError("--dry-run needs --fix")
    if arguments.upgrade or arguments.fix:
        return asyncio.run(_upgrade(settings, arguments))
    findings = asyncio.run(report.examine(settings, arguments.only))
    if arguments.json:
        print(json.dumps([finding._asdict() for finding in findings], indent=2))
    else:
        print("\n".join(map(str, findings)))
    return int(any(finding.level == "fail" for finding in findings))


class Line(NamedTuple):
    """The findings of one concern."""

    check: str
    where: str
    text: str
    can_fix: bool
    done: str = ""  # the result of the fix

    def __str__(self) -> str:
        mark = f"  [{self.done}]" if self.done else "  [can be fixed]" if self.can_fix else ""
        return f"{self.check:10}  {self.where}: {self.text}{mark}"


async def _upgrade(settings: Settings, arguments: Namespace) -> int:
    assert settings.postgres_dsn
    connection = await connect(
        settings.postgres_dsn
    )  # the time limit of a pool's statements is too short for all clicks
    try:
        concerns = await upgrade.concerns(connection)
    finally:
        await connection.close()
    pool = await open_pool(settings.postgres_dsn, size=1)
    try:
        lines = [
            await _line(pool, check, concern, arguments)
            for check, of_check in concerns.items()
            for concern in of_check
        ]
    finally:
        pool.terminate()
    if arguments.json:
        print(json.dumps([line._asdict() for line in lines], indent=2))
    else:
        print("\n".join([*map(str, lines), _summary(lines, arguments)]))
    return 0


async def _line(pool: Pool, check: str, concern: Concern, arguments: Namespace) -> Line:
    done = ""
    if concern.fix and arguments.fix:
        failed = await concern.fix(pool, arguments.dry_run)
        done = f"not fixed: {failed}" if failed else _WOULD_BE_FIXED if arguments.dry_run else _FIXED
    return Line(check, concern.where, concern.text, concern.fix is not None, done)


def _summary(lines: list[Line], arguments: Namespace) -> str:
    can_fix = sum(line.can_fix for line in lines)
    fixed = sum(line.done in (_FIXED, _WOULD_BE_FIXED) for line in lines)
    if arguments.fix:
        verb = _WOULD_BE_FIXED if arguments.dry_run else _FIXED
        return f"{fixed} of {can_fix} {verb}, {len(lines)} found in total"
    hint = ": see tracker doctor --fix --dry-run" if can_fix else ""
    return f"{len(lines)} found, {can_fix} can be fixed{hint}"
