"""The command line: `tracker …`. It only reads arguments, calls, and says what went wrong in one line."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import shlex
import socket
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

import uvicorn
import uvloop

from tracker import doctor, ledger, links, supervisor
from tracker.api import create_api
from tracker.api.times import first_second, last_second, read_local, zone_named
from tracker.app import create_edge
from tracker.backup.files import BackupError, check
from tracker.backup.make import back_up
from tracker.backup.restore import restore
from tracker.children import CannotStart, first_error
from tracker.commands import dead_letters, rebuild_stats
from tracker.edge.geo import GeoReader
from tracker.embedded import resolve
from tracker.explain import Question, UnreadableUrl, explain, in_words
from tracker.model import MAX_ID
from tracker.protocol import BoundedProtocol
from tracker.settings import Settings, SettingsError
from tracker.store import pool
from tracker.store.demo import load_demo
from tracker.store.migrate import migrate
from tracker.store.tokens import SCOPES, create_token
from tracker.stream import orphans
from tracker.stream.dead_letters import NoSuchLetter
from tracker.stream.reader import UNREACHABLE
from workers import click_writer

KEEP_ALIVE_SECONDS = 75
"""How long a connection may idle: longer than a proxy keeps its own (60 s as a rule), so that it never writes
into one that is being closed."""
DRAIN_SECONDS = 10
"""How long an edge or the API may take to answer what it has accepted before it stops."""

_Arguments = argparse.Namespace
_Command = Callable[[Settings, _Arguments], int]

_EXAMPLES = """\
examples:
  tracker up                                    everything, with demo data, on ports 8000 and 8001
  TRACKER_PORT=9000 tracker up --edges 2        two edges that share port 9000; the API on 9001
  tracker token create --scope clicks:read      a token for the read API
  tracker link 3 513 --test                     a link of offer 3 for affiliate 513, to try it out
  tracker explain 'http://…/offer/3?affiliate_id=513' --ip 192.0.2.7
                                                what that link would do for a visitor, and why
  tracker doctor                                what is amiss, and what to do about it
  tracker ledger --verify 2026-11-24 2026-11-24 whether each click of that day is there, counted in the table
  tracker backup /mnt/other-disk/today          everything, copied while it runs
  tracker dead-letters list                     clicks that could not be stored, and why

Every setting is a variable TRACKER_…; see README.md. Commands find the engines of TRACKER_DATA_DIR (./var).

exit codes:
  0   done
  1   failed, and one line on stderr says why; `tracker doctor`: something is amiss;
      `tracker ledger`: a minute does not balance; `tracker rebuild-stats --check`: a count differs
  2   a word on the command line is wrong
  78  a TRACKER_… variable is wrong, and the line names it
"""

_ELSEWHERE = """\
A part on another machine than the engines needs TRACKER_REDIS_URL and TRACKER_POSTGRES_DSN: without them it
looks for the embedded engines under its own TRACKER_DATA_DIR.
"""
_EDGE_SLOT = """\
Each edge needs a --slot of its own: its metrics and its files in TRACKER_DATA_DIR go by that number, and two
edges with one number would write over each other's.
"""
_WORKER_SLOT = """\
Each worker needs a --slot of its own: what it has read and not stored yet is kept in the stream under that
number for its next start, and a second worker with the same number only waits until the first has ended.
"""
_BACKUP = """\
DIR appears when the backup is whole. Nothing stops meanwhile: clicks are answered as ever, and their way into
the table pauses for some milliseconds. Put it on another disk, and keep it safe: it holds all of your data,
secrets included. Settings (TRACKER_…) and geo databases are not in it.
"""
_RESTORE = """\
Checks the backup first. TRACKER_DATA_DIR must not exist yet, or be empty: nothing is ever overwritten.
"""
_DEAD_LETTERS = """\
An entry that no writer can store is set aside with the reason, and the rest of its batch is stored. Replay it
when what stood in the way has been mended; one that fails again is a dead letter again, under a new id. Both
replay and drop keep the ledger: a dropped click stays counted, as given up.
"""
_REBUILD_STATS = """\
The counts per quarter-hour and minute are made in the transaction that stores a click; this makes them anew
out of the clicks, a day at a time, and says on stderr how far it is. Safe while clicks are stored: writers
wait only while the wrong counts of a day are written.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 1, or 78 where the settings are at fault."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    try:
        settings = Settings.from_env()
    except SettingsError as error:
        return _fail(str(error), os.EX_CONFIG)
    command: _Command = arguments.command
    try:
        return command(resolve(settings) if arguments.resolved else settings, arguments)
    except KeyboardInterrupt:
        return _fail("interrupted")
    except Exception as error:
        line = _explained(first_error(error), settings)
        if line is None:
            raise
        return _fail(line)


