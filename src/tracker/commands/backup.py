"""`tracker backup`: a copy of everything, while it runs."""

from __future__ import annotations

import asyncio
from argparse import ArgumentParser, Namespace
from pathlib import Path

from tracker.ops.backup.make import back_up
from tracker.settings import Settings

_ABOUT = """\
DIR appears when the backup is whole. Nothing stops meanwhile: clicks are answered as ever, and their way into
the table pauses for some milliseconds. Put it on another disk, and keep it safe: it holds all of your data,
secrets included. Settings (TRACKER_…) and geo databases are not in it.
"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "directory", type=Path, metavar="DIR", help="is made; where it exists it must be empty"
    )
    parser.epilog = _ABOUT


def run(settings: Settings, arguments: Namespace) -> int:
    print(f"{arguments.directory}: {asyncio.run(back_up(settings, arguments.directory))}")
    return 0
