"""The command line: `tracker …`. It finds the command, runs it, and says what went wrong in one line.

A command is the module of tracker.commands with its name, and only the one that is run is imported: an edge
that died is back the sooner for not loading what the API needs.
"""

from __future__ import annotations

import argparse
import errno
import os
import select
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module, metadata

from tracker.errors import UserError, print_error
from tracker.processes import logs
from tracker.processes.children import first_error
from tracker.processes.engines.engine import resolve
from tracker.settings import Settings, SettingsError
from tracker.store import db
from tracker.stream.reader import UNREACHABLE

COMMANDS = {
    "up": "run everything: engines, edge, API and worker",
    "edge": "serve tracking links and take postbacks on TRACKER_HOST:TRACKER_PORT",
    "api": "serve the API and its docs on TRACKER_HOST:TRACKER_API_PORT",
    "worker": "move recorded clicks and postbacks into PostgreSQL, until SIGTERM",
    "metrics": "serve what all processes count on TRACKER_METRICS_HOST:TRACKER_METRICS_PORT",
    "migrate": "bring the database up to date",
    "doctor": "look for what is amiss, in engines, catalogue, ledger and settings, and say what to do",
    "backup": "copy the embedded engines and the spool, while they run",
    "restore": "make a new TRACKER_DATA_DIR out of a backup",
    "resume-sending": "let a restored copy send postbacks to affiliates",
    "link": "make a tracking link and print it",
    "explain": "say what a tracking link would do, and why; nothing is recorded",
    "geo": "show the place of an IP address in the geo databases",
    "ledger": "show where every recorded click is, and name what does not balance",
    "dead-letters": "show, replay or drop clicks that could not be stored",
    "rebuild-stats": "count the clicks anew, and mend counts that differ",
    "postbacks": "show what advertisers called, and what became of it",
    "import": "move in: offers, affiliates, historic clicks and conversions",
    "orphans": "show hits that named no known offer or affiliate",
    "demo": "fill an empty catalogue with a small network to click through",
    "token": "make, show, rotate and revoke API tokens",
}
"""Each command, and what it is for."""

CATALOGUE = {
    "advertisers": "who pays for conversions",
    "postback-secrets": "what advertisers' postbacks prove themselves with",
    "status-words": "what advertisers' words for a status mean",
    "offers": "what is advertised",
    "offer-urls": "the pages that an offer's clicks go to",
    "offer-affiliates": "which affiliates an offer has approved",
    "free-values": "the texts of the macros {free_1} … {free_10}",
    "caps": "how much an offer takes in a period",
    "goals": "what an offer pays for",
    "goal-terms": "what a goal pays for an affiliate, in a country",
    "affiliates": "who brings clicks",
    "affiliate-postbacks": "where affiliates are told of their conversions",
    "blocks": "traffic that is not wanted",
    "bot-rules": "whom to call a bot",
    "tracking-hosts": "the hosts of tracking links",
    "link-forms": "links of another shape, as other trackers' are",
    "network": "where clicks go that nobody takes",
}
"""Each command of the module `catalogue`, and what it lists and changes."""

_STDOUT = 1  # its descriptor
_TELLS_ENGINES_APART = {"up", "backup", "restore"}
"""Gets the settings as they are given; the others find the addresses of embedded engines filled in."""