def _explained(error: BaseException, settings: Settings) -> str | None:
    """One line for the operator; None where it is a fault of ours, whose traceback we want to see."""
    if isinstance(error, CannotStart | BackupError | links.LinkError | NoSuchLetter | UnreadableUrl):
        return str(error)
    if isinstance(error, pool.UNREACHABLE):
        why = str(error) or "it does not answer"
        if settings.postgres_dsn is None:
            return f"PostgreSQL cannot be reached ({why}); is `tracker up` running on this TRACKER_DATA_DIR?"
        return f"PostgreSQL cannot be reached ({why}); is TRACKER_POSTGRES_DSN right, and its server running?"
    if isinstance(error, UNREACHABLE):
        return f"the stream server cannot be reached ({error}); `tracker doctor` says more"
    if isinstance(error, pool.REFUSED):
        whose = "" if settings.postgres_dsn is None else " on the database of TRACKER_POSTGRES_DSN"
        return f"PostgreSQL refuses: {error}; has `tracker migrate` been run{whose}?"
    return None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tracker",
        description="A click tracker for affiliate networks.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"tracker {metadata.version('tracker')}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_parts(commands)
    _add_chores(commands)
    return parser


class _Commands(Protocol):
    """What add_subparsers returns, as far as it is used here."""

    def add_parser(self, name: str, *, help: str, description: str) -> argparse.ArgumentParser: ...  # noqa: A002


def _add_parts(commands: _Commands) -> None:
    up = _add(commands, "up", _up, "run everything: engines, edge, API and worker", resolved=False)
    up.add_argument(
        "--edges", type=_whole(1, 256), default=1, metavar="N", help="edges that share the port (1)"
    )
    up.add_argument("--no-demo", action="store_true", help="start with an empty catalogue")
    edge = _add(commands, "edge", _edge, "serve tracking links on TRACKER_HOST:TRACKER_PORT")
    api = _add(commands, "api", _api, "serve the API and its docs on TRACKER_HOST:TRACKER_API_PORT")
    worker = _add(commands, "worker", _worker, "move recorded clicks into PostgreSQL, until SIGTERM")
    for part, others in ((edge, "edges"), (worker, "workers")):
        part.add_argument(
            "--slot",
            type=_whole(0, 9999),
            default=0,
            metavar="N",
            help=f"its own number among all {others} (0)",
        )
    edge.epilog, api.epilog, worker.epilog = _EDGE_SLOT + _ELSEWHERE, _ELSEWHERE, _WORKER_SLOT + _ELSEWHERE
    for part in (edge, api):
        part.add_argument(
            "--fd", type=_whole(0, 1 << 20), metavar="N", help="serve this inherited listening socket"
        )


def _add_chores(commands: _Commands) -> None:
    chore = _add(commands, "migrate", _migrate, "bring the database up to date")
    chore.add_argument("--json", action="store_true", help="print JSON")
    chore = _add(
        commands,
        "doctor",
        _doctor,
        "check engines, durability, clock, catalogue, ledger, settings, geo and disk",
    )
    chore.add_argument("--only", choices=doctor.TOPICS, help="check this alone")
    chore.add_argument("--json", action="store_true", help="print JSON")
    _add_backups(commands)
    _add_link(commands)
    _add_explain(commands)
    _add_ledger(commands)
    _add_dead_letters(commands)
    _add_rebuild_stats(commands)
    orphans_ = _add(commands, "orphans", _orphans, "show hits that named no known offer or affiliate")
    orphans_.add_argument(
        "--count", type=_whole(1, orphans.KEPT), default=50, metavar="N", help="the latest so many (50)"
    )
    orphans_.add_argument("--json", action="store_true", help="print JSON, one object a line")
    _add(commands, "demo", _demo, "fill an empty catalogue with a small network to click through")
    tokens = commands.add_parser("token", help="make API tokens", description="Make API tokens.")
    create = _add(
        tokens.add_subparsers(metavar="COMMAND", required=True),
        "create",
        _token,
        "make a token and print it, once",
    )
    create.add_argument(
        "--scope", action="append", required=True, choices=SCOPES, help="repeatable: what it may do"
    )
    create.add_argument("--name", default="", help="what it is for")
    create.add_argument("--expires-in", type=_whole(1, 36_500), metavar="DAYS", help="never, unless given")


