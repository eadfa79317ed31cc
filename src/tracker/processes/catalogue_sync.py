"""Keeps an edge's catalogue equal to Postgres."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from tracker.edge.catalogue.catalogue import Catalogue
from tracker.edge.catalogue.snapshot import keep
from tracker.settings import Settings
from tracker.store import db
from tracker.store.catalogue import read as stored_catalogue
from tracker.store.outages import Outages

logger = logging.getLogger(__name__)

_RELOAD_SECONDS = 300  # seconds between whole reloads, in case a notification is missed
_REBUILT_AT_ONCE = 200
_RETRY_SECONDS = 1


async def follow_catalogue(settings: Settings, catalogue: Catalogue, snapshot: Path) -> None:
    """Keep an edge's catalogue equal to Postgres forever.

    Each notification reloads one object. The whole catalogue is reloaded now and then.
    """
    assert settings.postgres_dsn
    outages = Outages(logger, "catalogue")
    while True:
        try:
            connection = await db.connect(settings.postgres_dsn)
            try:
                await _follow(connection, catalogue, snapshot)
            finally:
                connection.terminate()
        except (*db.UNREACHABLE, db.REFUSED) as error:
            outages.warn(error, "serving what is in memory")
        except Exception:
            logger.exception(
                "catalogue: cannot be read, so the edge serves what is in memory",
                {"event": "catalogue_unread"},
            )
        await asyncio.sleep(_RETRY_SECONDS)


async def _follow(connection: db.Connection, catalogue: Catalogue, snapshot: Path) -> None:
    changed: asyncio.Queue[str] = asyncio.Queue()
    await connection.add_listener(stored_catalogue.CHANNEL, lambda *objects: changed.put_nowait(objects[3]))
    connection.add_termination_listener(lambda _: changed.put_nowait(""))
    while True:
        secret = await stored_catalogue.visitor_secret(connection)
        await catalogue.load(secret, keep(snapshot, secret, stored_catalogue.read_all(connection)))
        try:
            async with asyncio.timeout(_RELOAD_SECONDS):
                while True:
                    await _rebuild(connection, catalogue, await _next(changed))
        except TimeoutError:
            continue


async def _next(changed: asyncio.Queue[str]) -> set[str]:
    """The changed objects since the last call, up to a limit: an import may change all of them."""
    objects = {await changed.get()}
    while len(objects) < _REBUILT_AT_ONCE and not changed.empty():
        objects.add(changed.get_nowait())
    return objects


async def _rebuild(connection: db.Connection, catalogue: Catalogue, objects: set[str]) -> None:
    if "" in objects:
        raise ConnectionError("the connection was closed")
    keys: dict[str, list[str]] = {}
    for object_ in objects:
        table, _, key = object_.partition(":")
        keys.setdefault(table, []).append(key)
    for table in stored_catalogue.TABLES:
        if table in keys:
            rows = dict(await stored_catalogue.read_some(connection, table, keys[table]))
            await catalogue.put_some(table, [(key, rows.get(key)) for key in keys[table]])
