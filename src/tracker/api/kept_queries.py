"""Queries that are kept for later: read as their endpoint reads them, by the rights of their keeper."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Final
from urllib.parse import urlencode

from pydantic import AfterValidator, Field
from starlette.routing import Route

from tracker.api import reports
from tracker.api.clicks import endpoints as clicks
from tracker.api.conversions import endpoints as conversions
from tracker.api.http.auth import VIEWS
from tracker.api.http.endpoint import Contract, contract_of
from tracker.api.http.routing import ROOT
from tracker.api.partner_access import endpoints as partners
from tracker.api.partner_access.schema import REPORTS
from tracker.catalogue.errors import CatalogueError, invalid
from tracker.domain.normalise import pairs
from tracker.errors import in_words
from tracker.parameters import ParameterError, Query
from tracker.reading.query import read_query
from tracker.reading.visibility import Visibility
from tracker.store.token_owner import Owner
from tracker.store.tokens import Token

SHOWS: Final = ("reports", "clicks", "conversions")
"""What a kept query may be of."""

ROOTS: Final[Mapping[str, str]] = {"": ROOT, **VIEWS}
"""Where queries are kept, by kind of owner. Empty: the network."""

_WRITTEN = re.compile(r"[!-~]*")  # RFC 3986: other characters are percent-encoded


def _query_text(text: str) -> str:
    text = text.removeprefix("?")
    if not _WRITTEN.fullmatch(text) or "#" in text:
        raise ValueError("is not the query of an address: percent-encode its values")
    return text


QueryText = Annotated[
    str,
    Field(
        max_length=8_000,
        description="The query of an address, as in the part after the question mark.",
        examples=["group_by=offer&period=last_7_days"],
    ),
    AfterValidator(_query_text),
]


def _contracts() -> dict[tuple[str, str], Contract]:
    """The endpoints that read, by whose rows and by what they show."""
    routes: list[Route] = [*reports.routes, *clicks.routes, *conversions.routes, *partners.routes]
    found = {route.path: contract for route in routes if (contract := contract_of(route))}
    return {(kind, shows): found[f"{root}/{shows}"] for kind, root in ROOTS.items() for shows in SHOWS}


_READ_BY = _contracts()


def report_filters(kind: str, *, hides_money: bool) -> frozenset[str]:
    """The parameters of the reports of an owner."""
    model = _READ_BY[kind, "reports"].query_of(hides_money=hides_money)
    assert model
    return frozenset(model.model_fields)


def read_kept(shows: str, kind: str, text: str, *, hides_money: bool) -> Query:
    """A kept query as its endpoint reads it now.

    `kind`: of the owner of its rows, or empty for the network.

    Raises:
        CatalogueError: INVALID. It names the wrong parameters.
    """
    model = _READ_BY[kind, shows].query_of(hides_money=hides_money)
    assert model, "lists and reports have a query without money"
    try:
        return read_query(text.encode(), model)
    except ParameterError as error:
        raise wrong_query(error) from None


def check_kept(shows: str, kind: str, text: str, *, hides_money: bool) -> None:
    """See that the endpoint reads those parameters that are its own. Others are the page's.

    Raises:
        CatalogueError: INVALID. It names the wrong parameters.
    """
    model = _READ_BY[kind, shows].query_of(hides_money=hides_money)
    assert model, "lists and reports have a query without money"
    names = {field.alias or name for name, field in model.model_fields.items()}
    own = [(name, value) for name, value in pairs(text.encode()) if name in names]
    read_kept(shows, kind, urlencode(own), hides_money=hides_money)


def wrong_query(error: ParameterError) -> CatalogueError:
    """The error of a parameter in a field with a query."""
    return invalid({"query": [in_words({name: why}) for name, why in error.errors.items()]})


def sight_of(owner: Owner | None, *, hides_money: bool) -> Visibility:
    """What is seen of reports with the rows of an owner. None: the network."""
    seen = Visibility(REPORTS[owner.kind]) if owner else reports.ALL
    scopes = frozenset(["reports:read"])
    return seen.seen_by(
        Token(0, "", scopes, None, owner, is_expired=False, is_shut=False, hides_money=hides_money)
    )