def _add_backups(commands: _Commands) -> None:
    backup = _add(
        commands, "backup", _backup, "copy the embedded engines and the spool, while they run", resolved=False
    )
    backup.add_argument(
        "directory", type=Path, metavar="DIR", help="is made; where it exists it must be empty"
    )
    restore_ = _add(
        commands, "restore", _restore, "make a new TRACKER_DATA_DIR out of a backup", resolved=False
    )
    restore_.add_argument("directory", type=Path, metavar="DIR", help="the backup")
    restore_.add_argument("--check", action="store_true", help="only read it, and say whether it is whole")
    backup.epilog, restore_.epilog = _BACKUP, _RESTORE


def _add_explain(commands: _Commands) -> None:
    parser = _add(
        commands, "explain", _explain, "say what a tracking link would do, and why; nothing is recorded"
    )
    parser.add_argument("url", metavar="URL", help="the whole tracking link, in quotes")
    parser.add_argument("--ip", default="", help="the visitor's address")
    parser.add_argument("--ua", default="", metavar="USER_AGENT", help="the visitor's User-Agent")
    parser.add_argument("--language", default="", help="the visitor's Accept-Language")
    parser.add_argument("--referrer", default="", help="the page that the link stands on")
    parser.add_argument(
        "--at",
        type=_moment,
        metavar="TIME",
        help="when, such as 2026-12-24T18:00:00+01:00 (now; UTC if not said)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def _add_ledger(commands: _Commands) -> None:
    parser = _add(
        commands, "ledger", _ledger, "show where every recorded click is, and name what does not balance"
    )
    for option, otherwise in (("--from", "an hour before --to"), ("--to", "now")):
        parser.add_argument(
            option, type=_local, metavar="TIME", help=f"2026-11-24, or with 18:00:00 ({otherwise})"
        )
    parser.add_argument(
        "--verify",
        nargs=2,
        type=_local,
        metavar=("FROM", "TO"),
        help="of this time instead, and count the rows of the click table too",
    )
    parser.add_argument(
        "--tz", type=_zone, metavar="ZONE", help="the times' IANA time zone (TRACKER_TIME_ZONE, or UTC)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--forget-edge",
        metavar="SLOT",
        help="wait no longer for an edge whose disk is lost: it holds Complete-Until back",
    )


def _local(text: str) -> str:
    try:
        read_local(text, is_end=False)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} {error}") from error
    return text


def _zone(text: str) -> tzinfo:
    try:
        return zone_named(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} {error}") from error


def _add_dead_letters(commands: _Commands) -> None:
    purpose = "show, replay or drop clicks that could not be stored"
    letters = commands.add_parser("dead-letters", help=purpose, description=f"{purpose.capitalize()}.")
    letters.epilog = _DEAD_LETTERS
    words = letters.add_subparsers(metavar="COMMAND", required=True)
    listing = _add(words, "list", _list_dead_letters, "one line for each: id, when, hash, minute, reason")
    show = _add(words, "show", _show_dead_letter, "show all of one, as far as it can be read")
    show.add_argument("id", metavar="ID", help="as the list has it")
    replay = _add(words, "replay", _replay_dead_letters, "put them back on the stream, to be stored")
    drop = _add(words, "drop", _drop_dead_letters, "give them up for good; without --yes only say which")
    drop.add_argument("--yes", action="store_true", help="really drop them")
    for parser in (replay, drop):
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("ids", nargs="*", default=[], metavar="ID", help="as the list has it")
        which.add_argument("--all", action="store_true", help="all that are there now")
    for parser in (listing, show, replay, drop):
        parser.add_argument("--json", action="store_true", help="print JSON")


