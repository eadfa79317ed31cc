"""How an endpoint says what it takes and answers."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from pydantic import BaseModel
from spectree import Response, SpecTree
from spectree.models import SecureType, SecurityScheme, SecuritySchemeData

from tracker.api.http.problems import ProblemDetails

_DESCRIPTION = """\
Reads the clicks that the tracker has recorded, the raw log, every click once and flagged; says up to when
they are complete (the header Complete-Until), and where each one is (the ledger); reads what they became
(conversions), and takes the network's word on that; adds both up (reports); says what a tracking link would
do; creates clicks that did not come over one. Manages offers, affiliates and
what belongs to them: edges take a change within a second.

Send a token with every request: `Authorization: Bearer trk_…`; `tracker token create --scope clicks:read`
makes one. It may make so many requests a minute: the headers RateLimit-… say what is left; then it is 429.
Errors are `application/problem+json` (RFC 9457) and name the parameter or field they are about."""

_STATUSES = {
    400: "The body was cut off",
    401: "No token, or one that is unknown, revoked or expired",
    403: "The token lacks the scope",
    404: "There is no such thing",
    409: "It was changed since that version, is taken, or is still needed",
    412: "It was changed since: If-Match does not hold",
    413: "The body is too long",
    415: "The body is of another media type",
    422: "A parameter or field is missing, unknown, repeated or cannot be read",
    429: "The token has made its requests or runs 4 exports, or this address sent too many wrong tokens",
    503: "The database, or what the request needs beside it, cannot answer now or not in time",
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
