"""Signing in: a password, a code of the second factor, a one-time link.

Each way ends in a new session, so that a session from before is worth nothing (OWASP Session Management
Cheat Sheet, "Renew the Session ID After Any Privilege Level Change").
"""

from __future__ import annotations

from typing import NamedTuple

from tracker.domain import normalise
from tracker.people import first_admin, one_time_links, passwords, second_factor, sessions
from tracker.people.passwords import Passwords
from tracker.people.throttle import Throttle
from tracker.people.users import place
from tracker.secret_key import SecretKey
from tracker.store.catalogue import edit
from tracker.store.catalogue.edit import Author, Table
from tracker.store.db import Connection, Pool
from tracker.store.people import failures, guesses, users
from tracker.store.people import one_time_links as stored_links
from tracker.store.people import sessions as stored_sessions
from tracker.store.people.guesses import WRONG_CODE
from tracker.store.people.sessions import Session
from tracker.store.people.users import Secrets

_LONGEST_NAME = 200

SESSIONS = Table("user_session", (), is_log=True)
"""The resource of sign-ins in the audit trail."""


class Visitor(NamedTuple):
    """Who signs in, as the request says."""

    address: str
    user_agent: str


class SignedIn(NamedTuple):
    """A new session."""

    secret: str  # for the cookie
    is_whole: bool  # False: the second factor is still missing
    was_guessed: bool = False  # others gave wrong codes, so they know the password


class WrongError(Exception):
    """The address or the password is wrong, or the code. Which one is not told."""


class LinkIsOverError(Exception):
    """The one-time link was used, has ended, or never existed."""


class FieldError(Exception):
    """A field of a form is wrong."""

    def __init__(self, field: str, why: str) -> None:
        super().__init__(f"{field} {why}")
        self.field = field
        self.why = why


