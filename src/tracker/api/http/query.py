"""The parameters of a request."""

from __future__ import annotations

from starlette.requests import Request

from tracker.reading import query
from tracker.reading.query import SomeQuery


def read_query(request: Request, model: type[SomeQuery]) -> SomeQuery:
    """The parameters of a request.

    Raises:
        ParameterError: it names every parameter that is unknown, repeated or unreadable.
    """
    return query.read_query(request.scope["query_string"], model)
