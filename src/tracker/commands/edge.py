"""`tracker edge`: tracking links."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from tracker.app import create_edge
from tracker.commands.arguments import ELSEWHERE, add_fd, add_slot
from tracker.commands.garbage import collect_rarely
from tracker.commands.serving import serve
from tracker.edge.http import LinkProtocol
from tracker.settings import Settings

_SLOT = """\
Each edge needs a --slot of its own: its metrics and its files in TRACKER_DATA_DIR go by that number, and two
edges with one number would write over each other's.
"""


def add_arguments(parser: ArgumentParser) -> None:
    add_slot(parser, "edges")
    add_fd(parser)
    parser.epilog = _SLOT + ELSEWHERE


def run(settings: Settings, arguments: Namespace) -> int:
    edge = create_edge(settings, arguments.slot)
    collect_rarely()
    return serve(edge, "TRACKER_PORT", settings.host, settings.port, arguments.fd, LinkProtocol)
