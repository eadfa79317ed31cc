"""The API's OpenAPI 3.1 document, written by spectree from the contracts of the routes."""

from __future__ import annotations

from typing import Any

import spectree
from spectree import SpecTree
from spectree.models import SecureType, SecurityScheme, SecuritySchemeData
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tracker.api import reports
from tracker.api.clicks import schema as click_schema
from tracker.api.clicks.schema import Click
from tracker.api.conversions import schema as conversion_schema
from tracker.api.conversions.schema import Conversion
from tracker.api.http.endpoint import Body, Contract, FileBody, contract_of
from tracker.api.http.later import model_of
from tracker.api.http.problems import MEDIA_TYPE, ProblemDetails
from tracker.api.openapi.details import complete
from tracker.api.partner_access import schema as partner_schema
from tracker.parameters import Query
from tracker.release import version

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

_PROBLEMS = {
    400: "The body is incomplete",
    401: "The token is missing, unknown, revoked or expired",
    403: "The token lacks the scope",
    404: "Not found",
    409: "The version is not current, a value is taken, or the object is still used",
    410: "The click is of a day whose clicks are not kept one by one",
    412: "The version in If-Match is not current",
    413: "The body is too long",
    415: "The media type of the body is not supported",
    422: "A parameter or field is missing, unknown, repeated or invalid",
    429: "The token is over its rate limit or runs 4 exports, or the address sent too many wrong tokens",
    503: "The database, or another server that the request needs, is unavailable or too slow",
}
_OF_ALL = {401, 403, 422, 429, 503}  # a token, its scope, the parameters, its rate, the database
_OF_BODY = {400, 413, 415}

_COMPLETE_UNTIL = {
    "Complete-Until": {
        "description": "All clicks before this time were stored when the answer was read. UTC, as in "
        "2026-11-25T16:00:00.123Z. Missing if no edge has reported yet.",
        "schema": {"type": "string", "format": "date-time"},
    },
    "Rows-Kept-From": {
        "description": "Clicks before this time are not kept one by one: lists, exports and totals of lists "
        "leave them out. Reports have their counts. UTC. Missing if all are kept.",
        "schema": {"type": "string", "format": "date-time"},
    },
}
_ETAG = {
    "ETag": {
        "description": "The version of the object, for If-Match.",
        "schema": {"type": "string", "examples": ['"17"']},
    }
}
_LOCATION = {"Location": {"description": "The path of the new object.", "schema": {"type": "string"}}}
_RATE_LIMIT = {
    f"RateLimit-{name}": {"description": text, "schema": {"type": "integer"}}
    for name, text in (
        ("Limit", "Requests that the token may make in a burst."),
        ("Remaining", "Requests that are left now."),
        ("Reset", "Seconds until the full limit is available again."),
    )
}


def document(app: Starlette) -> dict[str, Any]:
    """The document of an app's routes, without the public ones."""
    tree = _tree()
    routes = [route for route in app.routes if isinstance(route, Route)]
    contracts = [(route, contract) for route in routes if (contract := contract_of(route))]
    tree.app = Starlette(routes=[_described(tree, route, contract) for route, contract in contracts])
    spec: dict[str, Any] = tree.spec
    by_name = {contract.name: contract for _, contract in contracts}
    for path in spec["paths"].values():
        for operation in path.values():
            _finish(operation, by_name[operation["operationId"]])
    # Set here, because pydantic sorts the keys of an example.
    schemas = spec["components"]["schemas"]
    schemas[Click.__name__]["examples"] = [click_schema.EXAMPLE]
    schemas[Conversion.__name__]["examples"] = [conversion_schema.EXAMPLE]
    for name, example in partner_schema.examples().items():
        schemas[name]["examples"] = [example]
    _add_report_examples(schemas)
    complete(spec)
    return spec


def _add_report_examples(schemas: dict[str, dict[str, Any]]) -> None:
    for model, example in reports.EXAMPLES.items():
        for name, schema in schemas.items():
            if name.endswith(model):
                seen = {key: value for key, value in example.items() if key in schema["properties"]}
                schema["examples"] = [seen]


def _tree() -> SpecTree:
    scheme = SecuritySchemeData(
        type=SecureType.HTTP, scheme="bearer", description="A token of `tracker token create`."
    )
    return SpecTree(
        "starlette",
        title="Tracker",
        version=version(),
        description=_DESCRIPTION,
        mode="strict",
        annotations=False,
        naming_strategy=lambda model: str(model.__name__),
        nested_naming_strategy=lambda _parent, child: str(child),
        validation_error_model=ProblemDetails,
        security_schemes=[SecurityScheme(name="bearer", data=scheme)],
        security={"bearer": []},
    )


def _described(tree: SpecTree, route: Route, contract: Contract) -> Route:
    """A route that spectree can describe. It serves nothing."""

    async def handler(_request: Request) -> Response:
        raise NotImplementedError

    handler.__name__, handler.__doc__ = contract.name, contract.text
    describe = tree.validate(
        query=None if contract.query is Query else model_of(contract.query),
        json=model_of(contract.body.model) if isinstance(contract.body, Body) else None,
        headers=contract.headers,
        resp=_responses(contract, has_path="{" in route.path),
        tags=_tags(contract),
        security=[{"bearer": [scope]} for scope in contract.scopes],
        operation_id=contract.name,
        path_parameter_descriptions=contract.path,
        skip_validation=True,
    )
    return Route(route.path, describe(handler), methods=sorted(route.methods or ()))


def _tags(contract: Contract) -> list[str]:
    view = [f"{contract.owner.capitalize()}s"] if contract.owner else []
    return list(dict.fromkeys([*view, contract.tag]))


def _responses(contract: Contract, *, has_path: bool) -> spectree.Response:
    errors = _OF_ALL | set(contract.may_fail)
    errors |= _OF_BODY if contract.body else set()
    errors |= {404} if has_path else set()
    answers: dict[str, Any] = {f"HTTP_{error}": (ProblemDetails, _PROBLEMS[error]) for error in errors}
    answer = None if contract.returns is None else model_of(contract.returns)
    return spectree.Response(**{f"HTTP_{contract.status}": answer}, **answers)


def _finish(operation: dict[str, Any], contract: Contract) -> None:
    """Add what spectree does not know: media types, headers, files, and the scopes in words."""
    responses = operation["responses"]
    for status, response in responses.items():
        if int(status) >= 400:
            response["content"][MEDIA_TYPE] = response["content"].pop("application/json")
        if status != "401":  # without a valid token there is no rate
            response["headers"] = dict(_RATE_LIMIT)
    answer = responses[str(contract.status)]
    answer["headers"] |= _headers(contract)
    for media_type in contract.files:
        answer.setdefault("content", {})[media_type] = {"schema": {"type": "string"}}
    if isinstance(contract.body, FileBody):
        content = {
            media_type: {"schema": {"type": "string"}, "example": example}
            for media_type, example in contract.body.examples.items()
        }
        operation["requestBody"] = {"required": True, "content": content}
    # Pages that show the document leave out the scopes of a bearer token.
    scopes = " or ".join(f"`{scope}`" for scope in contract.scopes)
    operation["description"] += f"\n\nScope: {scopes}."


def _headers(contract: Contract) -> dict[str, Any]:
    headers: dict[str, Any] = {}
    if contract.has_complete_until:
        headers |= _COMPLETE_UNTIL
    if contract.has_etag:
        headers |= _ETAG if contract.status == 200 else {**_ETAG, **_LOCATION}
    return headers
