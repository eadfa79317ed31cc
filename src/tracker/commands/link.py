"""`tracker link`: makes a tracking link and prints it."""

from __future__ import annotations

import asyncio
import json
from argparse import ArgumentParser, Namespace
from datetime import UTC, datetime, timedelta

from tracker.catalogue.tracking_links import make_link
from tracker.commands.arguments import add_json, whole
from tracker.domain.model import MAX_ID
from tracker.settings import Settings


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("offer", type=whole(1, MAX_ID), metavar="OFFER", help="its id")
    parser.add_argument("affiliate", type=whole(1, MAX_ID), metavar="AFFILIATE", help="its id")
    parser.add_argument("--url-id", type=whole(1, MAX_ID), metavar="N", help="id of the offer's landing page")
    parser.add_argument("--test", action="store_true", help="sign the link: its clicks are test clicks")
    parser.add_argument(
        "--valid-hours", type=whole(1, 8760), default=24, metavar="N", help="hours that --test is valid (24)"
    )
    add_json(parser)


def run(settings: Settings, arguments: Namespace) -> int:
    test_until = None
    if arguments.test:
        test_until = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=arguments.valid_hours)
    link = asyncio.run(
        make_link(settings, arguments.offer, arguments.affiliate, arguments.url_id, test_until)
    )
    if arguments.json:
        print(json.dumps({"link": link, "test_until": test_until and test_until.isoformat()}))
    else:
        print(link)
    return 0
