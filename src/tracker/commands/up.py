"""`tracker up`: everything, in one terminal."""

from __future__ import annotations

import asyncio
from argparse import ArgumentParser, Namespace

from tracker import supervisor
from tracker.commands.arguments import whole
from tracker.settings import Settings


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--edges", type=whole(1, 256), default=1, metavar="N", help="edges that share the port (1)"
    )
    parser.add_argument("--no-demo", action="store_true", help="start with an empty catalogue")


def run(settings: Settings, arguments: Namespace) -> int:
    asyncio.run(supervisor.up(settings, edges=arguments.edges, demo=not arguments.no_demo))
    return 0
