"""The last step of the API's document: examples, shared errors and tags."""

from __future__ import annotations

import re
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

import orjson

from tracker.api.http.problems import MEDIA_TYPE
from tracker.api.openapi.examples import example
from tracker.domain.model import MAX_ID

_METHODS = ("get", "post", "put", "patch", "delete")
_TAGS = {
    "Clicks": "The raw log: every click once, with its flags. Also creates clicks that used no link.",
    "Conversions": "Conversions with their status, money and history, and the log of postbacks.",
    "Money": "Statements of affiliates and advertisers, and entries that are booked by hand.",
    "Links": "Make a tracking link, and explain what a link would do.",
    "Ledger": "Compares recorded with stored clicks, and says where the others are.",
    "Reports": "Sums of clicks and conversions by group.",
    "Views and shares": "Saved queries, and links that open one report without a token.",
    "Management": "Offers, affiliates, advertisers and their parts. Edges apply changes within a second.",
    "Postbacks to affiliates": "The log of postbacks that the tracker sends to affiliates.",
    "Affiliates": "For tokens of affiliates: their own rows, without fields of others, and their requests.",
    "Advertisers": "For tokens of advertisers: their own rows, without fields of others.",
    "Webhooks": "URLs of your own systems that get events, and the log of their requests.",
    "Tokens": "Make, list, change, rotate and revoke tokens.",
    "Search": "Find clicks, conversions and the catalogue by any id or name.",
    "Test runs": "Try an offer from its link to what its affiliate is told, with clicks that count nowhere.",
    "Operations": "For administrators: problems, clicks that could not be stored, unmatched hits, imports.",
    "Users": "People who sign in: invite, list, change, reset and delete them, and end their sessions.",
}


def _header(description: str, example: str) -> dict[str, Any]:
    return {"description": description, "schema": {"type": "string", "examples": [example]}}


_CHALLENGE = {"WWW-Authenticate": _header("The reason as a code of RFC 6750.", 'Bearer realm="tracker"')}
_NOW = {"ETag": _header("The current version, if the request named another one.", '"17"')}
_LATER = {"Retry-After": _header("Seconds to wait.", "1")}
_PROBLEM_HEADERS = {
    401: _CHALLENGE,
    403: _CHALLENGE,
    409: _NOW,
    412: _NOW,
    415: {"Accept": _header("The media types that are accepted.", "application/json")},
    429: _LATER,
    503: _LATER,
}

_ID = {"type": "integer", "minimum": 1, "maximum": MAX_ID, "examples": [3]}
_CLICK_KEYS = {"Clicks", "Conversions"}  # tags whose ids may be hashes too
_LINES = {
    "application/x-ndjson": '{"id":184568,"hash":"01927632a6c87d3f9b1c5e8a4f60d2b7"}\n',
    "text/csv": 'id,hash\r\n184568,"01927632a6c87d3f9b1c5e8a4f60d2b7"\r\n',
}


def complete(spec: dict[str, Any]) -> None:
    """Give parameters types and bodies examples, share errors, and drop unused schemas."""
    named = spec["components"]["schemas"]
    # Sorted, because the order of spectree differs from process to process.
    spec["paths"] = {path: _in_order(methods) for path, methods in spec["paths"].items()}
    operations = [operation for path in spec["paths"].values() for operation in path.values()]
    for operation in operations:
        _describe_parameters(operation)
        for media_type, content in _contents(operation):
            if media_type in _LINES and "examples" not in content["schema"]:
                content.setdefault("example", _LINES[media_type])
            content.setdefault("example", example(content["schema"], named))
        _describe_problems(operation["responses"])
    spec["components"]["responses"] = _shared_problems(operations)
    spec["components"]["schemas"] = _used(spec, named)
    spec["tags"] = [{**tag, "description": _TAGS.get(tag["name"], "")} for tag in spec["tags"]]


def _in_order(methods: dict[str, Any]) -> dict[str, Any]:
    return {method: methods[method] for method in _METHODS if method in methods}


def _describe_parameters(operation: dict[str, Any]) -> None:
    for parameter in operation.get("parameters", ()):
        is_id = parameter["name"].endswith("id") and _CLICK_KEYS.isdisjoint(operation["tags"])
        if parameter["in"] == "path" and is_id:
            parameter["schema"] = _ID
        # Not beside the schema: the docs page would fill every filter in.
        parameter["schema"].setdefault("examples", [example(parameter["schema"], {})])


def _contents(operation: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The bodies of the request and of the answers, except errors."""
    good = [answer for status, answer in operation["responses"].items() if int(status) < 400]
    for body in (operation.get("requestBody", {}), *good):
        yield from body.get("content", {}).items()


def _describe_problems(responses: dict[str, Any]) -> None:
    for status, response in responses.items():
        if int(status) < 400:
            continue
        headers = {**response.get("headers", {}), **_PROBLEM_HEADERS.get(int(status), {})}
        if headers:
            response["headers"] = headers
        response["content"][MEDIA_TYPE]["example"] = _problem(int(status), response["description"])


def _problem(status: int, detail: str) -> dict[str, Any]:
    texts = {"detail": f"{detail}.", "message": f"{detail}."}
    if status == HTTPStatus.UNPROCESSABLE_ENTITY:
        texts = dict.fromkeys(texts, "per_page is not a whole number from 1 to 1000")
    errors = {"per_page": ["is not a whole number from 1 to 1000"]} if status == 422 else {}
    return {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        **texts,
        "errors": errors,
    }


def _shared_problems(operations: list[dict[str, Any]]) -> dict[str, Any]:
    """The errors that operations share, by name. An operation keeps an error that differs."""
    shared: dict[str, Any] = {}
    for operation in operations:
        responses = operation["responses"]
        for status in [status for status in responses if int(status) >= 400]:
            name = f"Problem{status}"
            if shared.setdefault(name, responses[status]) == responses[status]:
                responses[status] = {"$ref": f"#/components/responses/{name}"}
    return shared


def _used(spec: dict[str, Any], named: dict[str, Any]) -> dict[str, Any]:
    """The schemas that a reference names. Schemas of parameters are at their operations."""
    used: set[str] = set()
    new = _referred([spec["paths"], spec["components"]["responses"]])
    while new:
        used |= new
        new = _referred([named[name] for name in new]) - used
    return {name: schema for name, schema in named.items() if name in used}


def _referred(part: object) -> set[str]:
    return set(re.findall(r'"#/components/schemas/([^"]+)"', orjson.dumps(part).decode()))
