"""People who sign in, against a real database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pyotp
from cryptography.fernet import Fernet

from tracker.people import one_time_links, sessions, users
from tracker.people.sign_in import SignedIn, SignIn, Visitor
from tracker.secret_key import SecretKey
from tracker.settings import Settings
from tracker.store.catalogue import edit
from tracker.store.catalogue.edit import Author
from tracker.store.db import Pool, open_pool
from tracker.store.people import users as stored
from tracker.store.people.sessions import Session

PASSWORD = "a calm and long pass phrase"
HOME = Visitor("192.0.2.7", "Firefox")
AWAY = Visitor("198.51.100.9", "curl")
COMMAND_LINE = Author(None, "command line: test")


class People:
    """The functions of people, on a database of a test."""

    def __init__(self, pool: Pool, key: bytes) -> None:
        self.pool = pool
        self.key = key
        self.sign_in = SignIn(pool, SecretKey(key))
        self.used_code = ""  # of the last second factor

    async def invited(self, email: str = "jane@net.example", role: str = "admin", **fields: Any) -> str:
        """The secret of the invitation of a new user."""
        row = {"name": "", "affiliate_ids": [], "advertiser_ids": [], "hides_money": False}
        row |= {"email": email, "role": role, "is_disabled": False, **fields}
        async with edit.changing(self.pool) as connection:
            return secret_of((await users.invite(connection, COMMAND_LINE, row)).link)

    async def joined(self, email: str = "jane@net.example", role: str = "admin", **fields: Any) -> Session:
        """The session of a new user with PASSWORD."""
        return await self.session(
            await self.sign_in.with_link(await self.invited(email, role, **fields), PASSWORD, HOME)
        )

    async def session(self, signed_in: SignedIn) -> Session:
        found = await sessions.find(self.pool, signed_in.secret)
        assert found is not None
        return found

    async def is_over(self, signed_in: SignedIn) -> bool:
        return await sessions.find(self.pool, signed_in.secret) is None

    async def with_factor(self, session: Session) -> tuple[str, SignedIn, list[str]]:
        """Switch a second factor on. Its secret, the new session and the recovery codes."""
        secret = await self.sign_in.propose_factor(session, PASSWORD, HOME)
        self.used_code = pyotp.TOTP(secret).now()
        signed_in, codes = await self.sign_in.confirm_factor(session, self.used_code, HOME)
        return secret, signed_in, codes

    async def changed(self, id_: int, **fields: Any) -> None:
        async with edit.changing(self.pool) as connection:
            before = await stored.shown(connection, id_)
            assert before is not None
            await users.change(connection, COMMAND_LINE, before, fields)

    async def deleted(self, id_: int) -> None:
        async with edit.changing(self.pool) as connection:
            before = await stored.shown(connection, id_)
            assert before is not None
            await users.delete(connection, COMMAND_LINE, before)

    async def reset(self, id_: int, *, drops_factor: bool = False) -> str:
        """The secret of a link to reset a user's password."""
        async with edit.changing(self.pool) as connection:
            before = await stored.shown(connection, id_)
            assert before is not None
            made = await users.reset(connection, COMMAND_LINE, before, drops_factor=drops_factor)
            return secret_of(made.link)

    async def audit(self) -> list[dict[str, Any]]:
        """The audit trail, the first act first."""
        async with self.pool.acquire() as connection, connection.transaction():
            return [row async for row in edit.walk(connection, edit.AUDIT)]


@asynccontextmanager
async def people_of(database: Settings, key: bytes | None = None) -> AsyncIterator[People]:
    assert database.postgres_dsn
    async with await open_pool(database.postgres_dsn) as pool:
        people = People(pool, key or Fernet.generate_key())
        try:
            yield people
        finally:
            people.sign_in.close()


def secret_of(link: str) -> str:
    parts = urlsplit(link)
    assert parts.path == one_time_links.PATH
    return parse_qs(parts.query)[one_time_links.PARAMETER][0]
