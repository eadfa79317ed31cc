"""PostgreSQL's own programs, and the servers that a backup may use them with."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import DEVNULL, PIPE
from contextlib import suppress

from tracker.ops.backup.files import BackupError
from tracker.processes.engines import postgres
from tracker.settings import Settings


def check_embedded(settings: Settings) -> None:
    """Refuse servers that are not embedded.

    Raises:
        BackupError: a server is not embedded.
    """
    if settings.redis_url is not None or settings.postgres_dsn is not None:
        raise BackupError(
            "backup and restore are for the embedded engines: with servers of your own copy, in this order, "
            "the edges' spools, then Redis by its own means, then PostgreSQL with pg_dump or pg_basebackup: "
            "so a click that moves on meanwhile is copied twice, and never not at all; "
            "see docs/operations/backup.md"
        )


async def run(name: str, *arguments: str) -> None:
    """Run one of PostgreSQL's programs and wait for its end.

    Raises:
        BackupError: it failed. The message contains its error.
    """
    program = postgres.postgres_tool(name)
    process = await asyncio.create_subprocess_exec(
        program, *arguments, stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE
    )
    try:
        _, output = await process.communicate()
    except BaseException:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        raise
    if process.returncode != 0:
        raise BackupError(_complaint(output.decode(errors="replace")) or f"{name} failed")


def _complaint(output: str) -> str:
    """The first line that names an error. Details follow it."""
    lines = output.strip().splitlines()
    return next((line for line in lines if "error:" in line), lines[-1] if lines else "")
