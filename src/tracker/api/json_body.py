"""Bodies of requests: JSON, of a bounded size, into a model; every defect by its place."""

from __future__ import annotations

from typing import TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request

from tracker.api.problems import Problem, invalid

MAX_BODY = 1 << 20
"""Longest body that is read, in bytes."""

_MOST_NAMED = 20
_LONGEST_NAMED = 80

Model = TypeVar("Model", bound=BaseModel)


async def read_object(request: Request) -> dict[str, object]:
    """The JSON object that a request brings.

    Raises:
        Problem: 413 over MAX_BODY, 415 where it says to be something else, 422 where it is none.
    """
    _check_type(request)
    try:
        value = orjson.loads(await _read(request))
    except orjson.JSONDecodeError as error:
        raise invalid({"body": [f"is not JSON: {error}"]}) from None
    if not isinstance(value, dict):
        raise invalid({"body": ["is not a JSON object"]})
    return value


def read_model(value: dict[str, object], model: type[Model]) -> Model:
    """What an object says.

    Raises:
        Problem: 422 naming every field that is missing, unknown or unreadable, as in clicks.0.offer_id.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise invalid(_named(error)) from None


def _check_type(request: Request) -> None:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise Problem(415, "Send the body as application/json.", headers={"Accept": "application/json"})
    if request.headers.get("content-encoding", "identity") != "identity":
        raise Problem(415, "Send the body uncompressed.", headers={"Accept-Encoding": "identity"})


async def _read(request: Request) -> bytes:
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BODY:
                raise Problem(413, f"The body is longer than {MAX_BODY} bytes.")
    except ClientDisconnect:
        raise Problem(400, "The body ended too early.") from None
    return bytes(body)


def _named(error: ValidationError) -> dict[str, list[str]]:
    """By place; names come from the client, so there may be many, and long ones."""
    details = error.errors(include_url=False, include_input=False, include_context=False)[:_MOST_NAMED]
    return {
        ".".join(map(str, detail["loc"]))[:_LONGEST_NAMED] or "body": [
            _message(detail["type"], detail["msg"])
        ]
        for detail in details
    }


_MESSAGES = {
    "extra_forbidden": "is no field here",
    "missing": "is missing",
    "model_type": "is not an object",
    "list_type": "is not a list",
}


def _message(kind: str, message: str) -> str:
    return _MESSAGES.get(kind) or message.removeprefix("Value error, ")
