"""Bodies of requests, read within bounds."""

from __future__ import annotations

from typing import Any

import orjson
from starlette.requests import ClientDisconnect, Request

from tracker.api.http.problems import Problem, invalid

MAX_BODY = 256 * 1024
"""Longest body by default, in bytes."""

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"


async def read_object(request: Request, *media_types: str, most: int = MAX_BODY) -> dict[str, Any]:
    """The JSON object in the body of a request.

    Raises:
        Problem: 415 for another media type, 413 for more than `most` bytes, 422 for a body that is not a JSON
            object.
    """
    check_type(request, *media_types)
    try:
        body = orjson.loads(await read_whole(request, most))
    except orjson.JSONDecodeError as error:
        raise invalid({"body": [f"is not JSON: {error}"]}) from None
    if not isinstance(body, dict):
        raise invalid({"body": ["is not a JSON object"]})
    return body


async def read_whole(request: Request, most: int) -> bytes:
    """The body of a request.

    Raises:
        Problem: 413 for more than `most` bytes, 400 for a body that was cut off.
    """
    chunks, length = [], 0
    try:
        async for chunk in request.stream():
            length += len(chunk)
            if length > most:
                raise too_long(f"The body is longer than {most} bytes.")
            chunks.append(chunk)
    except ClientDisconnect:
        raise Problem(400, "The body was cut off.") from None
    return b"".join(chunks)


def too_long(detail: str) -> Problem:
    """413. The server discards the rest of the body, up to protocol.DISCARDED_BYTES."""
    return Problem(413, detail)


def check_type(request: Request, *media_types: str) -> str:
    """The media type of a body, one of these.

    Raises:
        Problem: 415 for another media type or a compressed body.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type not in media_types:
        detail = f"Send a body of {' or '.join(media_types)}, and say so in Content-Type."
        raise Problem(415, detail, headers={"Accept": ", ".join(media_types)})
    if request.headers.get("content-encoding", "identity") != "identity":
        raise Problem(415, "Send the body uncompressed.", headers={"Accept-Encoding": "identity"})
    return media_type
