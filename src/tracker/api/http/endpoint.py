"""How an endpoint says what it takes and answers."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from pydantic import BaseModel
from spectree import Response, SpecTree
from spectree.models import SecureType, SecurityScheme, SecuritySchemeData

from tracker.api.http.problems import ProblemDetails

_DESCRIPTION = """\
The API of a click tracker. It reads clicks, conversions and reports. It explains and makes tracking links,
creates clicks and conversions, and sets conversion statuses. It manages offers, affiliates and what belongs
to them. Edges apply a change within a second.

A list of clicks has every click once. The header Complete-Until says up to when it is complete. The ledger
says where each recorded click is.

Send a token with every request: `Authorization: Bearer trk_…`. `tracker token create --scope clicks:read`
makes one. A token has a rate limit, and the headers RateLimit-… say how much of it is left. A request beyond
the limit gets 429.

Errors are `application/problem+json` (RFC 9457). They name the wrong parameter or field."""

_STATUSES = {
    400: "The body is incomplete",
    401: "The token is missing, unknown, revoked or expired",
    403: "The token lacks the scope",
    404: "Not found",
    409: "The change conflicts with the current state",
    412: "The version in If-Match is not current",
    413: "The body is too long",
    415: "The media type of the body is not supported",
    422: "A parameter or field is missing, unknown, repeated or invalid",
    429: "The token is over its rate limit or runs 4 exports, or the address sent too many wrong tokens",
    503: "The database, or another server that the request needs, is unavailable or too slow",
}

FILES: dict[str, dict[str, Any]] = {}
"""What operations take that take files, by operationId: media types, and what they look like."""

SHOWN = "Shown"
"""How the names of models end that are answered with an ETag."""

documented = SpecTree(
    "starlette",
    title="Tracker",
    version=version("tracker"),
    description=_DESCRIPTION,
    mode="strict",
    annotations=False,
    naming_strategy=lambda model: str(model.__name__),
    nested_naming_strategy=lambda _parent, child: str(child),
    validation_error_model=ProblemDetails,
    security_schemes=[
        SecurityScheme(
            name="bearer",
            data=SecuritySchemeData(
                type=SecureType.HTTP, scheme="bearer", description="A token of `tracker token create`."
            ),
        )
    ],
    security={"bearer": []},
)
"""Endpoints register here; each reads its own parameters."""


def responses(model: type[BaseModel] | None, *errors: int, status: int = 200) -> Response:
    """What an endpoint answers: a model (None: its docstring says it) or one of some errors."""
    limited = (429,) if 401 in errors else ()
    problems = {f"HTTP_{error}": (ProblemDetails, _STATUSES[error]) for error in sorted((*errors, *limited))}
    return Response(**{f"HTTP_{status}": model}, **problems)


def needs(*scopes: str) -> list[dict[str, list[str]]]:
    """What an endpoint says of the scopes of which a token needs one (OpenAPI 3.1, Security Requirement)."""
    return [{"bearer": [scope]} for scope in scopes]