class SignIn:
    """Everything that makes a session or changes what it takes to get one."""

    def __init__(self, pool: Pool, key: SecretKey) -> None:
        self._pool = pool
        self._key = key
        self._throttle = Throttle(pool)
        self._passwords = Passwords()

    def close(self) -> None:
        self._passwords.close()

    async def with_password(self, email: str, password: str, visitor: Visitor) -> SignedIn:
        """Sign in by address and password.

        Raises:
            WrongError: one of them is wrong, or the user is disabled.
            WaitError: the visitor's address has failed too often.
            BusyError: too many sign in at once.
        """
        checked = await self._checked(email, password, visitor)
        async with self._pool.acquire() as connection, connection.transaction():
            user = await users.locked(connection, checked.id)
            if user is None or user.rights != checked.rights:  # deleted, disabled or changed meanwhile
                raise WrongError
            return await self._begin(connection, user, visitor, is_whole=not user.has_totp)

    async def with_code(self, half: Session, code: str, visitor: Visitor) -> SignedIn:
        """Give the code of the second factor, or a recovery code, in a session that lacks it.

        Raises:
            WrongError, WaitError: as for the password.
            OtherKeyError: the factor was sealed with another key file.
        """
        async with self._throttle.attempt(visitor.address, _codes_of(half.user_id)) as attempt:
            async with self._pool.acquire() as connection, connection.transaction():
                user = await locked_user(connection, half)
                if await self._uses(connection, user, code, visitor):
                    await stored_sessions.end(connection, half.id, user.id)
                    await failures.forget(connection, attempt.address, attempt.account)
                    was_guessed = await guesses.of_user(connection, user.id) is not None
                    begun = await self._begin(connection, user, visitor, is_whole=True)
                    return begun._replace(was_guessed=was_guessed)
            await attempt.failed()
        await self._note_wrong_code(half, visitor)
        raise WrongError

    async def sign_out(self, session: Session) -> None:
        """End one session."""
        async with self._pool.acquire() as connection:
            await stored_sessions.end(connection, session.id, session.user_id)

    async def change_password(self, session: Session, before: str, after: str, visitor: Visitor) -> SignedIn:
        """Set a new password. All other sessions of the user end.

        Raises:
            FieldError: the new password is not taken.
            WrongError, WaitError, BusyError: as for signing in, with the password before.
        """
        _check(after, session.email, session.name)
        await self._checked(session.email, before, visitor)
        hash_ = await self._passwords.hash(after)
        async with self._pool.acquire() as connection, connection.transaction():
            user = await locked_user(connection, session)
            await users.set_password(connection, user.id, hash_)
            return await self._renewed(connection, session, visitor, {"password": "changed"})

    async def propose_factor(self, session: Session, password: str, visitor: Visitor) -> str:
        """A new secret for an authenticator app. It counts once `confirm_factor` got a code of it.

        Raises:
            FieldError: there is a second factor already.
            WrongError, WaitError, BusyError: as for signing in.
        """
        await self._checked(session.email, password, visitor)
        secret = second_factor.new_secret()
        async with self._pool.acquire() as connection, connection.transaction():
            user = await locked_user(connection, session)
            if user.has_totp:
                raise FieldError("code", "is asked for already: remove the second factor first")
            await users.propose_factor(connection, user.id, second_factor.seal(self._key, secret))
        return secret

    async def proposed_factor(self, session: Session) -> str | None:
        """The secret that waits for its first code.

        Raises:
            OtherKeyError: it was sealed with another key file.
        """
        user = await users.by_id(self._pool, session.user_id)
        return None if user is None else self._proposed(user)

    def _proposed(self, user: Secrets) -> str | None:
        if user.has_totp or user.totp_secret is None:
            return None
        return second_factor.opened(self._key, user.totp_secret)

    async def confirm_factor(
        self, session: Session, code: str, visitor: Visitor
    ) -> tuple[SignedIn, list[str]]:
        """Switch the second factor on, and return the recovery codes, which are shown only now.

        Raises:
            FieldError: the code is wrong.
            WaitError: the visitor's address has failed too often.
        """
        codes = second_factor.new_recovery_codes()
        async with self._throttle.attempt(visitor.address, _codes_of(session.user_id)) as attempt:
            async with self._pool.acquire() as connection, connection.transaction():
                user = await locked_user(connection, session)
                secret = self._proposed(user)
                step = None if secret is None else second_factor.matching_step(secret, code)
                if step is not None:
                    digests = second_factor.digests(codes)
                    await users.confirm_factor(connection, user.id, step, digests)
                    changes = {"second_factor": "on"}
                    return await self._renewed(connection, session, visitor, changes), codes
            await attempt.failed()
        raise FieldError("code", "is wrong")

    async def remove_factor(self, session: Session, password: str, visitor: Visitor) -> SignedIn:
        """Switch the second factor off.

        Raises:
            WrongError, WaitError, BusyError: as for signing in.
        """
        await self._checked(session.email, password, visitor)
        async with self._pool.acquire() as connection, connection.transaction():
            user = await locked_user(connection, session)
            await users.remove_factor(connection, user.id)
            return await self._renewed(connection, session, visitor, {"second_factor": "off"})

    async def renew_recovery_codes(
        self, session: Session, password: str, code: str, visitor: Visitor
    ) -> list[str]:
        """New recovery codes, which are shown only now. The former ones end.

        Raises:
            FieldError: the code is wrong.
            WrongError, WaitError, BusyError: as for signing in.
            OtherKeyError: the factor was sealed with another key file.
        """
        await self._checked(session.email, password, visitor)
        codes = second_factor.new_recovery_codes()
        async with self._throttle.attempt(visitor.address, _codes_of(session.user_id)) as attempt:
            async with self._pool.acquire() as connection, connection.transaction():
                user = await locked_user(connection, session)
                if await self._uses(connection, user, code, visitor):
                    await users.replace_codes(connection, user.id, second_factor.digests(codes))
                    await _note(connection, user, visitor, {"recovery_codes": "new"})
                    return codes
            await attempt.failed()
        await self._note_wrong_code(session, visitor)
        raise FieldError("code", "is wrong")

    async def with_link(
        self, secret: str, password: str, visitor: Visitor, *, email: str = "", name: str = ""
    ) -> SignedIn:
        """Use a one-time link up: set the password. The first admin's link also makes the user.

        Raises:
            LinkIsOverError: it was used, has ended, or a user exists already.
            FieldError: the password is not taken, or the first admin's address.
            BusyError: too many sign in at once.
        """
        link = await one_time_links.find(self._pool, secret)
        if link is None:
            raise LinkIsOverError
        email, name = (link.email, link.name or "") if link.email else (_address(email), _name(name))
        _check(password, email, name)
        hash_ = await self._passwords.hash(password)
        async with self._pool.acquire() as connection, connection.transaction():
            # The user is locked first: a reset or a change of the user waits, or comes before.
            user_id = link.user_id or await self._first_admin(connection, email, name)
            before = await users.shown(connection, user_id)
            if before is None or not await stored_links.use(connection, sessions.digest(secret)):
                raise LinkIsOverError
            await users.set_password(connection, user_id, hash_)
            if link.drops_factor:
                await users.remove_factor(connection, user_id)
            user = await users.by_id(connection, user_id)
            assert user is not None
            await _note(connection, user, visitor, {"link": link.purpose})
            return await self._begin(connection, user, visitor, is_whole=not user.has_totp)

    async def _checked(self, email: str, password: str, visitor: Visitor) -> Secrets:
        """The user of an address and a right password."""
        async with self._throttle.attempt(visitor.address, email) as attempt:
            user = await self._typed(email)
            hash_ = None if user is None or user.is_disabled else user.password_hash
            if not await self._passwords.is_right(password, hash_) or user is None or hash_ is None:
                await attempt.failed()
                raise WrongError
            async with self._pool.acquire() as connection:
                await failures.forget(connection, attempt.address, attempt.account)
        if passwords.is_outdated(hash_):
            await users.rehash(self._pool, user.id, hash_, await self._passwords.hash(password))
            user = await users.by_id(self._pool, user.id)
            if user is None:
                raise WrongError
        return user

    async def _typed(self, email: str) -> Secrets | None:
        """The user of an address as it was typed."""
        try:
            typed = normalise.email(email)
        except ValueError:
            return None
        return await users.by_email(self._pool, typed)

    async def _uses(self, connection: Connection, user: Secrets, code: str, visitor: Visitor) -> bool:
        """Use up a code of the second factor, or a recovery code, which also works without the key file."""
        if user.totp_secret is None or not user.has_totp:
            return False
        if second_factor.is_of_app(code):
            step = second_factor.matching_step(second_factor.opened(self._key, user.totp_secret), code)
            return step is not None and await users.use_step(connection, user.id, step)
        if not await users.use_code(connection, user.id, second_factor.digest(code)):
            return False
        await _note(connection, user, visitor, {"recovery_code": "used"})
        return True

    async def _note_wrong_code(self, session: Session, visitor: Visitor) -> None:
        """Tell the audit trail of it: the password was right, so its owner should know."""
        author = Author(None, session.email, session.user_id, visitor.address)
        async with self._pool.acquire() as connection:
            await edit.note(connection, author, users.USERS, place(session.user_id), {}, WRONG_CODE)

    async def _begin(
        self, connection: Connection, user: Secrets, visitor: Visitor, *, is_whole: bool
    ) -> SignedIn:
        secret = await sessions.begin(
            connection, user, is_whole=is_whole, address=visitor.address, user_agent=visitor.user_agent
        )
        if is_whole:
            await users.note_sign_in(connection, user.id)
            after = {"user_agent": sessions.agent(visitor.user_agent)}
            author = author_of(user, visitor)
            await edit.note(connection, author, SESSIONS, f"{place(user.id)}/sessions", None, after)
        return SignedIn(secret, is_whole)

    async def _renewed(
        self, connection: Connection, session: Session, visitor: Visitor, changes: dict[str, str]
    ) -> SignedIn:
        """A new session after a change of the user's own rights, which ends all sessions from before."""
        await stored_sessions.end_all(connection, session.user_id)
        user = await users.by_id(connection, session.user_id)
        if user is None or user.is_disabled:
            raise WrongError
        await _note(connection, user, visitor, changes)
        return await self._begin(connection, user, visitor, is_whole=True)

    async def _first_admin(self, connection: Connection, email: str, name: str) -> int:
        """Make the first user."""
        await users.lock(connection, first_admin.LOCK)
        if await users.has_had_user(connection):
            raise LinkIsOverError
        fields = {"email": email, "name": name, "role": "admin", "hides_money": False, "is_disabled": False}
        row = await users.add(connection, {**fields, "affiliate_ids": [], "advertiser_ids": []})
        return int(row["id"])


