"""The address of a list's page: its filters, its columns, and the ways through the list."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Final, NamedTuple
from urllib.parse import urlencode

from tracker.dashboard.cell_links import WITHOUT
from tracker.dashboard.visit import Visit
from tracker.store.paging import MAX_OFFSET

PER_PAGE: Final = 50
"""Rows of a page."""

Pair = tuple[str, str]
_OF_PAGE: Final = frozenset({WITHOUT, "columns", "done", "times"})
_OF_PART: Final = frozenset({"page", "cursor"})
_OF_ORDER: Final = frozenset({"sort", "per_page"})


class ListState(NamedTuple):
    """What an address asks of a list. A form's empty field asks for nothing."""

    path: str
    pairs: tuple[Pair, ...]

    @classmethod
    def of(cls, visit: Visit) -> ListState:
        given = visit.request.query_params.multi_items()
        return cls(visit.path, tuple((name, value) for name, value in given if value))

    def get(self, name: str, default: str = "") -> str:
        """The value of a parameter: several ones with commas between."""
        return ",".join(self.all(name)) or default

    def all(self, name: str) -> list[str]:
        return [value for given, value in self.pairs if given == name]

    @property
    def filters(self) -> str:
        """The filters, as a query of the endpoint."""
        return urlencode(self._filters())

    @property
    def query(self) -> str:
        """All that the endpoint of the list is asked."""
        order = [(name, value) for name, value in self.pairs if name in _OF_ORDER | _OF_PART]
        size = [] if self.get("per_page") else [("per_page", str(PER_PAGE))]
        return urlencode([*self._filters(), *order, *size])

    def _filters(self) -> list[Pair]:
        others = _OF_PAGE | _OF_ORDER | _OF_PART
        own = [pair for pair in self.pairs if pair[0] not in others]
        return [*own, *((name, "") for name in self.all(WITHOUT))]

    def address(self, *left_out: str, **replaced: object) -> str:
        """The address of the same list with other parameters. A new filter begins at the first page."""
        gone = {*left_out, *replaced, *_OF_PART}
        pairs = [pair for pair in self.pairs if pair[0] not in gone]
        pairs += [(name, str(value)) for name, value in replaced.items() if value != ""]
        return f"{self.path}?{urlencode(pairs)}" if pairs else self.path

    def besides(self, fields: Collection[str]) -> list[tuple[Pair, str]]:
        """The filters that no field of the page shows, each with the address without it."""
        shown = {*fields, *_OF_ORDER, *_OF_PART, "columns", "done"}
        return [(pair, self._less(pair)) for pair in self.pairs if pair[0] not in shown]

    def _less(self, pair: Pair) -> str:
        pairs = [one for one in self.pairs if one != pair and one[0] not in _OF_PART]
        return f"{self.path}?{urlencode(pairs)}" if pairs else self.path

    def ways(self, next_cursor: str | None, number: int) -> tuple[str, str]:
        """The addresses of the page before and of the next one. "" without one.

        Deep pages are only found from the page before, by its cursor. So nothing leads back from them but the
        browser.
        """
        size = int(self.get("per_page") or PER_PAGE)
        before = "" if self.get("cursor") or number < 2 else self.address(page=number - 1)
        if next_cursor is None:
            return before, ""
        is_near = not self.get("cursor") and number * size <= MAX_OFFSET
        after = self.address(page=number + 1) if is_near else self.address(cursor=next_cursor)
        return before, after


def chosen(state: ListState, known: Sequence[str], usual: Iterable[str]) -> list[str]:
    """The columns to show: the usual ones first, then those of the list's order."""
    ordered = dict.fromkeys([*(name for name in usual if name in known), *known])
    wanted = {*(state.all("columns") or usual)}
    return [name for name in ordered if name in wanted]
