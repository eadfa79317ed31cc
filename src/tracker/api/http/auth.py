"""Bearer tokens (RFC 6750), from the Authorization header only."""

from __future__ import annotations

import re
from asyncio import gather
from collections.abc import Iterable, Sequence

from starlette.requests import Request

from tracker.api.http.problems import Problem
from tracker.api.http.rate_limits import Limits
from tracker.store.token_owner import Owner
from tracker.store.tokens import PREFIX, Token, digest, find_token
from tracker.store.unknown_tokens import UnknownTokens

VIEWS = {
    "affiliate": "/backend/open-api/v1/affiliates",
    "advertiser": "/backend/open-api/v1/advertisers",
}
"""Where tokens read that are bound to one of these; everything else is the network's."""

_BEARER = re.compile(r"bearer +([A-Za-z0-9._~+/-]+=*)", re.IGNORECASE)
_LONGEST_TOKEN = 256
_CHALLENGE = 'Bearer realm="tracker"'


async def authorize(request: Request, *scopes: str) -> Token:
    """Let a request pass whose token is the network's and has one of some scopes; returns the token.

    Raises:
        Problem: 401 without a valid token, 403 where it is bound or has none of them, 429 once it is too
            much.
    """
    token = await _admitted(request)
    if token.owner is not None:
        root = VIEWS[token.owner.kind]
        raise Problem(403, f"This token belongs to one {token.owner.kind}. It reads only under {root}.")
    require(token, *scopes)
    return token


async def authorize_owner(request: Request, kind: str, scope: str) -> Owner:
    """Let a request pass whose token is bound to an affiliate, or an advertiser; returns whose it is.

    Raises:
        Problem: 401 without a valid token, 403 for any other or without the scope, 429 once it is too much.
    """
    token = await _admitted(request)
    if token.owner is None or token.owner.kind != kind:
        raise Problem(403, f"This path needs a token of one {kind}.")
    require(token, scope)
    return token.owner


def require(token: Token, *scopes: str) -> None:
    """See that a token has one of some scopes.

    Raises:
        Problem: 403 where it has none of them.
    """
    if not any(map(token.allows, scopes)):
        raise lacking(scopes)


def lacking(scopes: Sequence[str], fields: Iterable[str] = ()) -> Problem:
    """What is answered where a token has none of some scopes; `fields` are those that need it."""
    # Any of them would do; a challenge cannot say that, so it asks for the first (RFC 6750, section 3).
    challenge = f'{_CHALLENGE}, error="insufficient_scope", scope="{scopes[0]}"'
    errors = {field: [f"needs the scope {scopes[0]}"] for field in fields}
    detail = f"The token lacks the scope {' or '.join(scopes)}."
    return Problem(403, detail, errors=errors, headers={"WWW-Authenticate": challenge})


async def _admitted(request: Request) -> Token:
    presented = _presented(request)
    secret = digest(presented)
    limits: Limits = request.app.state.limits
    client = limits.client_of(request)
    # Both ask another process: a token that was right before is looked up and counted at the same time.
    known = limits.known(secret)
    token, turn = await gather(_find(request, presented, is_known=known is not None), limits.take(known))
    if token is None or token.is_expired:
        await limits.was_wrong(client, secret)
        why = "has expired" if token else "is unknown, or has been revoked"
        raise _unauthorized(f"The token {why}.", ', error="invalid_token"')
    limit = limits.was_right(secret, token.id, token.rate)
    limits.tell(request, limit, turn if limit == known else await limits.take(limit))
    request.state.token_id = token.id
    if token.is_shut:
        raise Problem(403, "The affiliate or advertiser of this token is blocked or archived.")
    return token


async def _find(request: Request, presented: str, *, is_known: bool) -> Token | None:
    """Look a token up; one that was right before waits for no other."""
    if not presented.startswith(PREFIX):
        return None
    unknown: UnknownTokens = request.app.state.unknown_tokens
    return await (find_token(request.app.state.pool, presented) if is_known else unknown.find(presented))


def _presented(request: Request) -> str:
    given = request.headers.getlist("authorization")
    if not given:
        raise _unauthorized("Send a token in the header, never in the URL: Authorization: Bearer trk_…")
    bearer = _BEARER.fullmatch(given[0].strip())
    if len(given) > 1 or bearer is None or len(bearer[1]) > _LONGEST_TOKEN:
        raise _unauthorized("The Authorization header is not one bearer token.")
    return bearer[1]


def _unauthorized(detail: str, error: str = "") -> Problem:
    return Problem(401, detail, headers={"WWW-Authenticate": _CHALLENGE + error})
