"""JSON bodies: read in bounds, and held against a model that says what is accepted."""

from __future__ import annotations

import re
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request

from tracker.api.click_query import named_errors
from tracker.api.problems import Problem, invalid

MAX_BODY = 256 * 1024
"""Longest body, in bytes."""

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"

_LONGEST_NAME_SHOWN = 50
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")  # which PostgreSQL stores in no text

SomeModel = TypeVar("SomeModel", bound=BaseModel)


async def read_object(request: Request, *media_types: str) -> dict[str, Any]:
    """The JSON object that a request brings.

    Raises:
        Problem: 415 for another media type, 413 for more than MAX_BODY, 422 for anything but an object.
    """
    given_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given_type not in media_types:
        detail = f"Send a body of {' or '.join(media_types)}, and say so in Content-Type."
        raise Problem(415, detail, headers={"Accept": ", ".join(media_types)})
    try:
        given = orjson.loads(await _read(request))
    except orjson.JSONDecodeError as error:
        raise invalid({"body": [f"is no JSON: {error}"]}) from None
    if not isinstance(given, dict):
        raise invalid({"body": ["is no JSON object"]})
    _check_storable(given)
    return given


def validated(given: dict[str, Any], model: type[SomeModel]) -> SomeModel:
    """What was given, as a model.

    Raises:
        Problem: 422 naming every field that is unknown, missing or wrong.
    """
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise invalid(named_errors(error, "is no field of this")) from None


def merged(old: Any, patch: Any) -> Any:
    """An object after a merge patch (RFC 7396): null takes away, objects are merged, all else replaces."""
    if not isinstance(patch, dict):
        return patch
    new = dict(old) if isinstance(old, dict) else {}
    for name, value in patch.items():
        if value is None:
            new.pop(name, None)
        else:
            new[name] = merged(new.get(name), value)
    return new


def _check_storable(given: dict[str, Any]) -> None:
    for name, value in given.items():
        try:
            text = orjson.dumps([name, value])
        except orjson.JSONEncodeError:
            raise invalid({_shown(name): ["is nested too deeply"]}) from None
        if _NUL.search(text):
            raise invalid({_shown(name): ["has a NUL character"]})


def _shown(name: str) -> str:
    return name.replace("\0", "")[:_LONGEST_NAME_SHOWN] or "body"


async def _read(request: Request) -> bytes:
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BODY:
                raise Problem(
                    413, f"The body is longer than {MAX_BODY} bytes.", headers={"Connection": "close"}
                )
    except ClientDisconnect:
        raise Problem(400, "The body was cut off.") from None
    return bytes(body)
