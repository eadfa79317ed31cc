"""`tracker backup`: a copy of everything while the tracker runs."""

from __future__ import annotations

import asyncio
from argparse import ArgumentParser, Namespace
from pathlib import Path

from tracker.commands.arguments import whole
from tracker.errors import UserError
from tracker.ops.backup import series
from tracker.ops.backup.make import back_up
from tracker.settings import Settings

_ABOUT = """\
DIR appears when the backup is complete. Nothing stops meanwhile: clicks are still answered, and their way
into the table pauses for some milliseconds. Put the backup on another disk and keep it safe: it contains all
of your data, secrets included. Settings (TRACKER_…) and geo databases are not in it.

With --keep it is for timers: DIR is a directory of backups, each named by its time. The new one is verified.
Then each backup is removed that has N newer verified ones. If the new one fails, nothing is removed.
"""
_MOST_KEPT = 10_000


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "directory", type=Path, metavar="DIR", help="the new directory. An existing one must be empty"
    )
    parser.add_argument(
        "--verify", action="store_true", help="also restore it on engines of its own, and compare its counts"
    )
    parser.add_argument(
        "--keep",
        type=whole(1, _MOST_KEPT),
        metavar="N",
        help="make a new backup in DIR, verify it, and keep the last N verified ones",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="with --keep: print what would be removed, and do nothing"
    )
    parser.epilog = _ABOUT


def run(settings: Settings, arguments: Namespace) -> int:
    if arguments.dry_run and arguments.keep is None:
        raise UserError("--dry-run needs --keep")
    if arguments.dry_run:
        print(_removed(arguments.directory, arguments.keep))
    elif arguments.keep is not None:
        print(asyncio.run(series.add(settings, arguments.directory, arguments.keep)))
    else:
        asyncio.run(_one(settings, arguments.directory, is_verified=arguments.verify))
    return 0


async def _one(settings: Settings, directory: Path, *, is_verified: bool) -> None:
    print(f"{directory}: {await back_up(settings, directory)}")
    if is_verified:
        await series.verify(settings, directory)


def _removed(directory: Path, keep: int) -> str:
    """The removals of the next run: after it, the new backup is one of those that are kept."""
    old = series.superfluous(directory, keep, coming=1)
    lines = [f"would remove {path}, after a new backup is verified" for path in old]
    return "\n".join(lines) or "would remove nothing"
