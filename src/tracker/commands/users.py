"""`tracker users`: people who sign in."""

from __future__ import annotations

import asyncio
import json
import sys
from argparse import ArgumentParser, ArgumentTypeError, BooleanOptionalAction, Namespace
from argparse import RawDescriptionHelpFormatter as Plain
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

from tracker.catalogue.errors import CatalogueError, Kind
from tracker.catalogue.resource import Editor
from tracker.commands.arguments import add_json, text, whole
from tracker.commands.author import author
from tracker.commands.tables import cell, print_table
from tracker.domain import normalise
from tracker.domain.access import ROLES
from tracker.domain.model import MAX_ID
from tracker.errors import UserError
from tracker.people import editing
from tracker.people.one_time_links import LASTS
from tracker.people.users import Invited
from tracker.settings import Settings
from tracker.store.catalogue import edit
from tracker.store.catalogue.edit import Row
from tracker.store.db import open_pool
from tracker.store.people.users import USERS

_EXAMPLES = """\
A user is named by the id or the e-mail address. Nothing is sent: give the printed link to its user.

examples:
  tracker users invite jane@net.example --role admin --name 'Jane Roe'
  tracker users invite ann@partner.example --role affiliate --affiliate 513
  tracker users invite tom@net.example --role manager --affiliate 513 --affiliate 514 --hides-money
  tracker users set ann@partner.example --role analyst --no-owner
  tracker users reset jane@net.example --second-factor
                                      a new password, and the lost second factor is dropped
  tracker users sessions jane@net.example --end all
"""
_ROLES = "roles:\n" + "\n".join(f"  {name:12} {role.about}" for name, role in ROLES.items())
_FLAGS = {"affiliate_ids": "--affiliate", "advertiser_ids": "--advertiser", "hides_money": "--hides-money"}
_FLAGS |= {"email": "EMAIL", "role": "--role", "name": "--name", "is_disabled": "--disable"}
_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)
_ALL = "all"

_Act = Callable[[Editor, Settings, Namespace], Awaitable[None]]


def add_arguments(parser: ArgumentParser) -> None:
    parser.epilog, parser.formatter_class = f"{_EXAMPLES}\n{_ROLES}", Plain
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, purpose: str, act: _Act) -> ArgumentParser:
        added = commands.add_parser(
            name, help=purpose, description=f"{purpose[0].upper()}{purpose[1:]}.", formatter_class=Plain
        )
        added.set_defaults(act=act)
        return added

    invite = command("invite", "add a user, and print the link with which the user sets a password", _invite)
    invite.epilog = _ROLES
    invite.add_argument("email", type=text, metavar="EMAIL")
    invite.add_argument("--role", choices=ROLES, required=True, metavar="ROLE", help="one of the list below")
    _add_fields(invite)
    invite.add_argument("--hides-money", action="store_true", help="the user sees no amount anywhere")
    listing = command("list", "show all users", _list)
    show = command("show", "show everything about one user", _show)
    change = command("set", "change a user, and sign the user out if rights change", _set)
    change.epilog = _ROLES
    change.add_argument("--role", choices=ROLES, metavar="ROLE", help="one of the list below")
    change.add_argument("--email", type=text, metavar="EMAIL", help="a new address to sign in with")
    _add_fields(change).add_argument("--no-owner", action="store_true", help="of no affiliate or advertiser")
    change.add_argument(
        "--hides-money", action=BooleanOptionalAction, help="the user sees no amount anywhere"
    )
    reset = command("reset", "print a link with which a user sets a new password", _reset)
    reset.add_argument(
        "--second-factor", action="store_true", help="the link also drops the user's second factor"
    )
    disable = command("disable", "sign a user out, and let the user in no more", _disable)
    enable = command("enable", "let a disabled user in again", _enable)
    remove = command("remove", "delete a user for good. The audit trail keeps what the user did", _remove)
    sessions = command("sessions", "show where a user is signed in, or sign the user out", _sessions)
    sessions.add_argument("--end", type=_session, metavar="ID", help="end this session, or `all`")
    for one in (show, change, reset, disable, enable, remove, sessions):
        one.add_argument("user", type=text, metavar="USER", help="an id or an e-mail address")
    for one in (listing, show, sessions):
        add_json(one)


def _add_fields(parser: ArgumentParser) -> Any:
    """The owners may be given one way only."""
    parser.add_argument("--name", type=text, metavar="NAME")
    owner = parser.add_mutually_exclusive_group()
    for kind in ("affiliate", "advertiser"):
        owner.add_argument(
            f"--{kind}",
            action="append",
            type=whole(1, MAX_ID),
            metavar="ID",
            help=f"repeatable: the user sees only rows of these {kind}s",
        )
    return owner


def _session(argument: str) -> int | str:
    try:
        return _ALL if argument == _ALL else whole(1, MAX_ID)(argument)
    except ArgumentTypeError:
        raise ArgumentTypeError(f"{argument!r} is neither the id of a session nor `all`") from None


def run(settings: Settings, arguments: Namespace) -> int:
    try:
        asyncio.run(_run(settings, arguments))
    except CatalogueError as error:
        raise UserError(_explained(error)) from None
    return 0


def _explained(error: CatalogueError) -> str:
    """The error with the names of the command line's options."""
    if error.kind is Kind.UNKNOWN or not error.errors:
        return error.detail
    return "; ".join(f"{_FLAGS.get(field, field)} {whys[0]}" for field, whys in error.errors.items())


