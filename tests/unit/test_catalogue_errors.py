"""Errors of the catalogue as answers of the API."""

from __future__ import annotations

import pytest

from tracker.api.catalogue import problem_of
from tracker.catalogue.errors import CatalogueError, Kind

_ERRORS = {"name": ["is taken", "is long"], "status": ["is needed"]}
_IN_WORDS = "name is taken; status is needed"


@pytest.mark.parametrize(
    ("error", "status", "detail", "headers"),
    [
        (CatalogueError(Kind.UNKNOWN, {}, "There is no such offer."), 404, "There is no such offer.", None),
        (CatalogueError(Kind.INVALID, _ERRORS), 422, _IN_WORDS, None),
        (CatalogueError(Kind.CONFLICT, _ERRORS), 409, _IN_WORDS, None),
        (CatalogueError(Kind.CONFLICT, _ERRORS, version=17), 409, _IN_WORDS, {"ETag": '"17"'}),
        (CatalogueError(Kind.STALE, _ERRORS, version=17), 412, _IN_WORDS, {"ETag": '"17"'}),
        (
            CatalogueError(Kind.FORBIDDEN, _ERRORS, scope="money:write"),
            403,
            "The token lacks the scope money:write.",
            {
                "WWW-Authenticate": 'Bearer realm="tracker", error="insufficient_scope", scope="money:write"',
            },
        ),
    ],
    ids=lambda value: value.kind.name if isinstance(value, CatalogueError) else None,
)
def test_error_of_each_kind_has_its_status(
    error: CatalogueError, status: int, detail: str, headers: dict[str, str] | None
) -> None:
    problem = problem_of(error)
    assert (problem.status_code, problem.detail, problem.headers) == (status, detail, headers)
    assert problem.errors.keys() == error.errors.keys()
