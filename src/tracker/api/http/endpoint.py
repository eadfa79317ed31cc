"""The contract of an endpoint, declared once: who may call it, its parameters, its body and its answers.

`endpoint` makes the handler of a route from a contract and a function. The handler lets no request in without
a token of the contract's scope. The OpenAPI document is written from the same contract.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple

from pydantic import BaseModel
from starlette.datastructures import State
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from tracker.api.http.auth import authorize, permit
from tracker.api.http.body import JSON, MAX_BODY, check_type, read_object, read_whole
from tracker.api.http.complete_until import header
from tracker.api.http.later import Later, model_of
from tracker.api.http.problems import Problem
from tracker.domain.access import SCOPES
from tracker.parameters import Query
from tracker.reading.query import SomeQuery, read_query
from tracker.reading.sources import Source, Sources
from tracker.store.catalogue.edit import Author
from tracker.store.clicks import kept
from tracker.store.db import Pool
from tracker.store.token_owner import Owner
from tracker.store.tokens import Token

_READING = ("GET", "HEAD")

Answer = Callable[[Request], Awaitable[Response]]
"""The handler of a route."""


class Body(NamedTuple):
    """A JSON body."""

    model: Later[BaseModel]
    media_types: tuple[str, ...] = (JSON,)
    most: int = MAX_BODY  # bytes


class FileBody(NamedTuple):
    """A body that is a file."""

    examples: Mapping[str, str]  # by media type
    most: int  # bytes


class Contract(NamedTuple):
    """What an endpoint declares. Every endpoint may also answer 401, 403, 422, 429 and 503."""

    name: str  # the operationId
    text: str  # the summary, an empty line, and the description
    tag: str
    scopes: tuple[str, ...]  # a token needs one of them
    owner: str  # the kind of the token's owner: affiliate, advertiser, or empty for the network
    query: Later[Query]
    without_money: Later[Query] | None  # the query of a token that hides money. None: it is refused
    path: Mapping[str, str]  # descriptions of the path's parameters
    headers: type[BaseModel] | None  # of the request
    body: Body | FileBody | None
    returns: Later[BaseModel] | None
    files: tuple[str, ...]  # media types that the answer may have besides JSON
    status: int
    may_fail: tuple[int, ...]  # further errors: a body and a path with parameters bring their own
    has_etag: bool
    has_complete_until: bool
    from_standby: bool  # a standby may answer

    def query_of(self, *, hides_money: bool) -> type[Query] | None:
        """The query that may be sent. None: none, because the endpoint shows money."""
        query = self.without_money if hides_money else self.query
        return None if query is None else model_of(query)


@dataclass(slots=True)
class Call(Generic[SomeQuery]):
    """An authorised request, with its parameters read."""

    request: Request
    contract: Contract
    token: Token
    query: SomeQuery
    pool: Pool
    """Where the contract lets it read. What writes has the primary."""
    complete_until: int | None = None
    """Unix milliseconds that the answer gives as Complete-Until. None: the answer has no such header."""
    kept_since: int = 0
    """Unix milliseconds that the answer gives as Rows-Kept-From. 0: it has no such header."""

    @property
    def state(self) -> State:
        """What the application keeps open."""
        state: State = self.request.app.state
        return state

    @property
    def path(self) -> Mapping[str, str]:
        """The path's parameters, as they were sent."""
        return self.request.path_params

    @property
    def network_zone(self) -> str:
        """The IANA name of the network's time zone."""
        name: str = self.state.settings.time_zone
        return name

    @property
    def owner(self) -> Owner:
        """The affiliates or advertisers that the token is bound to."""
        assert self.token.owner is not None
        return self.token.owner

    @property
    def author(self) -> Author:
        """The author of what this request changes."""
        address = self.state.limits.address_of(self.request)
        user_id = self.token.user_id
        return Author(None if user_id else self.token.id, self.token.name, user_id, address)

    async def object(self) -> dict[str, Any]:
        """The JSON object in the body.

        Raises:
            Problem: 415 for another media type than the contract's, 413 for a body that is too long, 422 for
                anything that is not an object.
        """
        body = self.contract.body
        assert isinstance(body, Body)
        return await read_object(self.request, *body.media_types, most=body.most)

    async def file(self) -> tuple[str, bytes]:
        """The media type of the file in the body, and the file.

        Raises:
            Problem: 415 for another media type than the contract's, 413 for a file that is too long, 400 for
                a file that was cut off.
        """
        body = self.contract.body
        assert isinstance(body, FileBody)
        return check_type(self.request, *body.examples), await read_whole(self.request, body.most)


