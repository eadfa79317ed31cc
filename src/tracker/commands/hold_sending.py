"""`tracker hold-sending`: a rehearsal sends no postbacks to affiliates and no webhooks."""

from __future__ import annotations

import asyncio
from argparse import ArgumentParser, Namespace
from datetime import UTC, datetime

from tracker.commands.author import author
from tracker.settings import Settings
from tracker.store import db
from tracker.store.catalogue import edit
from tracker.store.conversions import affiliate_postbacks, sending

_ABOUT = """\
Postbacks to affiliates and requests to webhooks wait from now on. Everything else works as usual. Use it for
a tracker that gets the links of a live one only to be compared with it. A running worker stops sending within
a second. Requests that are on their way still arrive.

`tracker resume-sending` sends what waits. If another tracker has told the affiliates already, do not resume:
throw the rehearsal away instead.
"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.epilog = _ABOUT


def run(settings: Settings, arguments: Namespace) -> int:
    print(asyncio.run(_held(settings)))
    return 0


async def _held(settings: Settings) -> str:
    assert settings.postgres_dsn
    connection = await db.connect(settings.postgres_dsn)
    try:
        async with connection.transaction():
            if since := await sending.copy_of(connection):
                return f"sending is held already, since {since:%Y-%m-%d %H:%M:%S} UTC"
            now = datetime.now(UTC)
            await sending.hold(connection, now)
            before, after = {"held_since": None}, {"held_since": now.isoformat()}
            await edit.note(connection, author(), affiliate_postbacks.SENT, "sending", before, after)
    finally:
        await connection.close()
    return "sending is held: postbacks to affiliates and webhooks wait until `tracker resume-sending`"
