"""What pages ask, and what they let change: the API's endpoints, called inside this process.

A page gets what the API would answer to a token with the rights of its session. So the rule of access, the
parameters, the rows and the errors of a page are those of the API.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from http import HTTPStatus
from typing import Any, Final, NamedTuple
from urllib.parse import quote, urlencode
from weakref import WeakValueDictionary

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from tracker.api.catalogue import problem_of
from tracker.api.http.auth import VIEWS
from tracker.api.http.body import JSON
from tracker.api.http.complete_until import HEADER, KEPT_HEADER
from tracker.api.http.endpoint import answer_as
from tracker.api.http.problems import Problem, invalid
from tracker.api.http.routing import ROOT, PathRouter
from tracker.catalogue.errors import CatalogueError
from tracker.dashboard import fault_words
from tracker.dashboard.html import HEADERS, Fault
from tracker.dashboard.visit import Visit
from tracker.parameters import ParameterError
from tracker.people.seeing import token_of
from tracker.store.db import POOL_SIZE, STATEMENT_TIMEOUT_SECONDS

Parameters = Mapping[str, Any] | Iterable[tuple[str, Any]] | str
"""Parameters of a query. A value may be a list. None and "" are left out. A text is the query as it is."""

_FOR_TOKENS: Final = 2
MOST_OF_ALL: Final = POOL_SIZE - _FOR_TOKENS
"""Most answers for all pages at a time. The other connections to Postgres are for programs with tokens."""
MOST_AT_ONCE: Final = MOST_OF_ALL - 1
"""Most answers for one user, or of one share, at a time."""

_API: Final = "/backend/"


class Answer(NamedTuple):
    """What an endpoint answered."""

    body: Any  # the JSON. None without one
    complete_until: str  # RFC 3339. "" if the answer does not tell of clicks
    etag: str  # "" without one
    kept_from: str = ""  # RFC 3339: clicks from then on are kept one by one. "" if all are


class RefusedError(Exception):
    """An endpoint refused. The fault has its text, and the text of each field that is wrong."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.text)
        self.fault = fault


class Turns:
    """Whose turn it is. Nobody takes all turns of pages, and pages do not take all connections."""

    def __init__(self) -> None:
        self._all = asyncio.Semaphore(MOST_OF_ALL)
        self._by_name: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    @asynccontextmanager
    async def of(self, whose: str) -> AsyncIterator[None]:
        """One of somebody's turns, as soon as it is free.

        Raises:
            RefusedError: 503, after the longest time of a statement.
        """
        turns = self._by_name.setdefault(whose, asyncio.Semaphore(MOST_AT_ONCE))
        try:
            async with AsyncExitStack() as held:
                async with asyncio.timeout(STATEMENT_TIMEOUT_SECONDS):
                    await held.enter_async_context(turns)
                    await held.enter_async_context(self._all)
                taken = held.pop_all()
        except TimeoutError:
            raise RefusedError(Fault(503, _OTHERS_WAIT, headers={"Retry-After": "5"})) from None
        async with taken:
            yield


def turns_of(visit: Visit) -> Turns:
    """The turns of this process."""
    turns: Turns = visit.request.app.state.turns
    return turns


_OTHERS_WAIT: Final = "Other pages are still being made, yours or those of others. Try again in a moment."


