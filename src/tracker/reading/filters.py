"""Filters by values: their parameters, and the conditions that they mean.

A row matches a filter with several values if it has one of them. `exclude_` before the name leaves these out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from pydantic import create_model

from tracker.domain.click_fields import BY_NAME, Field
from tracker.parameters import (
    Addresses,
    Bool,
    Browsers,
    Countries,
    DeviceTypes,
    Ids,
    Keys,
    Query,
    Reasons,
    Systems,
    Texts,
    VisitorKeys,
    about,
    choices,
)
from tracker.store.conditions import Among, Equals, Further

EXCLUDE: Final = "exclude_"

_OF_TYPE: Mapping[type, Any] = {int: Ids, bool: Bool, str: Texts}
_OF_NAME: Mapping[str, Any] = {
    "hash": Keys,
    "country_code": Countries,
    "device_os": Systems,
    "browser": Browsers,
    "device_type": DeviceTypes,
    "ip": Addresses,
    "reason": Reasons,
    "visitor_key": VisitorKeys,
}
_NEVER_EXCLUDED: Final = frozenset({"id", "hash", "click_id", "click_hash", "order_id"})
"""Names of one row or a few: nobody asks for all others."""

Filters = Mapping[str, tuple[Any, str]]
"""The type and the description of filters, by name."""


def of_clicks(names: Iterable[str], told: Callable[[str], str] = str) -> Filters:
    """Filters by fields of a click. `told` makes the description of what a click's filter says."""
    return {name: (_type(BY_NAME[name]), told(BY_NAME[name].filter)) for name in names}


def parameters(filters: Filters) -> type[Query]:
    """The parameters of filters and of their exclusions."""
    fields: dict[str, Any] = {name: (type_, about(text)) for name, (type_, text) in filters.items()}
    fields |= {
        EXCLUDE + name: (type_, about(f"Leaves out what {name} finds with these values."))
        for name, (type_, _) in filters.items()
        if type_ is not Bool and name not in _NEVER_EXCLUDED
    }
    return create_model("Parameters", __base__=Query, **fields)


def conditions(query: Query, columns: Iterable[str]) -> tuple[Equals, Further]:
    """The conditions that a query has on columns: those of one value, and all others."""
    equals, further = [], []
    for column in columns:
        value = getattr(query, column, None)  # reports have no is_test
        excluded = getattr(query, EXCLUDE + column, None)
        several = value if isinstance(value, tuple) else ()
        if len(several) == 1 and not _is_network(several[0]):
            equals.append((column, several[0]))
        elif several:
            further.append(Among(column, several))
        elif value is not None:
            equals.append((column, value))
        if excluded is not None:
            further.append(Among(column, excluded, is_excluded=True))
    return tuple(equals), tuple(further)


def _is_network(value: object) -> bool:
    return isinstance(value, str) and "/" in value


def _type(field: Field) -> Any:
    return choices(*field.choices) if field.choices else _OF_NAME.get(field.name, _OF_TYPE[field.kind])
