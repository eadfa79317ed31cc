"""`tracker spool`: takes over the spool of a lost edge."""

from __future__ import annotations

import asyncio
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from pathlib import Path

from tracker.commands.author import agrees, user_name
from tracker.errors import print_error, tell
from tracker.ops import ledger, spool_take
from tracker.ops.ledger import Silent
from tracker.ops.spool_take import Taken
from tracker.settings import Settings

_ABOUT = """\
A machine is lost, but its disk can be read: its edge may have left clicks in its spool. Make the disk
readable here, and name the spool's directory, or the TRACKER_DATA_DIR that it is in. The command checks each
segment, copies it into the spool of this TRACKER_DATA_DIR, and waits until all clicks are on the stream. Then
it notes in DIR that it is done. Nothing in DIR is deleted. It may be killed and repeated: each click is there
once.

Complete-Until waits for the lost edge until it is forgotten: the command asks that at its end, and
--forget-edge agrees to it.

examples:
  tracker spool take --dry-run /mnt/lost/var    what would be taken, and what is refused
  tracker spool take --forget-edge /mnt/lost/var
"""


def add_arguments(parser: ArgumentParser) -> None:
    words = parser.add_subparsers(dest="word", metavar="COMMAND", required=True)
    take = words.add_parser(
        "take",
        help="copy the clicks of a lost edge into the spool here, and put them on the stream",
        epilog=_ABOUT,
        formatter_class=RawDescriptionHelpFormatter,
    )
    take.add_argument("directory", type=Path, metavar="DIR", help="the spool of the lost edge")
    take.add_argument("--dry-run", action="store_true", help="check everything, and change nothing")
    take.add_argument(
        "--any-deployment",
        action="store_true",
        help="also take a spool that is of another deployment, or does not say of which",
    )
    take.add_argument(
        "--forget-edge", action="store_true", help="then stop waiting for the lost edge, without asking"
    )


def run(settings: Settings, arguments: Namespace) -> int:
    taken = asyncio.run(
        spool_take.take(
            settings,
            arguments.directory,
            user_name(),
            tell,
            is_dry=arguments.dry_run,
            any_deployment=arguments.any_deployment,
        )
    )
    print(_in_words(taken, is_dry=arguments.dry_run))
    if taken.refused:
        return print_error(
            f"{taken.refused} segments were refused: see the lines above. No edge is forgotten"
        )
    if not arguments.dry_run:
        for edge in sorted(taken.edges):
            has_run = "/" in edge  # a slot alone may be another edge's
            _forget(settings, edge, is_sure=arguments.forget_edge and has_run)
    return 0


def _in_words(taken: Taken, *, is_dry: bool) -> str:
    if not taken.segments:
        return "nothing to take"
    where = "would be taken" if is_dry else "are on the stream"
    return f"{taken.clicks:,} clicks of {taken.segments} segments {where}"


def _forget(settings: Settings, edge: str, *, is_sure: bool) -> None:
    """Forget an edge whose spool was taken, if it is still waited for and the operator agrees."""
    try:
        silent = asyncio.run(ledger.silent_edge(settings, edge))
    except LookupError as error:
        print(f"no edge is forgotten: {error}")
        return
    if is_sure or agrees(_question(silent)):
        asyncio.run(ledger.forget_edge(settings, silent.name))
        print(f"edge {silent.name} is forgotten")
    else:
        print(f"Complete-Until waits for it until: tracker ledger --forget-edge {silent.name} --yes")


def _question(silent: Silent) -> str:
    return f"Edge {silent.name} was last heard of at {ledger.rfc3339(silent.said_at)}. Stop waiting for it?"
