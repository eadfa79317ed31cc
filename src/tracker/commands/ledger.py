"""`tracker ledger`: shows where every recorded click is."""

from __future__ import annotations

import asyncio
import json
import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from datetime import tzinfo

from tracker.commands.arguments import add_json
from tracker.commands.author import agrees
from tracker.domain.local_time import first_second, last_second, read_local, zone_named
from tracker.errors import print_error
from tracker.ops import ledger
from tracker.ops.doctor import balance
from tracker.settings import Settings


def add_arguments(parser: ArgumentParser) -> None:
    for option, otherwise in (("--from", "default: an hour before --to"), ("--to", "now")):
        parser.add_argument(
            option,
            type=_local,
            metavar="TIME",
            help=f"such as 2026-11-24 or 2026-11-24T18:00:00 ({otherwise})",
        )
    parser.add_argument(
        "--verify",
        nargs=2,
        type=_local,
        metavar=("FROM", "TO"),
        help="check this time instead, and also count the rows of the click table",
    )
    parser.add_argument(
        "--tz", type=_zone, metavar="ZONE", help="IANA time zone of the times (TRACKER_TIME_ZONE, or UTC)"
    )
    add_json(parser)
    parser.add_argument(
        "--forget-edge",
        metavar="EDGE",
        help="SLOT or SLOT/RUN: stop waiting for an edge whose disk is lost",
    )
    parser.add_argument("--yes", action="store_true", help="with --forget-edge: do not ask")


def run(settings: Settings, arguments: Namespace) -> int:
    if arguments.forget_edge is not None:
        return _forget_edge(settings, arguments.forget_edge, is_sure=arguments.yes)
    zone = arguments.tz or zone_named(settings.time_zone)
    if arguments.verify and (getattr(arguments, "from") or arguments.to):
        return print_error("--verify has a FROM and a TO of its own: leave --from and --to out", 2)
    first, last = arguments.verify or (getattr(arguments, "from"), arguments.to)
    end = int(time.time()) if last is None else last_second(read_local(last, is_end=True), zone)
    start = end - 3600 if first is None else first_second(read_local(first, is_end=False), zone)
    try:
        minutes = ledger.minutes_between(start, end)
    except ValueError as error:
        return print_error(f"{first or last} {error}")
    found, complete_until = asyncio.run(ledger.ask(settings, minutes, verify=arguments.verify is not None))
    if arguments.json:
        told = balance.as_json(found, int(time.time() * 1000))
        print(json.dumps(ledger.as_json(found, zone, complete_until) | told))
    else:
        print(ledger.in_words(found, zone, complete_until))
    return int(bool(found.unbalanced))


def _forget_edge(settings: Settings, edge: str, *, is_sure: bool) -> int:
    try:
        silent = asyncio.run(ledger.silent_edge(settings, edge))
        if not (is_sure or silent.leaves_nothing):
            print(
                f"edge {edge} was last heard of at {ledger.rfc3339(silent.said_at)}, with {silent.spooled:,} "
                "clicks in its spool. It may have spooled more since. If its disk can be read, take over its "
                "spool first: tracker spool take DIR"
            )
            if not agrees(f"Give up what is in the spool of edge {edge}?"):
                return print_error("nothing was changed: --yes agrees to it")
        spooled = asyncio.run(ledger.forget_edge(settings, edge))
    except LookupError as error:
        return print_error(str(error))
    lost = f". {spooled:,} clicks in its spool are lost unless it runs again" if spooled else ""
    print(f"edge {edge} is forgotten{lost}")
    return 0


def _local(text: str) -> str:
    try:
        read_local(text, is_end=False)
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} {error}") from error
    return text


def _zone(text: str) -> tzinfo:
    try:
        return zone_named(text)
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} {error}") from error
