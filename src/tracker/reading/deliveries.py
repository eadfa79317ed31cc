"""Logs of requests to other people's servers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import Field

from tracker.parameters import PageNumber, ParameterError, PerPage
from tracker.reading.query import SpanQuery
from tracker.store.db import Pool
from tracker.store.deliveries import Deliveries
from tracker.store.paging import Page, TooDeepError


class RequestQuery(SpanQuery):
    """Which requests."""

    def given(self, names: Iterable[str]) -> dict[str, Any]:
        """The filters among some parameters, by name."""
        return {name: value for name in names if (value := getattr(self, name)) is not None}


class LogQuery(RequestQuery):
    """Which requests, and which part of them."""

    per_page: PerPage = Field(default=200, description="Rows per page.")
    page: PageNumber = Field(default=1, description="Page number, from 1.")


async def log_page(
    pool: Pool,
    table: Deliveries,
    names: Iterable[str],
    query: LogQuery,
    network_zone: str,
    place: Mapping[str, Any] | None = None,
) -> Page:
    """A page of a log, newest first. `names`: the parameters of the query that are filters.

    `place`: further filters, which limit what is visible.

    Raises:
        ParameterError: the page is too deep, or two parameters contradict each other.
    """
    filters = {**query.given(names), **(place or {})}
    span, zone = query.span(network_zone), query.zone(network_zone)
    try:
        return await table.page(pool, filters, span, zone, query.page or 1, query.per_page)
    except TooDeepError as error:
        raise ParameterError({"page": [f"{error}: narrow the time"]}) from None
