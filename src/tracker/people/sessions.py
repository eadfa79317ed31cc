"""Sessions: what a signed-in browser holds, and what it is worth."""

from __future__ import annotations

import hmac
from datetime import timedelta
from hashlib import sha256
from secrets import token_urlsafe
from typing import Final

from tracker.domain import normalise
from tracker.store.db import Connection, Pool
from tracker.store.people import sessions
from tracker.store.people.sessions import Session
from tracker.store.people.users import Secrets

IDLE: Final = timedelta(hours=12)
"""A session ends when it was not used for so long."""
LONGEST: Final = timedelta(days=14)
"""A session ends after so long, used or not."""

_HALF: Final = timedelta(minutes=10)  # to give the second factor
_RANDOM_BYTES = 32
_LONGEST_SECRET = 100
_LONGEST_AGENT = 300  # characters


def digest(secret: str) -> bytes:
    """A secret as it is stored. The duration of a look-up tells nothing about it."""
    return sha256(secret.encode(errors="replace")).digest()


def agent(text: str) -> str:
    """A User-Agent as it is kept: cut, and without controls, which terminals obey."""
    return text.translate(normalise.CONTROLS)[:_LONGEST_AGENT]


async def begin(
    connection: Connection, user: Secrets, *, is_whole: bool, address: str, user_agent: str
) -> str:
    """A new session of a user. The secret is for the cookie, and is stored nowhere else."""
    secret = token_urlsafe(_RANDOM_BYTES)
    await sessions.make(
        connection,
        digest(secret),
        user.id,
        user.rights,
        is_whole=is_whole,
        lasts=LONGEST if is_whole else _HALF,
        address=address,
        user_agent=agent(user_agent),
    )
    return secret


async def find(pool: Pool, secret: str) -> Session | None:
    """The open session of a secret."""
    return await sessions.find(pool, digest(secret), IDLE) if 0 < len(secret) <= _LONGEST_SECRET else None


def form_token(secret: str) -> str:
    """What a form of this session carries, so that no other site can send it."""
    return hmac.new(secret.encode(), b"form", sha256).hexdigest()


def is_form_token(secret: str, token: str) -> bool:
    """Whether a form comes from this session."""
    return hmac.compare_digest(form_token(secret).encode(), token.encode(errors="replace"))
