"""`tracker resume-sending`: sends affiliates what was held: in a restored copy, or while one was blocked."""

from __future__ import annotations

import asyncio
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from datetime import datetime

from tracker.commands.arguments import whole
from tracker.errors import UserError
from tracker.settings import Settings
from tracker.store.catalogue import edit
from tracker.store.catalogue.edit import Author
from tracker.store.conversions import affiliate_postbacks, sending
from tracker.store.conversions.sending import Backlog

_AUTHOR = Author(None, "resume-sending")

_ABOUT = """\
A database that `tracker restore` has made is a copy, and sends no postbacks to affiliates: the original may
still run, or may have sent them already. They wait meanwhile. Once the original runs no more, this command
lets the copy take its place. A copy to look at, or to try things out, is left as it is.

What was told before the backup and still waits here may have been sent by the original since. Affiliates then
get it twice. Postbacks that had been made by then carry the Idempotency-Key of before; the others do not.
--drop-earlier gives these up: each is in the log as failed, and can be fired again.

--affiliate ID is about one affiliate instead. What it is not told while it is blocked or archived is held.
Once it is active again, this sends what was held. An old status stays held where a newer one was sent since.
"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="only say what would be sent")
    parser.add_argument(
        "--drop-earlier", action="store_true", help="do not send what was told before the backup"
    )
    parser.add_argument(
        "--affiliate", type=whole(1, 10**18 - 1), metavar="ID", help="send what was held while it was blocked"
    )
    parser.epilog = _ABOUT


def run(settings: Settings, arguments: Namespace) -> int:
    resumed = _resumed if arguments.affiliate is None else _resumed_to_affiliate
    for line in asyncio.run(resumed(settings, arguments)):
        print(line)
    return 0


async def _resumed(settings: Settings, arguments: Namespace) -> list[str]:
    assert settings.postgres_dsn
    dry_run, drops = arguments.dry_run, arguments.drop_earlier
    async with sending.resuming(settings.postgres_dsn, dry_run=dry_run) as connection:
        made_at = await sending.copy_of(connection)
        if made_at is None:
            return ["nothing is held: this database is not a copy, or its sending has been resumed"]
        backlog = await sending.backlog(connection)
        await sending.resume(connection, drops_earlier=drops)
    return [*_report(backlog, made_at, drops=drops), _end(dry_run=dry_run)]


async def _resumed_to_affiliate(settings: Settings, arguments: Namespace) -> list[str]:
    assert settings.postgres_dsn
    id_, dry_run = arguments.affiliate, arguments.dry_run
    async with sending.resuming(settings.postgres_dsn, dry_run=dry_run) as connection:
        try:
            number, held = await affiliate_postbacks.count_held(connection, id_)
        except LookupError:
            raise UserError(f"there is no affiliate {id_}") from None
        except ValueError:
            advice = f"tracker affiliates set {id_} status=active is_archived=false"
            raise UserError(f"affiliate {id_} is blocked or archived; first: {advice}") from None
        await affiliate_postbacks.send_held(connection, id_)
        after = {"held": held - number}
        await edit.note(
            connection, _AUTHOR, affiliate_postbacks.SENT, f"affiliates/{id_}", {"held": held}, after
        )
    lines = [f"{held:,} postbacks to affiliate {id_} are held"]
    if held > number:
        lines.append(f"{held - number:,} of them stay held: a later status was sent since")
    return [*lines, "nothing was changed" if dry_run else f"{number:,} are sent now"]


def _report(backlog: Backlog, made_at: datetime, *, drops: bool) -> Iterator[str]:
    yield f"this database is a copy, restored from the backup of {made_at:%Y-%m-%d %H:%M:%S} UTC"
    if backlog.oldest is None or backlog.newest is None:
        yield "no postback to an affiliate waits"
        return
    span = f"{backlog.oldest:%Y-%m-%d %H:%M:%S} to {backlog.newest:%Y-%m-%d %H:%M:%S} UTC"
    yield f"{backlog.waiting:,} postbacks to {backlog.hosts:,} hosts wait, of changes from {span}"
    fate = "dropped" if drops else "sent, also where the original has sent them since"
    yield f"{backlog.earlier:,} of them were told before the backup: {fate}"


def _end(*, dry_run: bool) -> str:
    return "nothing was changed" if dry_run else "sending is resumed"
