"""`tracker edge`: tracking links."""

from __future__ import annotations

import asyncio
from argparse import ArgumentParser, Namespace

from tracker.commands.arguments import ELSEWHERE, add_fd, add_slot
from tracker.edge.http.fast_path import LinkProtocol
from tracker.edge.record import identity
from tracker.edge.record.identity import EdgeId
from tracker.edge.record.slot_watch import SlotWatch
from tracker.processes.edge import create_edge
from tracker.processes.garbage import collect_rarely
from tracker.processes.serving import serve
from tracker.settings import Settings

_SLOT = """\
Each edge needs a --slot of its own, unique among all machines. The number names the edge's metrics and its
files in TRACKER_DATA_DIR. An edge does not start while another edge holds its slot.
"""


def add_arguments(parser: ArgumentParser) -> None:
    add_slot(parser, "edges")
    add_fd(parser)
    parser.epilog = _SLOT + ELSEWHERE


def run(settings: Settings, arguments: Namespace) -> int:
    with identity.held(settings.data_dir, arguments.slot) as edge:
        asyncio.run(_check_slot(settings, edge))
        app = create_edge(settings, edge)
        collect_rarely()
        return serve(
            app,
            "links",
            "TRACKER_PORT",
            settings.host,
            settings.port,
            arguments.fd,
            LinkProtocol,
            drain_seconds=settings.drain_seconds,
        )


async def _check_slot(settings: Settings, edge: EdgeId) -> None:
    """Check that no edge on another machine holds the slot.

    Raises:
        CannotStartError: another edge holds the slot.
    """
    assert settings.redis_url
    watch = SlotWatch(settings.redis_url, edge)
    try:
        await watch.check()
    finally:
        await watch.close()
