"""`tracker migrate`: applies the migrations that the database lacks."""

from __future__ import annotations

import asyncio
import json
from argparse import ArgumentParser, Namespace

from tracker.commands.arguments import add_json
from tracker.settings import Settings
from tracker.store.migrate import migrate


def add_arguments(parser: ArgumentParser) -> None:
    add_json(parser)


def run(settings: Settings, arguments: Namespace) -> int:
    assert settings.postgres_dsn
    applied = asyncio.run(migrate(settings.postgres_dsn))
    if arguments.json:
        print(json.dumps({"applied": applied}))
    else:
        print("\n".join(f"applied {name}" for name in applied) or "nothing to do")
    return 0