def _add_rebuild_stats(commands: _Commands) -> None:
    parser = _add(
        commands, "rebuild-stats", _rebuild_stats, "count the clicks anew, and mend counts that differ"
    )
    parser.add_argument(
        "--check", action="store_true", help="only name the counts that differ; exit code 1 if any does"
    )
    parser.add_argument(
        "--from", dest="first", type=_day, default=date.min, metavar="DATE", help="first day (UTC)"
    )
    parser.add_argument(
        "--to", dest="last", type=_day, default=date.max, metavar="DATE", help="last day (UTC)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.epilog = _REBUILD_STATS


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no day such as 2026-12-24") from error


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no time such as 2026-12-24T18:00:00+01:00") from error
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    if moment.timestamp() < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is before 1970")
    return moment


def _add_link(commands: _Commands) -> None:
    link = _add(commands, "link", _link, "make a tracking link and print it")
    link.add_argument("offer", type=_whole(1, MAX_ID), metavar="OFFER", help="its id")
    link.add_argument("affiliate", type=_whole(1, MAX_ID), metavar="AFFILIATE", help="its id")
    link.add_argument("--url-id", type=_whole(1, MAX_ID), metavar="N", help="lead to this URL of the offer")
    link.add_argument("--test", action="store_true", help="sign it: its clicks are test clicks")
    link.add_argument(
        "--valid-hours", type=_whole(1, 8760), default=24, metavar="N", help="how long --test holds (24)"
    )
    link.add_argument("--json", action="store_true", help="print JSON")


def _add(
    commands: _Commands, name: str, command: _Command, purpose: str, *, resolved: bool = True
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=purpose, description=f"{purpose[0].upper()}{purpose[1:]}.")
    parser.set_defaults(command=command, resolved=resolved)
    return parser


def _whole(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit()) or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {low} to {high}")
        return int(text)

    return read


def _up(settings: Settings, arguments: _Arguments) -> int:
    asyncio.run(supervisor.up(settings, edges=arguments.edges, demo=not arguments.no_demo))
    return 0


def _edge(settings: Settings, arguments: _Arguments) -> int:
    return _serve(
        create_edge(settings, arguments.slot), settings, "TRACKER_PORT", settings.port, arguments.fd
    )


def _api(settings: Settings, arguments: _Arguments) -> int:
    return _serve(create_api(settings), settings, "TRACKER_API_PORT", settings.api_port, arguments.fd)


def _serve(app: Any, settings: Settings, variable: str, port: int, fd: int | None) -> int:
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=BoundedProtocol,
        lifespan="on",
        proxy_headers=False,  # whom to believe is TRACKER_TRUSTED_PROXIES
        server_header=False,
        access_log=False,
        log_config=None,  # its lines go where ours go, and look like them
        log_level="warning",
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=DRAIN_SECONDS,
    )
    listening = supervisor.listen(variable, settings.host, port) if fd is None else _inherited(fd)
    server = uvicorn.Server(config)
    server.run(sockets=[listening])
    return 0 if server.started else 1


def _inherited(fd: int) -> socket.socket:
    try:
        return socket.socket(fileno=fd)
    except OSError as error:
        raise CannotStart(f"--fd: {fd} is no open socket: {error.strerror}") from error


def _worker(settings: Settings, arguments: _Arguments) -> int:
    uvloop.run(click_writer.run(settings, arguments.slot))
    return 0


def _migrate(settings: Settings, arguments: _Arguments) -> int:
    assert settings.postgres_dsn
    applied = asyncio.run(migrate(settings.postgres_dsn))
    if arguments.json:
        print(json.dumps({"applied": applied}))
    else:
        print("\n".join(f"applied {name}" for name in applied) or "nothing to do")
    return 0


def _doctor(settings: Settings, arguments: _Arguments) -> int:
    findings = asyncio.run(doctor.examine(settings, arguments.only))
    if arguments.json:
        print(json.dumps([finding._asdict() for finding in findings], indent=2))
    else:
        print("\n".join(map(str, findings)))
    return int(any(finding.level == "fail" for finding in findings))


def _backup(settings: Settings, arguments: _Arguments) -> int:
    print(f"{arguments.directory}: {asyncio.run(back_up(settings, arguments.directory))}")
    return 0


def _restore(settings: Settings, arguments: _Arguments) -> int:
    if arguments.check:
        print(f"{arguments.directory} is whole: {check(arguments.directory)}")
        return 0
    restored = asyncio.run(restore(settings, arguments.directory))
    print(f"{settings.data_dir} is as of {restored}")
    print(f"next: TRACKER_DATA_DIR={shlex.quote(str(settings.data_dir))} tracker up")
    return 0


def _token(settings: Settings, arguments: _Arguments) -> int:
    assert settings.postgres_dsn
    days = arguments.expires_in
    expires_at = None if days is None else datetime.now(UTC) + timedelta(days=days)
    print(asyncio.run(create_token(settings.postgres_dsn, arguments.scope, arguments.name, expires_at)))
    return 0


