"""The snapshot on local disk that an edge starts from while Postgres is down."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import orjson

from tracker.edge.catalogue.build import Row

logger = logging.getLogger(__name__)

Chunk = tuple[str, list[tuple[str, Row]]]
"""A table's name and some hundred of its objects by their keys, as store.catalogue.read returns them."""


async def keep(snapshot: Path, secret: bytes, chunks: AsyncIterator[Chunk]) -> AsyncIterator[Chunk]:
    """Pass a catalogue on, and write the snapshot that an edge starts from while Postgres is down.

    The file is replaced after the last row, so it is always whole. If the disk fails, the snapshot is lost
    and the catalogue is not.
    """
    lines = [orjson.dumps({"visitor_secret": secret.hex()})]
    async for table, chunk in chunks:
        lines.append(orjson.dumps([table, chunk]))
        yield table, chunk
    try:
        await asyncio.to_thread(_replace_file, snapshot, b"\n".join(lines))
    except OSError as error:
        logger.warning(
            "catalogue snapshot %(path)s cannot be written: %(cause)s",
            {"event": "snapshot_unwritten", "path": snapshot, "cause": error},
        )


def _replace_file(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.touch(mode=0o600)  # it holds the visitor secret
    fresh.write_bytes(content)
    fresh.replace(path)


async def parsed(lines: Iterable[bytes]) -> AsyncIterator[Chunk]:
    for line in lines:
        table, chunk = orjson.loads(line)
        yield table, [(key, row) for key, row in chunk]  # JSON has no tuples
