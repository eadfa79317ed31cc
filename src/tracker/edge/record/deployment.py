"""The id of the deployment that a spool belongs to, in a file beside its segments.

The stream server has the id. It is made by the first edge that reaches a server without one. An emptied
server gets back the id that its edges know. So the spool of a lost edge can be told from that of another
deployment.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
from contextlib import suppress
from pathlib import Path

from tracker.stream.ledger import StreamLedger
from tracker.stream.reader import UNREACHABLE

logger = logging.getLogger(__name__)

FILE = "deployment"
"""The name of the file, in the directory of a spool."""
LOOK_SECONDS = 5.0
"""How often an edge looks whether the stream server has its id."""
_ID = re.compile(r"[0-9a-f]{16}")


def read_id(text: bytes) -> str | None:
    """The id in a file's text. None if it has none."""
    found = _ID.match(text.decode("ascii", "replace"))
    return found[0] if found else None


def known(directory: Path) -> str | None:
    """The id of an own spool. None before its edge has reached the stream."""
    with suppress(OSError):
        return read_id((directory / FILE).read_bytes())
    return None


async def keep(url: str, directory: Path) -> None:
    """Keep the same id on the stream server and in the directory, until cancelled."""
    async with StreamLedger(url) as stream:
        while True:
            try:
                await _note(stream, directory)
            except UNREACHABLE:
                pass
            except Exception:  # clicks do not depend on this: it must not end the edge
                logger.exception(
                    "the deployment's id cannot be kept in %(path)s",
                    {"event": "deployment_not_kept", "path": directory},
                )
            await asyncio.sleep(LOOK_SECONDS)


async def _note(stream: StreamLedger, directory: Path) -> None:
    before = await asyncio.to_thread(known, directory)
    id_ = await stream.deployment() or await stream.name_deployment(before)
    if id_ == before:
        return
    if before is not None:
        logger.warning(
            "spool: %(path)s was of the deployment %(before)s, and is of %(now)s now",
            {"event": "deployment_changed", "path": directory, "before": before, "now": id_},
        )
    await asyncio.to_thread(_write, directory, id_)


def _write(directory: Path, id_: str) -> None:
    new = directory / f"{FILE}.{os.getpid()}"
    new.write_text(f"{id_}\n")
    os.replace(new, directory / FILE)
