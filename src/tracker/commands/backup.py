"""`tracker backup`: a copy of everything while the tracker runs."""

from __future__ import annotations

import asyncio
from argparse import ArgumentParser, Namespace
from pathlib import Path

from tracker.ops.backup.make import back_up
from tracker.settings import Settings

_ABOUT = """\
DIR appears when the backup is complete. Nothing stops meanwhile: clicks are still answered, and their way
into the table pauses for some milliseconds. Put the backup on another disk and keep it safe: it contains all
of your data, secrets included. Settings (TRACKER_…) and geo databases are not in it.
"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "directory", type=Path, metavar="DIR", help="the new directory. An existing one must be empty"
    )
    parser.epilog = _ABOUT


def run(settings: Settings, arguments: Namespace) -> int:
    print(f"{arguments.directory}: {asyncio.run(back_up(settings, arguments.directory))}")
    return 0
