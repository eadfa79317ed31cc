"""`tracker token`: API tokens."""

from __future__ import annotations

import asyncio
from argparse import ArgumentParser, Namespace
from datetime import UTC, datetime, timedelta

from tracker.commands.arguments import whole
from tracker.settings import Settings
from tracker.store.tokens import SCOPES, create_token


def add_arguments(parser: ArgumentParser) -> None:
    create = parser.add_subparsers(metavar="COMMAND", required=True).add_parser(
        "create", help="make a token and print it, once", description="Make a token and print it, once."
    )
    create.add_argument(
        "--scope", action="append", required=True, choices=SCOPES, help="repeatable: what it may do"
    )
    create.add_argument("--name", default="", help="what it is for")
    create.add_argument("--expires-in", type=whole(1, 36_500), metavar="DAYS", help="never, unless given")


def run(settings: Settings, arguments: Namespace) -> int:
    assert settings.postgres_dsn
    days = arguments.expires_in
    expires_at = None if days is None else datetime.now(UTC) + timedelta(days=days)
    print(asyncio.run(create_token(settings.postgres_dsn, arguments.scope, arguments.name, expires_at)))
    return 0
