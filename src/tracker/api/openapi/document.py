"""The API's document: OpenAPI 3.1 by spectree, out of the routes and their models."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from starlette.applications import Starlette

from tracker.api.clicks import schema as click_schema
from tracker.api.clicks.schema import Click
from tracker.api.conversions import schema as conversion_schema
from tracker.api.conversions.schema import Conversion
from tracker.api.http.endpoint import FILES, SHOWN, documented
from tracker.api.http.problems import MEDIA_TYPE
from tracker.api.openapi.details import complete
from tracker.api.partner_access import schema as partner_schema

_TELL_OF_CLICKS = {"Clicks", "Ledger", "Reports"}
_COMPLETE_UNTIL = {
    "Complete-Until": {
        "description": "All clicks before this time were stored when the answer was read. UTC, as in "
        "2026-11-25T16:00:00.123Z. Missing if no edge has reported yet.",
        "schema": {"type": "string", "format": "date-time"},
    }
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
    for name, example in partner_schema.examples().items():
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
