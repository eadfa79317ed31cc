"""`tracker resume-sending`: sends postbacks and webhooks that a copy, a hold or a block held back."""

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
A database from `tracker restore` is a copy and sends no postbacks to affiliates and no webhooks, because
the original may still run or may have sent them already. They wait in the copy. Run this command when the
original has stopped: then the copy takes its place. Do not run it on a copy that is only for inspection or
tests. It also ends `tracker hold-sending`.

A postback that was waiting at the time of the backup may have been sent by the original since. The affiliate
then gets it twice. Postbacks that existed at the backup keep their Idempotency-Key, later ones do not. The
same applies to webhooks.
--drop-earlier gives up those from before the backup: each is logged as failed and can be sent again.

--affiliate ID is for one affiliate that was blocked or archived. Its postbacks are held meanwhile. Once it is
active again, this command sends them. An old status stays held if a newer one has been sent since.
"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="only show what would be sent")
    parser.add_argument(
        "--drop-earlier",
        action="store_true",
        help="do not send the postbacks that were sent or waiting before the backup",
    )
    parser.add_argument(
        "--affiliate",
        type=whole(1, 10**18 - 1),
        metavar="ID",
        help="send what was held while this affiliate was blocked",
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
            return ["nothing is held"]
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
            raise UserError(f"affiliate {id_} is blocked or archived. First run: {advice}") from None
        await affiliate_postbacks.send_held(connection, id_)
        after = {"held": held - number}
        await edit.note(
            connection, _AUTHOR, affiliate_postbacks.SENT, f"affiliates/{id_}", {"held": held}, after
        )
    lines = [f"{held:,} postbacks to affiliate {id_} are held"]
    if held > number:
        lines.append(f"{held - number:,} of them stay held: a later status has been sent since")
    return [*lines, "nothing was changed" if dry_run else f"{number:,} are sent now"]


def _report(backlog: Backlog, made_at: datetime, *, drops: bool) -> Iterator[str]:
    yield f"sending is held since {made_at:%Y-%m-%d %H:%M:%S} UTC (a backup's time, or that of hold-sending)"
    fate = "dropped" if drops else "sent, including those that the original has sent since"
    if backlog.webhooks:
        yield (
            f"{backlog.webhooks:,} requests to webhooks wait, {backlog.earlier_webhooks:,} of them of events "
            f"from before: {fate}"
        )
    if backlog.oldest is None or backlog.newest is None:
        yield "no postback to an affiliate waits"
        return
    span = f"{backlog.oldest:%Y-%m-%d %H:%M:%S} to {backlog.newest:%Y-%m-%d %H:%M:%S} UTC"
    yield f"{backlog.waiting:,} postbacks to {backlog.hosts:,} hosts wait, of changes from {span}"
    yield f"{backlog.earlier:,} of them are from before: {fate}"


def _end(*, dry_run: bool) -> str:
    return "nothing was changed" if dry_run else "sending is resumed"
