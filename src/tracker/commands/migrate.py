"""`tracker migrate`: applies the migrations that the database lacks, and distributes its clicks if asked."""

from __future__ import annotations

import asyncio
import json
from argparse import ArgumentParser, Namespace

from tracker.commands.arguments import add_json
from tracker.errors import UserError
from tracker.settings import Settings
from tracker.store.distribution import Distribution, distribute
from tracker.store.migrate import migrate


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--distributed", action="store_true", help="distribute the clicks over the nodes of a Citus cluster"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="with --distributed: say what it would do, and change nothing"
    )
    add_json(parser)


def run(settings: Settings, arguments: Namespace) -> int:
    assert settings.postgres_dsn
    if arguments.dry_run and not arguments.distributed:
        raise UserError("--dry-run needs --distributed")
    applied, made = asyncio.run(
        _run(settings.postgres_dsn, is_distributed=arguments.distributed, is_dry=arguments.dry_run)
    )
    if arguments.json:
        print(json.dumps({"applied": applied} | ({"distribution": made._asdict()} if made else {})))
    else:
        done = [f"applied {name}" for name in applied]
        done += [_in_words(made, is_dry=arguments.dry_run)] if made else []
        print("\n".join(done) or "nothing to do")
    return 0


async def _run(dsn: str, *, is_distributed: bool, is_dry: bool) -> tuple[list[str], Distribution | None]:
    if not is_distributed:
        return await migrate(dsn), None
    planned = await distribute(dsn, is_dry=True)  # a server that cannot do it gets no migrations either
    if is_dry:
        return [], planned
    return await migrate(dsn), await distribute(dsn)


def _in_words(made: Distribution, *, is_dry: bool) -> str:
    if made.is_there:
        return "clicks are distributed already"
    would = "would distribute" if is_dry else "distributed"
    return (
        f"{would} clicks by their hash: {made.shards} shards a partition, on {made.nodes} nodes. "
        "All other tables stay on the coordinator"
    )
