"""`tracker token`: API tokens."""

from __future__ import annotations

import asyncio
import json
from argparse import ArgumentParser, ArgumentTypeError, Namespace, RawDescriptionHelpFormatter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

from tracker.commands.arguments import add_json, whole
from tracker.domain import normalise
from tracker.domain.access import BOUND_SCOPES, MEANINGS, SCOPES
from tracker.domain.model import MAX_ID
from tracker.domain.rates import read_rate
from tracker.errors import UserError
from tracker.settings import Settings
from tracker.store import tokens
from tracker.store.catalogue import edit
from tracker.store.catalogue.edit import Author, Row
from tracker.store.db import Connection, Pool, open_pool
from tracker.store.tokens import LONGEST_OVERLAP, OVERLAP, TOKENS, NewToken

_AUTHOR = Author(0, "tracker token")
_HOUR = timedelta(hours=1)

_MOST_LISTED = 100_000

_Act = Callable[[Pool, Namespace], Awaitable[None]]


def add_arguments(parser: ArgumentParser) -> None:
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, purpose: str, act: _Act) -> ArgumentParser:
        added = commands.add_parser(name, help=purpose, description=f"{purpose[0].upper()}{purpose[1:]}.")
        added.set_defaults(act=act)
        return added

    create = command("create", "create a token and print its secret once", _create)
    create.formatter_class = RawDescriptionHelpFormatter
    create.epilog = "scopes:\n" + "\n".join(f"  {scope:18} {meaning}" for scope, meaning in MEANINGS.items())
    _add_create_arguments(create)
    listing = command("list", "show the tokens that are not revoked", _list)
    listing.add_argument("--revoked", action="store_true", help="show the revoked tokens instead")
    add_json(listing)
    show = command("show", "show everything about one token", _show)
    rotate = command("rotate", "give a token a new secret and print it once", _rotate)
    rotate.add_argument(
        "--overlap-hours",
        type=whole(0, LONGEST_OVERLAP // _HOUR),
        default=OVERLAP // _HOUR,
        metavar="N",
        help=f"hours that the earlier secrets stay valid ({OVERLAP // _HOUR}, 0: revoke them now)",
    )
    for one in (show, rotate, command("revoke", "revoke a token for good", _revoke)):
        one.add_argument("id", type=whole(1, MAX_ID), metavar="ID", help="as `tracker token list` shows it")
    add_json(show)


def run(settings: Settings, arguments: Namespace) -> int:
    asyncio.run(_run(settings, arguments))
    return 0


def _add_create_arguments(create: ArgumentParser) -> None:
    create.add_argument(
        "--scope",
        action="append",
        required=True,
        choices=SCOPES,
        metavar="SCOPE",
        help="repeatable: a scope of the list below",
    )
    create.add_argument("--name", default="", help="a note, such as the name of the program that uses it")
    create.add_argument("--expires-in", type=whole(1, 36_500), metavar="DAYS", help="never, unless given")
    create.add_argument(
        "--rate", type=_rate, metavar="N/UNIT", help="such as 600/minute (default: TRACKER_API_RATE)"
    )
    create.add_argument("--hide-money", action="store_true", help="the token sees no amount anywhere")
    owner = create.add_mutually_exclusive_group()
    owner.add_argument(
        "--affiliate",
        action="append",
        default=[],
        type=whole(1, MAX_ID),
        metavar="ID",
        help="repeatable: restrict the token to the rows of these affiliates",
    )
    owner.add_argument(
        "--advertiser",
        action="append",
        default=[],
        type=whole(1, MAX_ID),
        metavar="ID",
        help="likewise, of these advertisers",
    )


def _rate(text: str) -> str:
    try:
        return str(read_rate(text))
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} {error}") from None


async def _run(settings: Settings, arguments: Namespace) -> None:
    assert settings.postgres_dsn
    async with await open_pool(settings.postgres_dsn, size=1) as pool:
        await arguments.act(pool, arguments)


async def _create(pool: Pool, arguments: Namespace) -> None:
    days = arguments.expires_in
    expires_at = None if days is None else (datetime.now(UTC) + timedelta(days=days)).isoformat()
    try:
        name = normalise.name(arguments.name) if arguments.name else ""
    except ValueError as error:
        raise UserError(f"--name {error}") from None
    new = NewToken(
        arguments.scope,
        name,
        expires_at,
        arguments.rate,
        affiliate_ids=arguments.affiliate,
        advertiser_ids=arguments.advertiser,
        hides_money=arguments.hide_money,
    )
    for field, message in new.clashes().items():
        raise UserError(f"{field}: {message}")
    async with edit.changing(pool) as connection:
        if (owner := new.owner) and (id_ := await tokens.unknown_of(connection, owner)):
            raise UserError(f"there is no {owner.kind} {id_}")
        issued = await tokens.issue(connection, _AUTHOR, new)
    print(issued.secret)


async def _list(pool: Pool, arguments: Namespace) -> None:
    page = await edit.page(pool, TOKENS, edit.Wanted({"is_revoked": arguments.revoked}), 1, _MOST_LISTED)
    if arguments.json:
        print(json.dumps(page.rows))
        return
    for row in page.rows:
        print(_line(row))


async def _show(pool: Pool, arguments: Namespace) -> None:
    row = _there(await edit.one(pool, TOKENS, {"id": arguments.id}), arguments.id)
    if arguments.json:
        print(json.dumps(row))
        return
    for name, value in row.items():
        print(f"{name:14}  {_text(value)}")


async def _rotate(pool: Pool, arguments: Namespace) -> None:
    async with edit.changing(pool) as connection:
        row = await _locked(connection, arguments.id)
        if row["is_revoked"]:
            raise UserError(f"token {arguments.id} has been revoked")
        try:
            issued = await tokens.rotate(connection, _AUTHOR, row, arguments.overlap_hours * _HOUR)
        except tokens.OverlapError as error:
            raise UserError(
                f"{error}. Use --overlap-hours 0 to end it together with the current secret"
            ) from None
    print(issued.secret)


async def _revoke(pool: Pool, arguments: Namespace) -> None:
    async with edit.changing(pool) as connection:
        await tokens.revoke(connection, _AUTHOR, await _locked(connection, arguments.id))
    print(f"token {arguments.id} is revoked")


async def _locked(connection: Connection, id_: int) -> Row:
    return _there(await edit.locked(connection, TOKENS, {"id": id_}), id_)


def _there(row: Row | None, id_: int) -> Row:
    if row is None:
        raise UserError(f"there is no token {id_}")
    return row


def _line(row: Row) -> str:
    owner = "".join(
        f" {kind}{'s' if len(ids) > 1 else ''} {', '.join(map(str, ids))}"
        for kind in BOUND_SCOPES
        if (ids := row[f"{kind}_ids"])
    )
    owner += " without money" if row["hides_money"] else ""
    times = "".join(
        f", {said} {row[column][:16]}"
        for column, said in (("last_used_at", "used"), ("expires_at", "expires"), ("revoked_at", "revoked"))
        if row[column]
    )
    return f"{row['id']:>5}  {row['hint']}…  {row['name'] or '-'}{owner}: {' '.join(row['scopes'])}{times}"


def _text(value: object) -> str:
    return (
        " ".join(map(str, value)) if isinstance(value, list) else "-" if value in (None, "") else str(value)
    )