def _explain(settings: Settings, arguments: _Arguments) -> int:
    at: datetime = arguments.at or datetime.now(UTC)
    question = Question(
        arguments.url,
        arguments.ip,
        arguments.ua,
        arguments.language,
        arguments.referrer,
        int(at.timestamp() * 1000),
    )
    geo = GeoReader(settings.geoip_db)
    try:
        told = asyncio.run(explain(settings, geo, question))
    finally:
        geo.close()
    print(json.dumps(told, indent=2) if arguments.json else in_words(told))
    return 0


def _orphans(settings: Settings, arguments: _Arguments) -> int:
    assert settings.redis_url
    for orphan in asyncio.run(orphans.read(settings.redis_url, arguments.count)):
        if arguments.json:
            print(json.dumps(orphan._asdict()))
        else:
            at = datetime.fromtimestamp(orphan.millis / 1000, UTC)
            print(f"{at:%Y-%m-%d %H:%M:%S}  {orphan.why:17}  {orphan.requested_link}")
    return 0


def _ledger(settings: Settings, arguments: _Arguments) -> int:
    if arguments.forget_edge is not None:
        return _forget_edge(settings, arguments.forget_edge)
    zone = arguments.tz or zone_named(settings.time_zone)
    if arguments.verify and (getattr(arguments, "from") or arguments.to):
        return _fail("--verify has a FROM and a TO of its own: leave --from and --to out", 2)
    first, last = arguments.verify or (getattr(arguments, "from"), arguments.to)
    end = int(time.time()) if last is None else last_second(read_local(last, is_end=True), zone)
    start = end - 3600 if first is None else first_second(read_local(first, is_end=False), zone)
    try:
        minutes = ledger.minutes_between(start, end)
    except ValueError as error:
        return _fail(f"{first or last} {error}")
    told, complete_until = asyncio.run(ledger.ask(settings, minutes, verify=arguments.verify is not None))
    if arguments.json:
        print(json.dumps(ledger.as_json(told, zone, complete_until)))
    else:
        print(ledger.in_words(told, zone, complete_until))
    return int(bool(told.unbalanced))


def _forget_edge(settings: Settings, slot: str) -> int:
    try:
        spooled = asyncio.run(ledger.forget_edge(settings, slot))
    except LookupError as error:
        return _fail(str(error))
    lost = f"; {spooled} clicks in its spool are lost unless it runs again" if spooled else ""
    print(f"edge {slot} is forgotten{lost}")
    return 0


def _list_dead_letters(settings: Settings, arguments: _Arguments) -> int:
    assert settings.redis_url
    asyncio.run(dead_letters.list_(settings.redis_url, as_json=arguments.json))
    return 0


def _show_dead_letter(settings: Settings, arguments: _Arguments) -> int:
    assert settings.redis_url
    asyncio.run(dead_letters.show(settings.redis_url, arguments.id, as_json=arguments.json))
    return 0


def _replay_dead_letters(settings: Settings, arguments: _Arguments) -> int:
    assert settings.redis_url
    asyncio.run(dead_letters.replay(settings.redis_url, arguments.ids, as_json=arguments.json))
    return 0


def _drop_dead_letters(settings: Settings, arguments: _Arguments) -> int:
    assert settings.redis_url
    asyncio.run(
        dead_letters.drop(settings.redis_url, arguments.ids, really=arguments.yes, as_json=arguments.json)
    )
    return 0


def _rebuild_stats(settings: Settings, arguments: _Arguments) -> int:
    assert settings.postgres_dsn
    days = (arguments.first, arguments.last)
    if arguments.check:
        return int(
            bool(asyncio.run(rebuild_stats.check(settings.postgres_dsn, *days, as_json=arguments.json)))
        )
    asyncio.run(rebuild_stats.rebuild(settings.postgres_dsn, *days, as_json=arguments.json))
    return 0


def _demo(settings: Settings, _: _Arguments) -> int:
    assert settings.postgres_dsn
    loaded = asyncio.run(load_demo(settings.postgres_dsn))
    print("offers 1 to 5, affiliates 501 to 520" if loaded else "nothing to do: the catalogue has offers")
    return 0


def _link(settings: Settings, arguments: _Arguments) -> int:
    test_until = None
    if arguments.test:
        test_until = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=arguments.valid_hours)
    link = asyncio.run(
        links.make_link(settings, arguments.offer, arguments.affiliate, arguments.url_id, test_until)
    )
    if arguments.json:
        print(json.dumps({"link": link, "test_until": test_until and test_until.isoformat()}))
    else:
        print(link)
    return 0


def _fail(line: str, code: int = 1) -> int:
    print(f"tracker: {' '.join(line.split())}", file=sys.stderr)
    return code