async def ask(
    visit: Visit,
    path: str,
    query: Parameters = (),
    *,
    at: Mapping[str, object] | None = None,
    method: str = "GET",
    body: Any = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """The answer of an endpoint to the session of a visit.

    `path`: as documented, without the part that says whose view it is: "/clicks/{id}". `at`: the values of
    its parameters. `body`: sent as JSON. Bytes are sent as they are, with a content-type among `headers`.

    Raises:
        RefusedError: the endpoint answers an error.
    """
    content = b"" if body is None else body if isinstance(body, bytes) else orjson.dumps(body)
    sent = {"content-type": JSON, **(headers or {})}
    response = await _answered(visit, method, _placed(path, at or {}), query, content, sent)
    known = response.headers
    loaded = orjson.loads(response.body) if response.body else None
    return Answer(loaded, known.get(HEADER, ""), known.get("etag", ""), known.get(KEPT_HEADER, ""))


async def download(visit: Visit, path: str, query: Parameters = ()) -> Response:
    """An answer of an endpoint that the browser gets as it is: a file.

    Raises:
        RefusedError: the endpoint answers an error.
    """
    response = await _answered(visit, "GET", path, query, b"", {})
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response


def api_path(visit: Visit, path: str) -> str:
    """The whole path of an endpoint for the session of a visit. A whole path stays as it is."""
    assert visit.session
    if path.startswith(_API):
        return path
    owner = token_of(visit.session).owner
    return (VIEWS[owner.kind] if owner else ROOT) + path


def query_string(query: Parameters) -> str:
    """Parameters as a query string, without those that have no value."""
    if isinstance(query, str):
        return query
    pairs = query.items() if isinstance(query, Mapping) else query
    listed = ((name, value if isinstance(value, (list, tuple)) else [value]) for name, value in pairs)
    return urlencode([(name, one) for name, values in listed for one in values if one not in (None, "")])


def _placed(path: str, values: Mapping[str, object]) -> str:
    """A path with the values of its parameters.

    Raises:
        RefusedError: 404 for a value that would lead to another path.
    """
    for name, value in values.items():
        text = str(value)
        if not text or "/" in text:
            raise RefusedError(Fault(HTTPStatus.NOT_FOUND, "There is no such thing."))
        path = path.replace(f"{{{name}}}", text, 1)
    return path


async def _answered(
    visit: Visit, method: str, path: str, query: Parameters, content: bytes, headers: Mapping[str, str]
) -> Response:
    """The response of an endpoint.

    Raises:
        RefusedError: it is an error.
    """
    session = visit.session
    if session is None or not session.is_whole or visit.lacks_factor:
        raise RefusedError(Fault(HTTPStatus.FORBIDDEN, "Sign in first."))
    if session.seen_as and method != "GET":
        raise RefusedError(
            Fault(HTTPStatus.FORBIDDEN, "You see what a partner sees. Nothing can be changed.")
        )
    request = _request(visit, method, api_path(visit, path), query, content, headers)
    router = visit.api.router
    assert isinstance(router, PathRouter)
    try:
        async with turns_of(visit).of(f"user {session.user_id}"):
            return await answer_as(token_of(session), router.route_of(request.scope), request)
    except CatalogueError as error:
        raise RefusedError(_fault(problem_of(error))) from None
    except ParameterError as error:
        raise RefusedError(_fault(invalid(error.errors))) from None
    except HTTPException as error:
        raise RefusedError(_fault(error)) from None


def _request(
    visit: Visit, method: str, path: str, query: Parameters, content: bytes, headers: Mapping[str, str]
) -> Request:
    """A request of this process, from the address of the visit."""
    scope = visit.request.scope
    passed = [pair for pair in scope["headers"] if pair[0].startswith((b"x-forwarded-", b"forwarded"))]
    own = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    made = {
        **{name: scope[name] for name in ("type", "asgi", "http_version", "scheme", "client", "server")},
        "method": method,
        "path": path,
        "raw_path": quote(path).encode(),
        "root_path": "",
        "query_string": query_string(query).encode(),
        "headers": passed + own,
        "state": {},
        "app": visit.api,
    }
    return Request(made, _receive(content))


def _receive(content: bytes) -> Callable[[], Awaitable[dict[str, Any]]]:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": content, "more_body": False}

    return receive


def _fault(error: HTTPException) -> Fault:
    errors = error.errors if isinstance(error, Problem) else {}
    text = fault_words.in_one_line(error.detail, errors)
    return Fault(error.status_code, text, headers=error.headers or {}, fields=fault_words.by_field(errors))
