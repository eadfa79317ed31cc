"""The API's document: OpenAPI 3.1 by spectree, out of the routes and their models."""

from __future__ import annotations

from copy import deepcopy
from importlib.metadata import version
from typing import Any

from pydantic import BaseModel
from spectree import Response, SpecTree
from spectree.models import SecureType, SecurityScheme, SecuritySchemeData
from starlette.applications import Starlette

from tracker.api import click_schema, conversion_schema, view_schema
from tracker.api.click_schema import Click, ProblemDetails
from tracker.api.conversion_schema import Conversion
from tracker.api.openapi_details import complete
from tracker.api.problems import MEDIA_TYPE

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

_TELL_OF_CLICKS = {"Clicks", "Ledger", "Reports"}
_COMPLETE_UNTIL = {
    "Complete-Until": {
        "description": "Every click from before this time (UTC, as 2026-11-25T16:00:00.123Z) was stored when "
        "this answer was read. Missing while no edge has been heard of.",
        "schema": {"type": "string", "format": "date-time"},
    }
}

FILES: dict[str, dict[str, Any]] = {}
"""What operations take that take files, by operationId: media types, and what they look like."""

SHOWN = "Shown"
"""How the names of models end that are answered with an ETag."""

_ETAG = {
    "ETag": {"description": "The version, for If-Match.", "schema": {"type": "string", "examples": ['"17"']}}
}
_LOCATION = {"Location": {"description": "Where it is.", "schema": {"type": "string"}}}

_RATE_LIMIT = {
    f"RateLimit-{name}": {"description": text, "schema": {"type": "integer"}}
    for name, text in (
        ("Limit", "Requests that the token may make at once."),
        ("Remaining", "Of these, those that it may make now."),
        ("Reset", "Seconds until it may make all of them again."),
    )
}

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


def answers(model: type[BaseModel] | None, *errors: int, status: int = 200) -> Response:
    """What an endpoint answers: a model (None: its docstring says it) or one of some errors."""
    limited = (429,) if 401 in errors else ()
    problems = {f"HTTP_{error}": (ProblemDetails, _STATUSES[error]) for error in sorted((*errors, *limited))}
    return Response(**{f"HTTP_{status}": model}, **problems)


def needs(*scopes: str) -> list[dict[str, list[str]]]:
    """What an endpoint says of the scopes of which a token needs one (OpenAPI 3.1, Security Requirement)."""
    return [{"bearer": [scope]} for scope in scopes]


def document(app: Starlette) -> dict[str, Any]:
    """The document of an app's routes."""
    documented.app = app
    spec: dict[str, Any] = deepcopy(documented.spec)  # which it keeps
    for path in spec["paths"].values():
        for operation in path.values():
            _name_media_types(operation["responses"])
            _name_headers(operation["responses"])
            if not _TELL_OF_CLICKS.isdisjoint(operation["tags"]) and "200" in operation["responses"]:
                operation["responses"]["200"]["headers"] = _COMPLETE_UNTIL
            _name_limits(operation["responses"])
            _name_scopes(operation)
            if operation["operationId"] in FILES:
                operation["requestBody"] = {"required": True, "content": FILES[operation["operationId"]]}
            if "Reports" in operation["tags"]:
                operation["responses"]["200"]["content"]["text/csv"] = {"schema": {"type": "string"}}
    # Set here, because pydantic sorts the keys of an example.
    schemas = spec["components"]["schemas"]
    schemas[Click.__name__]["examples"] = [click_schema.EXAMPLE]
    schemas[Conversion.__name__]["examples"] = [conversion_schema.EXAMPLE]
    for name, example in view_schema.examples().items():
        schemas[name]["examples"] = [example]
    complete(spec)
    return spec


def _name_headers(responses: dict[str, Any]) -> None:
    for status in {"200", "201"} & responses.keys():
        answered = responses[status].get("content", {}).get("application/json", {}).get("schema", {})
        if answered.get("$ref", "").endswith(SHOWN):
            responses[status]["headers"] = _ETAG if status == "200" else {**_ETAG, **_LOCATION}


def _name_limits(responses: dict[str, Any]) -> None:
    """What answers say of a token's rate; without a valid token there is none to tell of."""
    for status in responses.keys() - {"401"}:
        responses[status]["headers"] = {**responses[status].get("headers", {}), **_RATE_LIMIT}


def _name_scopes(operation: dict[str, Any]) -> None:
    """In words as well: pages that show the document leave a bearer's scopes out."""
    scopes = [f"`{scope}`" for needed in operation.get("security", ()) for scope in needed["bearer"]]
    operation["description"] += f"\n\nScope: {' or '.join(scopes)}."


def _name_media_types(responses: dict[str, Any]) -> None:
    for status, response in responses.items():
        if int(status) >= 400 and "application/json" in response.get("content", {}):
            response["content"][MEDIA_TYPE] = response["content"].pop("application/json")
    if "content" not in responses.get("200", {"content": None}):
        text = {"schema": {"type": "string"}}
        responses["200"]["content"] = {"application/x-ndjson": text, "text/csv": text}
