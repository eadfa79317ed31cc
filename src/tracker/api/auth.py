"""Bearer tokens (RFC 6750), from the Authorization header only."""

from __future__ import annotations

import re

from starlette.requests import Request

from tracker.api.problems import Problem
from tracker.store.tokens import PREFIX, Token, find_token

_BEARER = re.compile(r"bearer +([A-Za-z0-9._~+/-]+=*)", re.IGNORECASE)
_LONGEST_TOKEN = 256
_CHALLENGE = 'Bearer realm="tracker"'


async def authorize(request: Request, scope: str) -> Token:
    """Let a request pass whose token has a scope, and say whose it is.

    Raises:
        Problem: 401 without a valid token, 403 where it lacks the scope.
    """
    presented = _presented(request)
    token = await find_token(request.app.state.pool, presented) if presented.startswith(PREFIX) else None
    if token is None:
        raise _unauthorized("The token is unknown.", ', error="invalid_token"')
    if token.is_expired:
        raise _unauthorized("The token has expired.", ', error="invalid_token"')
    if not token.allows(scope):
        challenge = f'{_CHALLENGE}, error="insufficient_scope", scope="{scope}"'
        raise Problem(403, f"The token lacks the scope {scope}.", headers={"WWW-Authenticate": challenge})
    return token


def _presented(request: Request) -> str:
    given = request.headers.getlist("authorization")
    if not given:
        raise _unauthorized(
            "Send a token: Authorization: Bearer trk_… (in the header, never in the address)."
        )
    bearer = _BEARER.fullmatch(given[0].strip())
    if len(given) > 1 or bearer is None or len(bearer[1]) > _LONGEST_TOKEN:
        raise _unauthorized("The Authorization header is not one bearer token.")
    return bearer[1]


def _unauthorized(detail: str, error: str = "") -> Problem:
    return Problem(401, detail, headers={"WWW-Authenticate": _CHALLENGE + error})
