"""Lists by pages: what an endpoint answers to the filters in a page's address."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from tracker.dashboard.asking import ask, query_string
from tracker.dashboard.html import Fault
from tracker.dashboard.visit import Visit
from tracker.domain import normalise
from tracker.people.sign_in import FieldError

PER_PAGE: Final = 50
"""Rows of a page."""


class Listed(NamedTuple):
    """A page of a list."""

    rows: Sequence[dict[str, Any]]
    total: int
    before: str  # the address of the page before. "" on the first one
    after: str
    filters: Mapping[str, str]  # as the address has them
    complete_until: str = ""  # RFC 3339. "" if the list does not tell of clicks

    @property
    def is_filtered(self) -> bool:
        return any(self.filters.values())


async def listed(visit: Visit, endpoint: str, filters: Sequence[str], fault: Fault | None) -> Listed:
    """The rows that the filters of an address choose. None if they are refused.

    Raises:
        RefusedError: the endpoint refuses.
    """
    given = visit.request.query_params
    wanted = {name: given.get(name, "") for name in filters}
    if fault:
        return Listed((), 0, "", "", wanted)
    asked = {**wanted, "page": given.get("page", ""), "per_page": PER_PAGE}
    told = await ask(visit, endpoint, asked)
    answer, number = told.body, told.body["page"]

    def page(number: int) -> str:
        return f"{visit.path}?{query_string({**wanted, 'page': number})}"

    before = page(number - 1) if number > 1 else ""
    after = page(number + 1) if number < answer["pages"] else ""
    return Listed(answer["data"], answer["total"], before, after, wanted, told.complete_until)


def ids_of(field: str, text: str) -> list[int]:
    """The ids in a field, separated by commas or blanks.

    Raises:
        FieldError: a part is no id.
    """
    ids = []
    for part in text.replace(",", " ").split():
        id_ = normalise.id_(part)
        if id_ is None:
            raise FieldError(field, f"{part[:20]} is not an id. Write ids as in 513, 514")
        ids.append(id_)
    return ids
