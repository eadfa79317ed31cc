"""The command line: `tracker …`. It finds the command, runs it, and reports an error in one line.

A command is the module of tracker.commands with its name. Only the command that runs is imported: an edge
restarts faster if it does not load the API.
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
from importlib import import_module

from tracker.errors import UserError, print_error
from tracker.processes import logs
from tracker.processes.children import first_error
from tracker.processes.engines.engine import resolve
from tracker.processes.garbage import collect_no_imports
from tracker.settings import Settings, SettingsError
from tracker.store import db

COMMANDS = {
    "up": "run everything: engines, edge, API and worker",
    "edge": "serve tracking links and take postbacks on TRACKER_HOST:TRACKER_PORT",
    "api": "serve the API and its docs on TRACKER_HOST:TRACKER_API_PORT",
    "worker": "move recorded clicks and postbacks into PostgreSQL, until SIGTERM",
    "metrics": "serve the metrics of all processes on TRACKER_METRICS_HOST:TRACKER_METRICS_PORT",
    "migrate": "apply the migrations that the database lacks",
    "health": "show whether the processes of this data directory answer",
    "doctor": "check engines, catalogue, ledger and settings, and advise what to do",
    "backup": "copy the embedded engines and the spool while they run",
    "restore": "make a new TRACKER_DATA_DIR from a backup",
    "hold-sending": "send no postbacks to affiliates and no webhooks until resume-sending",
    "resume-sending": "send the held postbacks to affiliates and webhooks",
    "link": "make a tracking link and print it",
    "explain": "explain what a tracking link would do for a visitor (nothing is recorded)",
    "geo": "show the place of an IP address in the geo databases",
    "ledger": "show where every recorded click is, and which minutes do not balance",
    "spool": "take over the spool of a lost edge",
    "dead-letters": "show, replay or drop clicks that could not be stored",
    "rebuild-stats": "count the clicks again, and correct wrong counts",
    "retention": "drop the clicks of days before TRACKER_KEEP_DAYS, and keep their counts",
    "postbacks": "show the postbacks of advertisers and their results",
    "statements": "show what is owed to affiliates, and what advertisers owe",
    "manual-entries": "book bonuses, fees, chargebacks and payments",
    "corrections": "correct amounts of conversions",
    "import": "import offers, affiliates, historic clicks and conversions",
    "export": "write the catalogue, clicks or conversions as files that import reads",
    "conversions": "show conversions, or write all of them as a file",
    "reports": "count clicks and conversions in groups, such as by offer and day",
    "status-upload": "set the statuses of conversions from an advertiser's file",
    "period-close": "close the books of a period for good",
    "orphans": "show hits that named an unknown offer or affiliate",
    "demo": "fill the tracker with a small demo network, or with a made-up history",
    "token": "create, show, rotate and revoke API tokens",
    "users": "invite people, change their roles, and reset their passwords",
}
"""Each command and its purpose."""

CATALOGUE = {
    "advertisers": "the companies that pay for conversions",
    "postback-secrets": "the secrets that advertisers' postbacks carry",
    "status-words": "advertisers' own words for conversion statuses",
    "offers": "the campaigns that affiliates promote",
    "offer-urls": "the landing pages of an offer",
    "offer-affiliates": "the affiliates' approvals for an offer",
    "free-values": "the texts of the macros {free_1} … {free_10}",
    "caps": "the limits on an offer's clicks and conversions in a period",
    "goals": "the conversions that an offer pays for",
    "goal-terms": "an affiliate's or a country's own payout for a goal",
    "affiliates": "the partners that bring clicks",
    "affiliate-postbacks": "the URLs that report conversions to affiliates",
    "blocks": "unwanted traffic: addresses, affiliates, referrers",
    "bot-rules": "your own rules for what is a bot",
    "tracking-hosts": "the hosts of tracking links",
    "link-forms": "links in the shape of other trackers",
    "postback-forms": "postbacks in the shape of other trackers",
    "link-codes": "the codes of offers and affiliates in links of other trackers",
    "network": "the network's fallback URL for clicks that no offer takes",
}
"""Each command of the module `catalogue`, and the objects that it lists and changes."""

_STDOUT = 1  # the file descriptor of stdout
_TELLS_ENGINES_APART = {"up", "backup", "restore", "health"}
"""These commands get the settings unchanged. The others get the addresses of embedded engines filled in."""

_SERVICES = {"up", "edge", "api", "worker", "metrics"}
"""These commands run until they are stopped. Each line of their logs has its time.

They write below TRACKER_DATA_DIR as long as they run.
"""
_CLOSED = 0o066
"""The umask of services: others read and write no file or socket of theirs, and list no directory.