Respond = Callable[[Request, Token], Awaitable[Response]]
"""What a handler does for a token that may ask."""

_contracts: dict[Answer, Contract | None] = {}  # by handler. None: it is public
_responses: dict[Answer, Respond] = {}  # by handler


def endpoint(
    *,
    scope: str | tuple[str, ...],
    query: Later[SomeQuery],
    returns: Later[BaseModel] | None,
    tag: str,
    may_fail: tuple[int, ...] = (),
    status: int = 200,
    owner: str = "",
    path: Mapping[str, str] | None = None,
    headers: type[BaseModel] | None = None,
    body: Body | FileBody | None = None,
    files: tuple[str, ...] = (),
    has_etag: bool = False,
    has_complete_until: bool = False,
    from_standby: bool = False,
    without_money: Later[SomeQuery] | None = None,
    name: str = "",
    text: str = "",
) -> Callable[[Callable[[Call[SomeQuery]], Awaitable[Response]]], Answer]:
    """Make the handler of a route. It authorises the request and reads its parameters first.

    The name and the text default to the function's name and docstring. A token that hides money is refused
    unless `without_money` gives the query that it may send: one without parameters for amounts.
    `from_standby`: it is a list, a report or an export, so that a standby may answer it.

    Raises:
        ValueError: there is no such scope, or none at all.
    """
    scopes = (scope,) if isinstance(scope, str) else scope
    if not scopes or not set(scopes) <= set(SCOPES):
        raise ValueError(f"scope is not one or more of: {', '.join(SCOPES)}")

    def decorate(function: Callable[[Call[SomeQuery]], Awaitable[Response]]) -> Answer:
        contract = Contract(
            name=name or function.__name__,
            text=text or function.__doc__ or "",
            tag=tag,
            scopes=scopes,
            owner=owner,
            query=query,
            without_money=without_money,
            path=path or {},
            headers=headers,
            body=body,
            returns=returns,
            files=files,
            status=status,
            may_fail=may_fail,
            has_etag=has_etag,
            has_complete_until=has_complete_until,
            from_standby=from_standby,
        )

        async def answer(request: Request) -> Response:
            return await respond(request, await authorize(request, contract.scopes, owner))

        async def respond(request: Request, token: Token) -> Response:
            return await _respond(function, contract, request, token)

        _contracts[answer] = contract
        _responses[answer] = respond
        return answer

    return decorate


async def _respond(
    function: Callable[[Call[Any]], Awaitable[Response]], contract: Contract, request: Request, token: Token
) -> Response:
    """Read the parameters, and answer from the server that the contract allows."""
    query = contract.query_of(hides_money=token.hides_money)
    if query is None:
        raise Problem(403, "This path shows money, and the token hides it.")
    asked = read_query(request.scope["query_string"], query)
    tells_time = contract.has_complete_until
    sources: Sources = request.app.state.sources

    async def answer(source: Source) -> Response:
        call = Call(request, contract, token, asked, source.pool)
        if tells_time:  # known before the clicks are read
            call.complete_until, call.kept_since = source.complete_until, await kept.since(source.pool)
        response = await function(call)
        response.headers.update(header(call.complete_until, call.kept_since))
        return response

    if contract.from_standby:
        goes_on = getattr(asked, "cursor", None) is not None
        return await sources.read(answer, goes_on=goes_on, tells_time=tells_time)
    response = await answer(await sources.of_primary(tells_time=tells_time))
    if request.method not in _READING:
        await sources.show_write()
    return response


def public(handler: Answer) -> Answer:
    """Declare that a handler needs no token. The OpenAPI document leaves it out."""
    _contracts[handler] = None
    return handler


async def answer_as(token: Token, route: Route, request: Request) -> Response:
    """What a route answers to a request of this process, which carries no secret.

    The caller vouches for the token. Its owner and scopes are checked as those of every other token.

    Raises:
        Problem: 403 for a token of another owner or without a scope, and what the endpoint raises.
    """
    contract = contract_of(route)
    if contract is None:
        raise TypeError(f"{route!r} is public: nothing is asked in somebody's name there")
    permit(token, contract.scopes, contract.owner)
    request.state.token_id = token.id
    return await _responses[route.endpoint](request, token)


def contract_of(route: BaseRoute) -> Contract | None:
    """The contract of a route. None if it is public.

    Raises:
        TypeError: the handler was made without `endpoint` or `public`, so nothing authorises its requests.
    """
    handler = route.endpoint if isinstance(route, Route) else None
    if handler not in _contracts:
        raise TypeError(f"{route!r} authorises nobody: make its handler with endpoint, or declare it public")
    return _contracts[handler]
