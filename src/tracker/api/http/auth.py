"""Bearer tokens (RFC 6750), from the Authorization header only."""

from __future__ import annotations

import re
from asyncio import gather
from collections.abc import Iterable, Sequence

from starlette.requests import Request

from tracker.api.http.problems import Problem
from tracker.api.http.rate_limits import Limits
from tracker.store.tokens import PREFIX, Token, digest, find_token
from tracker.store.unknown_tokens import UnknownTokens

VIEWS = {
    "affiliate": "/backend/open-api/v1/affiliates",
    "advertiser": "/backend/open-api/v1/advertisers",
}
"""Where the tokens of an owner read. All other paths are the network's."""

_BEARER = re.compile(r"bearer +([A-Za-z0-9._~+/-]+=*)", re.IGNORECASE)
_LONGEST_TOKEN = 256
_CHALLENGE = 'Bearer realm="tracker"'


async def authorize(request: Request, scopes: Sequence[str], owner: str = "") -> Token:
    """Let a request in by its token, and return the token.

    The token has one of the scopes. It is bound to an owner of this kind, or it is the network's if the kind
    is empty.

    Raises:
        Problem: 401 without a valid token, 403 for a token of another owner or without a scope, 429 beyond
            the token's rate.
    """
    token = await _admitted(request)
    permit(token, scopes, owner)
    return token


def permit(token: Token, scopes: Sequence[str], owner: str = "") -> None:
    """Check that a token may ask an endpoint.

    Raises:
        Problem: 403 for a token of another owner or without a scope.
    """
    kind = token.owner.kind if token.owner else ""
    if kind != owner and owner:
        raise Problem(403, f"This path needs a token of one {owner}.")
    if kind != owner:
        raise Problem(403, f"This token belongs to {kind}s. It reads only under {VIEWS[kind]}.")
    require(token, *scopes)


def require(token: Token, *scopes: str) -> None:
    """Check that a token has one of some scopes.

    Raises:
        Problem: 403 if it has none of them.
    """
    if not any(map(token.allows, scopes)):
        raise lacking(scopes)


def lacking(scopes: Sequence[str], fields: Iterable[str] = ()) -> Problem:
    """The answer to a token without any of some scopes. `fields` are the fields that need them."""
    # One of them is enough. A challenge cannot say that, so it names the first (RFC 6750, section 3).
    challenge = f'{_CHALLENGE}, error="insufficient_scope", scope="{scopes[0]}"'
    errors = {field: [f"needs the scope {scopes[0]}"] for field in fields}
    detail = f"The token lacks the scope {' or '.join(scopes)}."
    return Problem(403, detail, errors=errors, headers={"WWW-Authenticate": challenge})


async def _admitted(request: Request) -> Token:
    presented = _presented(request)
    secret = digest(presented)
    limits: Limits = request.app.state.limits
    client = limits.client_of(request)
    # Both ask another process, so a token that was valid before is looked up and counted at the same time.
    known = limits.known(secret)
    token, turn = await gather(_find(request, presented, is_known=known is not None), limits.take(known))
    if token is None or token.is_expired:
        await limits.was_wrong(client, secret)
        why = "has expired" if token else "is unknown, or has been revoked"
        raise _unauthorized(f"The token {why}.", ', error="invalid_token"')
    limit = limits.was_right(secret, token.id, token.rate)
    limits.report(request, limit, turn if limit == known else await limits.take(limit))
    request.state.token_id = token.id
    if token.is_shut:
        raise Problem(403, "The affiliate or advertiser of this token is blocked or archived.")
    return token


async def _find(request: Request, presented: str, *, is_known: bool) -> Token | None:
    """Look a token up. A token that was valid before does not wait for others."""
    if not presented.startswith(PREFIX):
        return None
    unknown: UnknownTokens = request.app.state.unknown_tokens
    return await (find_token(request.app.state.pool, presented) if is_known else unknown.find(presented))


def _presented(request: Request) -> str:
    values = request.headers.getlist("authorization")
    if not values:
        raise _unauthorized("Send a token in the header, never in the URL: Authorization: Bearer trk_…")
    bearer = _BEARER.fullmatch(values[0].strip())
    if len(values) > 1 or bearer is None or len(bearer[1]) > _LONGEST_TOKEN:
        raise _unauthorized("The Authorization header is not one bearer token.")
    return bearer[1]


def _unauthorized(detail: str, error: str = "") -> Problem:
    return Problem(401, detail, headers={"WWW-Authenticate": _CHALLENGE + error})