They may pass through directories: root's data directory lies on the way of the processes of other users.
"""

_EXAMPLES = """\
examples:
  tracker up                                    everything, with demo data, on ports 8000 to 8002
  TRACKER_PORT=9000 tracker up --edges 2        two edges that share port 9000, the API on 9001
  tracker token create --scope clicks:read      a token for the read API
  tracker link 3 513 --test                     a link of offer 3 for affiliate 513, to try it out
  tracker explain 'http://…/offer/3?affiliate_id=513' --ip 192.0.2.7
                                                the offer URL that a visitor would get, and why
  tracker geo lookup 81.2.69.142                where that address is, by the geo databases
  tracker offers add name='Puzzle Quest' advertiser_id=1
                                                a new offer (fields: `tracker offers add --help`)
  tracker doctor                                problems, each with advice
  tracker ledger --verify 2026-11-24 2026-11-24 check that every click of that day is stored
  tracker backup /mnt/other-disk/today          a copy of everything while it runs
  tracker postbacks --result rejected           postbacks that made no conversion, and why
  tracker import catalogue --dry-run network.yaml
                                                the changes that a file would make
  tracker export catalogue network.yaml         the catalogue as a file that can be imported again
  tracker conversions status=pending --from 2026-11-01
                                                conversions of this month that wait for a decision
  tracker reports --group-by offer,day --from 2026-11-01 --csv
                                                clicks and conversions of each offer, day by day
  tracker dead-letters list                     clicks that could not be stored, and why

Every setting is an environment variable TRACKER_… (see docs/reference/settings.md). Commands use the engines
of TRACKER_DATA_DIR (./var).

exit codes:
  0   done
  1   failed, with the reason in one line on stderr
      `tracker health`: a process does not answer
      `tracker doctor`: a problem was found
      `tracker ledger`: a minute does not balance
      `tracker rebuild-stats --check`: a count differs
      `tracker import`: the table differs from the file
      `tracker status-upload`: a line was not applied
  2   an argument on the command line is wrong
  78  a TRACKER_… variable is wrong, and the line names it
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, 1, or 78 if a setting is wrong.

    If nobody reads its output any more, it ends by SIGPIPE as `head` makes other programs end.
    """
    try:
        try:
            return _run(argv)
        finally:
            for stream in (sys.stdout, sys.stderr):
                if stream is not None:
                    stream.flush()
    except BrokenPipeError:
        signal.signal(
            signal.SIGPIPE, signal.SIG_DFL
        )  # Python ignores SIGPIPE at the start, and sockets need that
        os.kill(os.getpid(), signal.SIGPIPE)
        raise
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), _STDOUT)  # the rest of the output is dropped
        return print_error(f"cannot write: {error.strerror}")


def _run(argv: Sequence[str] | None) -> int:
    if argv is None:  # otherwise the process is not ours alone
        with collect_no_imports():
            arguments = _arguments(sys.argv[1:])
    else:
        arguments = _arguments(argv)
    logs.start()
    try:
        settings = Settings.from_env()
    except SettingsError as error:
        return print_error(str(error), os.EX_CONFIG)
    if argv is None and arguments.command in _SERVICES:
        os.umask(os.umask(_CLOSED) | _CLOSED)
        logs.start_service(arguments.command, settings.log_format)
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
        return logs.print_last(line)


def _arguments(words: Sequence[str]) -> argparse.Namespace:
    parser = _parser(words)
    arguments, unknown = parser.parse_known_args(words)
    if unknown:
        is_apart = any("=" in word and not word.startswith("-") for word in unknown)
        advice = ": FIELD=VALUE words stand together, before or after the options" if is_apart else ""
        parser.error(f"unrecognized arguments: {' '.join(unknown)}{advice}")
    return arguments


def _is_cut_off() -> bool:
    """Whether nobody reads our output. Otherwise a broken pipe is a server's."""
    printed = select.poll()
    for stream in (sys.stdout, sys.stderr):
        with suppress(
            AttributeError, OSError
        ):  # the stream is closed, or an object without a descriptor replaced it
            printed.register(stream.fileno(), 0)
    return any(event & select.POLLERR for _, event in printed.poll(0))


class _ShowVersion(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object, **__: object) -> None:
        from tracker.release import version  # 7 ms of each command's start, and few ask

        print(f"tracker {version()}")
        parser.exit()


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    """Knows every command by name and purpose, and the arguments of the commands in `words`."""
    parser = argparse.ArgumentParser(
        prog="tracker",
        description="A click tracker for affiliate networks.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_ShowVersion, nargs=0, help="show the version, and exit")
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
    """One line for the operator. None for a bug of ours: then the traceback is shown."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, db.UNREACHABLE):
        why = str(error) or "it does not answer"
        if settings.postgres_dsn is None:
            return f"PostgreSQL cannot be reached ({why}). Is `tracker up` running on this TRACKER_DATA_DIR?"
        return (
            f"PostgreSQL cannot be reached ({why}). Is TRACKER_POSTGRES_DSN right, and does its server run?"
        )
    from tracker.stream.reader import UNREACHABLE  # it loads Valkey's client, which most commands do without

    if isinstance(error, UNREACHABLE):
        return f"the stream server cannot be reached ({error}). Run `tracker doctor` for details"
    if isinstance(error, db.REFUSED):
        whose = "" if settings.postgres_dsn is None else " on the database of TRACKER_POSTGRES_DSN"
        return f"PostgreSQL refuses: {error}. Has `tracker migrate` been run{whose}?"
    return None