async def locked_user(connection: Connection, session: Session) -> Secrets:
    """The user of a session, locked until the end of the transaction.

    Raises:
        WrongError: the session is over since it was read: it was ended, or the user's rights were changed.
    """
    user = await users.locked(connection, session.user_id)
    if user is None or user.is_disabled or user.rights != session.rights:
        raise WrongError
    if not await stored_sessions.exists(connection, session.id):
        raise WrongError
    return user


def author_of(user: Secrets, visitor: Visitor) -> Author:
    """The author of what a user does himself."""
    return Author(None, user.email, user.id, visitor.address)


async def _note(connection: Connection, user: Secrets, visitor: Visitor, changes: dict[str, str]) -> None:
    await edit.note(connection, author_of(user, visitor), users.USERS, place(user.id), {}, changes)


def _address(text: str) -> str:
    try:
        return normalise.email(text)
    except ValueError as error:
        raise FieldError("email", str(error)) from None


def _name(text: str) -> str:
    try:
        name = normalise.name(text) if text else ""
    except ValueError as error:
        raise FieldError("name", str(error)) from None
    if len(name) > _LONGEST_NAME:
        raise FieldError("name", f"has more than {_LONGEST_NAME} characters")
    if name != name.translate(normalise.CONTROLS):
        raise FieldError("name", "has control characters")
    return name


def _check(password: str, email: str, name: str) -> None:
    if why := passwords.fault(password, email, name):
        raise FieldError("password", why)


def _codes_of(user_id: int) -> str:
    """The name under which wrong codes of a user are counted."""
    return f"{user_id}@codes"
