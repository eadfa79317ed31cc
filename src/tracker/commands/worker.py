"""`tracker worker`: moves recorded clicks and postbacks into PostgreSQL."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

import uvloop

from tracker.commands.arguments import ELSEWHERE, add_slot
from tracker.processes.garbage import collect_rarely
from tracker.settings import Settings
from workers import worker

_SLOT = """\
Each worker needs a --slot of its own: the stream keeps its unstored entries under that number until
its next start. A second worker with the same number waits until the first has ended.
"""


def add_arguments(parser: ArgumentParser) -> None:
    add_slot(parser, "workers")
    parser.epilog = _SLOT + ELSEWHERE


def run(settings: Settings, arguments: Namespace) -> int:
    collect_rarely()
    uvloop.run(worker.run(settings, arguments.slot))
    return 0
