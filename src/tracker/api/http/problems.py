"""Errors as problem details (RFC 9457), with `message` and `errors` for clients that read these."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus

import orjson
from pydantic import Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from tracker.errors import Errors, in_log, in_words
from tracker.parameters import Model, ParameterError
from tracker.store.catalogue.edit import BUSY
from tracker.store.db import STATEMENT_TIMEOUT_SECONDS, TOO_MANY_CONNECTIONS, PoolIsBusyError, drop_read_only
from tracker.store.migrate import is_behind
from tracker.store.outages import MIGRATE, NOT_MIGRATED
from tracker.store.paging import TOO_SLOW


class ProblemDetails(Model):
    """An error (RFC 9457)."""

    type: str = Field(examples=["about:blank"])
    title: str = Field(examples=["Unprocessable Content"])
    status: int = Field(examples=[422])
    detail: str = Field(examples=["per_page is not a whole number from 1 to 1000"])
    message: str = Field(description="The same as detail.")
    errors: dict[str, list[str]] = Field(
        description="Messages by parameter or field.",
        examples=[{"per_page": ["is not a whole number from 1 to 1000"]}],
    )


MEDIA_TYPE = "application/problem+json"

SECURITY_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
"""Headers of every answer of the API."""

RETRY_AFTER = {"Retry-After": "1"}
"""Header of every 503."""

_log = logging.getLogger(__name__)


class Problem(HTTPException):
    """An answer that is an error. `errors` has messages by parameter."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        errors: Errors | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, detail, headers)
        self.errors = errors or {}


def invalid(errors: Errors) -> Problem:
    """422 naming each parameter that cannot be read."""
    return Problem(422, in_words(errors), errors=errors)


def conflict(errors: Errors) -> Problem:
    """409 naming each field that does not go with what is there."""
    return Problem(409, in_words(errors), errors=errors)


async def answer_problem(_request: Request, error: Exception) -> Response:
    """Answer a Problem, or Starlette's own 404 or 405."""
    assert isinstance(error, HTTPException)
    errors = error.errors if isinstance(error, Problem) else {}
    return _response(error.status_code, error.detail, errors, error.headers)


async def answer_parameter_error(request: Request, error: Exception) -> Response:
    """422 naming the parameters."""
    assert isinstance(error, ParameterError)
    return await answer_problem(request, invalid(error.errors))


async def answer_unavailable(request: Request, error: Exception) -> Response:
    """503 while Postgres is away or too busy to answer in time. The log says which."""
    await drop_read_only(request.app.state.pool, error)
    _log.warning(
        "%(path)r: %(cause)s",
        {"event": "request_unavailable", "path": request.url.path, "cause": _short(error)},
    )
    detail = "The database cannot answer now. Try again. If the error stays, ask for a shorter time range."
    return _response(503, detail, headers=RETRY_AFTER)


async def answer_not_migrated(request: Request, error: Exception) -> Response:
    """503 on a database that lacks migrations. On a migrated one the error is our fault, and it is raised."""
    if not await is_behind(request.app.state.pool):
        raise error
    return await answer_unavailable(request, error)


def _short(error: Exception) -> str:
    """The cause in one line, for the operator."""
    if isinstance(error, PoolIsBusyError):
        return f"{error}: requests are slow, or there are too many at once"
    if isinstance(error, TOO_SLOW):
        return f"a query took longer than {STATEMENT_TIMEOUT_SECONDS} s"
    if isinstance(error, BUSY):
        return "another transaction has locked the row for too long"
    if isinstance(error, TOO_MANY_CONNECTIONS):
        return "Postgres has no connection left (max_connections)"
    if isinstance(error, NOT_MIGRATED):
        return f"{MIGRATE} ({error})"
    if isinstance(error, TimeoutError):
        return "Postgres gave no answer in time"
    return f"Postgres is unavailable: {type(error).__name__}"


async def answer_defect(request: Request, _error: Exception) -> Response:
    """500. Starlette raises the error again, and the server logs it."""
    id_ = request.scope.get("request_id", "")
    return _response(500, f"The server failed to answer this request. Its log has the reason{in_log(id_)}.")


def _response(
    status: int, detail: str, errors: Errors | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    title = HTTPStatus(status).phrase
    body = {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": detail,
        "message": detail,
        "errors": errors or {},
    }
    return Response(orjson.dumps(body), status, {**SECURITY_HEADERS, **(headers or {})}, MEDIA_TYPE)
