"""`tracker restore`: makes a new TRACKER_DATA_DIR from a backup."""

from __future__ import annotations

import asyncio
import shlex
from argparse import ArgumentParser, Namespace
from pathlib import Path

from tracker.ops.backup import series
from tracker.ops.backup.files import check
from tracker.ops.backup.restore import restore
from tracker.settings import Settings

_ABOUT = """\
Checks the backup first. TRACKER_DATA_DIR must not exist yet, or be empty: nothing is ever overwritten.
The restored tracker is a copy: it sends no postbacks to affiliates until `tracker resume-sending`.
"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("directory", type=Path, metavar="DIR", help="the backup")
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--check", action="store_true", help="only read the backup and report whether it is complete"
    )
    what.add_argument(
        "--drill",
        action="store_true",
        help="restore it into a temporary directory beside it, compare its counts and ledger, remove it",
    )
    parser.epilog = _ABOUT


def run(settings: Settings, arguments: Namespace) -> int:
    if arguments.check:
        print(f"{arguments.directory} is complete: {check(arguments.directory)}")
        return 0
    if arguments.drill:
        print(f"{arguments.directory} {asyncio.run(series.verify(settings, arguments.directory))}")
        return 0
    restored = asyncio.run(restore(settings, arguments.directory))
    print(f"{settings.data_dir} holds the state of {restored}")
    print("it sends no postbacks to affiliates until `tracker resume-sending`")
    print(f"next: TRACKER_DATA_DIR={shlex.quote(str(settings.data_dir))} tracker up")
    return 0
