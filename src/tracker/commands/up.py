"""`tracker up`: the whole tracker in one terminal."""

from __future__ import annotations

import asyncio
from argparse import ArgumentParser, BooleanOptionalAction, Namespace

from tracker.commands.arguments import whole
from tracker.processes import up
from tracker.settings import Settings


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--edges", type=whole(1, 256), default=1, metavar="N", help="number of edges that share the port (1)"
    )
    parser.add_argument(
        "--demo",
        action=BooleanOptionalAction,
        help="load demo data into an empty database (default: only into the embedded database)",
    )


def run(settings: Settings, arguments: Namespace) -> int:
    asyncio.run(up.up(settings, edges=arguments.edges, demo=arguments.demo))
    return 0