async def _run(settings: Settings, arguments: Namespace) -> None:
    assert settings.postgres_dsn
    async with await open_pool(settings.postgres_dsn, size=1) as pool:
        await arguments.act(Editor(pool, author()), settings, arguments)


async def _invite(editor: Editor, settings: Settings, arguments: Namespace) -> None:
    written = {"email": arguments.email, "role": arguments.role, "name": arguments.name or ""}
    written |= {"hides_money": arguments.hides_money}
    written |= {"affiliate_ids": arguments.affiliate or [], "advertiser_ids": arguments.advertiser or []}
    invited = await editing.invite(editor, written)
    _print_link(settings, invited)


async def _list(editor: Editor, _settings: Settings, arguments: Namespace) -> None:
    rows = await _every(editor)
    if arguments.json:
        print(json.dumps(rows))
        return
    columns = ("id", "email", "name", "role", "owners", "state", "second factor", "signed in")
    print_table(columns, [[cell(value) for value in _summary(row)] for row in rows])


async def _show(editor: Editor, _settings: Settings, arguments: Namespace) -> None:
    row = await _named(editor, arguments.user)
    if arguments.json:
        print(json.dumps(row))
        return
    for name, value in row.items():
        print(f"{name:15}  {_shown(value)}")


async def _set(editor: Editor, _settings: Settings, arguments: Namespace) -> None:
    given = {name: getattr(arguments, name) for name in ("role", "email", "name", "hides_money")}
    written: Row = {name: value for name, value in given.items() if value is not None}
    if arguments.no_owner or arguments.affiliate or arguments.advertiser:
        written |= {"affiliate_ids": arguments.affiliate or []}
        written |= {"advertiser_ids": arguments.advertiser or []}
    if not written:
        raise UserError("nothing to set: see tracker users set --help")
    row = await editing.change(editor, (await _named(editor, arguments.user))["id"], written)
    print(f"user {row['id']} is changed")


async def _reset(editor: Editor, settings: Settings, arguments: Namespace) -> None:
    row = await _named(editor, arguments.user)
    _print_link(settings, await editing.reset(editor, row["id"], drops_factor=arguments.second_factor))


async def _disable(editor: Editor, _settings: Settings, arguments: Namespace) -> None:
    row = await editing.change(editor, (await _named(editor, arguments.user))["id"], {"is_disabled": True})
    print(f"user {row['id']} is disabled")


async def _enable(editor: Editor, _settings: Settings, arguments: Namespace) -> None:
    row = await editing.change(editor, (await _named(editor, arguments.user))["id"], {"is_disabled": False})
    print(f"user {row['id']} is enabled")


async def _remove(editor: Editor, _settings: Settings, arguments: Namespace) -> None:
    row = await editing.remove(editor, (await _named(editor, arguments.user))["id"])
    print(f"user {row['id']} is deleted")


async def _sessions(editor: Editor, _settings: Settings, arguments: Namespace) -> None:
    id_ = (await _named(editor, arguments.user))["id"]
    if arguments.end:
        await editing.end_sessions(editor, id_, None if arguments.end == _ALL else arguments.end)
        print("all sessions are ended" if arguments.end == _ALL else f"session {arguments.end} is ended")
        return
    rows = await editing.open_sessions(editor, id_)
    if arguments.json:
        print(json.dumps(rows, default=datetime.isoformat))
        return
    times = ("made_at", "seen_at", "ends_at")
    lines = [
        (
            str(row["id"]),
            *(f"{row[name]:%Y-%m-%d %H:%M}" for name in times),
            row["address"],
            row["user_agent"],
        )
        for row in rows
    ]
    print_table(("id", *times, "address", "browser"), lines)


async def _every(editor: Editor) -> list[Row]:
    async with editor.pool.acquire() as connection, connection.transaction():
        return [row async for row in edit.walk(connection, USERS)]


async def _named(editor: Editor, name: str) -> Row:
    """The user of an id or an e-mail address."""
    if (id_ := normalise.id_(name)) is not None:
        row = await edit.one(editor.pool, USERS, {"id": id_})
    else:
        row = await edit.one(editor.pool, USERS, {"email_key": normalise.name_key(name)})
    if row is None:
        raise UserError(f"there is no user {name}: see tracker users list")
    return row


def _print_link(settings: Settings, invited: Invited) -> None:
    lasts = LASTS[invited.purpose]
    how_long = f"{lasts // _DAY} days" if lasts > _DAY else f"{lasts // _HOUR * 60} minutes"
    print(f"tracker: the link works once, within {how_long}. It ends earlier links.", file=sys.stderr)
    print(f"{settings.dashboard}{invited.link}")


def _summary(row: Row) -> tuple[object, ...]:
    owners = " ".join(
        f"{kind}s {', '.join(map(str, ids))}"
        for kind in ("affiliate", "advertiser")
        if (ids := row[f"{kind}_ids"])
    )
    state = "disabled" if row["is_disabled"] else "active" if row["has_password"] else "invited"
    return (
        *(row["id"], row["email"], row["name"], row["role"], owners, state),
        "yes" if row["has_totp"] else "no",
        (row["last_sign_in_at"] or "")[:16].replace("T", " "),
    )


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) or "-" if isinstance(value, list) else cell(value)
