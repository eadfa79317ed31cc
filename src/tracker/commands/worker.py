"""`tracker worker`: recorded clicks and postbacks into PostgreSQL."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

import uvloop

from tracker.commands.arguments import ELSEWHERE, add_slot
from tracker.processes.garbage import collect_rarely
from tracker.settings import Settings
from workers import worker

_SLOT = """\
Each worker needs a --slot of its own: what it has read and not stored yet is kept in the stream under that
number for its next start, and a second worker with the same number only waits until the first has ended.
"""


def add_arguments(parser: ArgumentParser) -> None:
    add_slot(parser, "workers")
    parser.epilog = _SLOT + ELSEWHERE


def run(settings: Settings, arguments: Namespace) -> int:
    collect_rarely()
    uvloop.run(worker.run(settings, arguments.slot))
    return 0
