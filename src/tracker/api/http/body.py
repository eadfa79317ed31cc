"""JSON bodies: read in bounds, and held against a model of what is accepted; every defect by its place."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request

from tracker.api.http.problems import Problem, invalid

MAX_BODY = 256 * 1024
"""Longest body unless said otherwise, in bytes."""

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"

_MOST_NAMED = 20
_LONGEST_NAMED = 80
_LONGEST_NAME_SHOWN = 50
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")  # which PostgreSQL stores in no text

SomeModel = TypeVar("SomeModel", bound=BaseModel)


async def read_object(request: Request, *media_types: str, most: int = MAX_BODY) -> dict[str, Any]:
    """The JSON object that a request brings.

    Raises:
        Problem: 415 for another media type, 413 for more than `most` bytes, 422 for anything but an object.
    """
    check_type(request, *media_types)
    try:
        given = orjson.loads(await _read(request, most))
    except orjson.JSONDecodeError as error:
        raise invalid({"body": [f"is not JSON: {error}"]}) from None
    if not isinstance(given, dict):
        raise invalid({"body": ["is not a JSON object"]})
    return given


def check_storable(given: dict[str, Any]) -> None:
    """See that PostgreSQL can store an object's texts.

    Raises:
        Problem: 422 naming a field that has a NUL character, or is nested too deeply to tell.
    """
    for name, value in given.items():
        try:
            text = orjson.dumps([name, value])
        except orjson.JSONEncodeError:
            raise invalid({_shown(name): ["is nested too deeply"]}) from None
        if _NUL.search(text):
            raise invalid({_shown(name): ["has a NUL character"]})


def validated(
    given: dict[str, Any], model: type[SomeModel], before: dict[str, Any] | None = None
) -> SomeModel:
    """What was given, as a model. Its fields may let stand what is as it was `before`.

    Raises:
        Problem: 422 naming every field that is missing, unknown or unreadable, as in clicks.0.offer_id.
    """
    try:
        return model.model_validate(given, context=before)
    except ValidationError as error:
        raise invalid(_named(error)) from None


async def read_chunks(request: Request, most: int) -> AsyncIterator[bytes]:
    """The body as it comes.

    Raises:
        Problem: 413 for more than `most` bytes, 400 where it ends too early.
    """
    length = 0
    try:
        async for chunk in request.stream():
            length += len(chunk)
            if length > most:
                raise too_long(f"The body is longer than {most} bytes.")
            yield chunk
    except ClientDisconnect:
        raise Problem(400, "The body was cut off.") from None


def too_long(detail: str) -> Problem:
    """413; what is left of the body is thrown away (protocol.DISCARDED_BYTES of it)."""
    return Problem(413, detail)


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


def check_type(request: Request, *media_types: str) -> str:
    """The media type of a body, which is one of these.

    Raises:
        Problem: 415 where it is not, or is compressed.
    """
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given not in media_types:
        detail = f"Send a body of {' or '.join(media_types)}, and say so in Content-Type."
        raise Problem(415, detail, headers={"Accept": ", ".join(media_types)})
    if request.headers.get("content-encoding", "identity") != "identity":
        raise Problem(415, "Send the body uncompressed.", headers={"Accept-Encoding": "identity"})
    return given


def _shown(name: str) -> str:
    return name.replace("\0", "")[:_LONGEST_NAME_SHOWN] or "body"


async def _read(request: Request, most: int) -> bytes:
    return b"".join([chunk async for chunk in read_chunks(request, most)])


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
    "extra_forbidden": "is not a field of this object",
    "missing": "is missing",
    "model_type": "is not an object",
    "list_type": "is not a list",
}


def _message(kind: str, message: str) -> str:
    return _MESSAGES.get(kind) or message.removeprefix("Value error, ")
