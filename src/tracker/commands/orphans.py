"""`tracker orphans`: hits that named an unknown offer or affiliate."""

from __future__ import annotations

import asyncio
import json
from argparse import ArgumentParser, Namespace
from datetime import UTC, datetime

from tracker.commands.arguments import whole
from tracker.settings import Settings
from tracker.stream import unmatched


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--count", type=whole(1, unmatched.KEPT), default=50, metavar="N", help="show the latest N (50)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, one object per line")


def run(settings: Settings, arguments: Namespace) -> int:
    assert settings.redis_url
    for orphan in asyncio.run(unmatched.read(settings.redis_url, arguments.count)):
        if arguments.json:
            print(json.dumps(orphan._asdict()))
        else:
            at = datetime.fromtimestamp(orphan.millis / 1000, UTC)
            print(f"{at:%Y-%m-%d %H:%M:%S}  {orphan.why:17}  {orphan.requested_link}")
    return 0
