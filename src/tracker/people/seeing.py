"""What a session may do and see. An admin may look at everything as one partner sees it, without a change."""

from __future__ import annotations

from tracker.domain.access import OwnerKind, Rights, rights_of
from tracker.people.sign_in import SESSIONS, Visitor, author_of, locked_user
from tracker.people.users import place
from tracker.store.catalogue import edit
from tracker.store.db import Connection, Pool
from tracker.store.people import sessions
from tracker.store.people.sessions import Session
from tracker.store.token_owner import Owner
from tracker.store.tokens import Token

_KINDS: tuple[OwnerKind, ...] = ("affiliate", "advertiser")


class NotAdminError(Exception):
    """Only admins look as a partner."""


class UnknownPartnerError(Exception):
    """There is no such affiliate or advertiser, or only an archived one."""


async def begin(pool: Pool, session: Session, kind: OwnerKind, id_: int, visitor: Visitor) -> None:
    """Let an admin's session see what a partner sees, until `end`. It can then change nothing.

    Raises:
        NotAdminError: the user is no admin.
        UnknownPartnerError: there is no such partner.
        WrongError: the session is over.
    """
    if session.role != "admin" or not session.is_whole:
        raise NotAdminError
    async with pool.acquire() as connection, connection.transaction():
        if not await edit.exists(connection, kind, id_):
            raise UnknownPartnerError
        await _see(connection, session, visitor, kind, id_)


async def end(pool: Pool, session: Session, visitor: Visitor) -> None:
    """Let a session see what its user sees.

    Raises:
        WrongError: the session is over.
    """
    async with pool.acquire() as connection, connection.transaction():
        await _see(connection, session, visitor, None, None)


async def _see(
    connection: Connection, session: Session, visitor: Visitor, kind: OwnerKind | None, id_: int | None
) -> None:
    user = await locked_user(connection, session)
    await sessions.see_as(connection, session.id, kind, id_)
    before = {"seen_as": session.seen_as, "seen_as_id": session.seen_as_id}
    after = {"seen_as": kind, "seen_as_id": id_}
    path = f"{place(user.id)}/sessions/{session.id}"
    await edit.note(connection, author_of(user, visitor), SESSIONS, path, before, after)


def rights(session: Session) -> Rights:
    """What a session may do: nothing while its second factor is missing.

    A session that looks as a partner reads what the partner reads.
    """
    seen = _rights(session)
    return seen if session.is_whole else seen._replace(scopes=())


def _rights(session: Session) -> Rights:
    for kind in _KINDS:
        if session.seen_as == kind:
            seen = rights_of(kind, kind)
            return seen._replace(scopes=tuple(scope for scope in seen.scopes if scope.endswith(":read")))
    owner: OwnerKind | None = (
        "affiliate" if session.affiliate_ids else "advertiser" if session.advertiser_ids else None
    )
    return rights_of(session.role, owner, hides_money=session.hides_money)


def token_of(session: Session) -> Token:
    """The token that a session is worth: its scopes, its owner, its sight."""
    allowed = rights(session)
    return Token(
        -session.user_id,
        session.email,
        frozenset(allowed.scopes),
        None,
        _owner(session),
        is_expired=False,
        is_shut=False,
        hides_money=allowed.hides_money,
        user_id=session.user_id,
    )


def _owner(session: Session) -> Owner | None:
    """Whose rows a session sees. None: the network's."""
    if session.seen_as_id is not None:
        return next(Owner(kind, (session.seen_as_id,)) for kind in _KINDS if kind == session.seen_as)
    for kind, ids in zip(_KINDS, (session.affiliate_ids, session.advertiser_ids), strict=True):
        if ids:
            return Owner(kind, tuple(sorted(set(ids))))
    return None