_EXAMPLES = """\
examples:
  tracker up                                    everything, with demo data, on ports 8000 to 8002
  TRACKER_PORT=9000 tracker up --edges 2        two edges that share port 9000; the API on 9001
  tracker token create --scope clicks:read      a token for the read API
  tracker link 3 513 --test                     a link of offer 3 for affiliate 513, to try it out
  tracker explain 'http://…/offer/3?affiliate_id=513' --ip 192.0.2.7
                                                what that link would do for a visitor, and why
  tracker geo lookup 81.2.69.142                where that address is, by the geo databases
  tracker offers add name='Puzzle Quest' advertiser_id=1
                                                a new offer; `tracker offers add --help` names its fields
  tracker doctor                                what is amiss, and what to do about it
  tracker ledger --verify 2026-11-24 2026-11-24 whether each click of that day is there, counted in the table
  tracker backup /mnt/other-disk/today          everything, copied while it runs
  tracker postbacks --result rejected           postbacks that made no conversion, and why
  tracker import catalogue --dry-run network.yaml
                                                what a file of offers and affiliates would change
  tracker dead-letters list                     clicks that could not be stored, and why

Every setting is a variable TRACKER_…; see docs/reference/settings.md.
Commands find the engines of TRACKER_DATA_DIR (./var).

exit codes:
  0   done
  1   failed, and one line on stderr says why; `tracker doctor`: something is amiss;
      `tracker ledger`: a minute does not balance; `tracker rebuild-stats --check`: a count differs;
      `tracker import`: the table differs from the file
  2   a word on the command line is wrong
  78  a TRACKER_… variable is wrong, and the line names it
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 1, or 78 where the settings are at fault.

    If nobody reads its output any more it ends by SIGPIPE, as `head` ends other programs.
    """
    try:
        try:
            return _run(argv)
        finally:
            for stream in (sys.stdout, sys.stderr):
                if stream is not None:
                    stream.flush()
    except BrokenPipeError:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python starts with it ignored, which sockets need
        os.kill(os.getpid(), signal.SIGPIPE)
        raise
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), _STDOUT)  # what is left goes nowhere
        return print_error(f"cannot write: {error.strerror}")


def _run(argv: Sequence[str] | None) -> int:
    words = sys.argv[1:] if argv is None else argv
    arguments = _parser(words).parse_args(words)
    logs.start()
    try:
        settings = Settings.from_env()
    except SettingsError as error:
        return print_error(str(error), os.EX_CONFIG)
    run: Callable[[Settings, argparse.Namespace], int] = arguments.run
    try:
        return run(settings if arguments.command in _TELLS_ENGINES_APART else resolve(settings), arguments)
    except KeyboardInterrupt:
        return print_error("interrupted")
    except Exception as error:
        first = first_error(error)
        is_ours = isinstance(first, BrokenPipeError) and _is_cut_off()
        if is_ours or (isinstance(first, OSError) and first.errno == errno.ENOSPC):
            raise first from None
        line = _explained(first, settings)
        if line is None:
            raise
        return print_error(line)


def _is_cut_off() -> bool:
    """Whether nobody reads what we print: else a broken pipe is that of a server."""
    printed = select.poll()
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError):  # closed, or replaced by one without a descriptor
            printed.register(stream.fileno(), 0)
    return any(event & select.POLLERR for _, event in printed.poll(0))


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    """Knows every command by name and purpose, and the arguments of those that occur in `words`."""
    parser = argparse.ArgumentParser(
        prog="tracker",
        description="A click tracker for affiliate networks.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"tracker {metadata.version('tracker')}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, purpose in (COMMANDS | CATALOGUE).items():
        command = commands.add_parser(name, help=purpose, description=f"{purpose[0].upper()}{purpose[1:]}.")
        if name in words:
            module = import_module(f"tracker.commands.{module_of(name)}")
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    return parser


def module_of(command: str) -> str:
    return "catalogue" if command in CATALOGUE else command.replace("-", "_")


def _explained(error: BaseException, settings: Settings) -> str | None:
    """One line for the operator; None where it is a fault of ours, whose traceback we want to see."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, db.UNREACHABLE):
        why = str(error) or "it does not answer"
        if settings.postgres_dsn is None:
            return f"PostgreSQL cannot be reached ({why}); is `tracker up` running on this TRACKER_DATA_DIR?"
        return f"PostgreSQL cannot be reached ({why}); is TRACKER_POSTGRES_DSN right, and its server running?"
    if isinstance(error, UNREACHABLE):
        return f"the stream server cannot be reached ({error}); `tracker doctor` says more"
    if isinstance(error, db.REFUSED):
        whose = "" if settings.postgres_dsn is None else " on the database of TRACKER_POSTGRES_DSN"
        return f"PostgreSQL refuses: {error}; has `tracker migrate` been run{whose}?"
    return None
