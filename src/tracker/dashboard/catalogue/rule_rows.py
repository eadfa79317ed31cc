"""Targeting rules as rows of a form: a rule, whether its values are wanted or unwanted, and the values.

A row without a value is no rule. So a rule goes when its last value is taken out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any, Final, NamedTuple

from tracker.dashboard.form import Form
from tracker.domain import countries, devices, languages, rules
from tracker.domain.normalise import trim

Values = tuple[tuple[str, str], ...]
"""The values that a rule knows, with their names."""

RULES: Final = tuple(name for name in rules.NAMES if name != "unique")
"""The rules that have values."""
_NOT = "not"
_MOST_ROWS = 50
_EXAMPLES = {"region": "US-CA", "schedule": "mon-fri 09:00-18:00"}


class Row(NamedTuple):
    """A rule of a form."""

    place: str  # the beginning of its fields' names
    rule: str  # "": not chosen yet
    is_not: bool
    values: tuple[str, ...]
    more: str  # values that were typed

    @property
    def known(self) -> Values:
        """The values to choose from."""
        return known(self.rule)

    @property
    def boxes(self) -> list[tuple[str, str, bool]]:
        """Values to tick: all of a rule that has few, else the chosen ones."""
        names = dict(self.known)
        offered = tuple(names) if self.has_few else ()
        every = dict.fromkeys((*offered, *self.values))
        return [(value, names.get(value, value), value in self.values) for value in every]

    @property
    def has_few(self) -> bool:
        return self.rule in ("device_type", "platform")

    @property
    def example(self) -> str:
        return _EXAMPLES.get(self.rule, "")


@cache
def known(rule: str) -> Values:
    """The values that a rule knows, with their names. () if it takes many others."""
    match rule:
        case "country":
            return tuple(sorted(countries.known().names.items(), key=lambda pair: pair[1]))
        case "os":
            return _plain(devices.SYSTEMS.values())
        case "browser":
            return _plain(devices.BROWSERS.values())
        case "device_type":
            return _plain(devices.TYPES.values())
        case "platform":
            return _plain(devices.PLATFORMS.values())
        case "language":
            return _plain(code for code in languages.known().values() if len(code) == len("de"))
    return ()


def _plain(values: Iterable[str]) -> Values:
    return tuple((value, value) for value in sorted(dict.fromkeys(values)))


def texts(name: str, targeting: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A specification as the fields of a form."""
    pairs = []
    for n, (rule, demand) in enumerate(each for each in targeting.items() if each[0] != "unique"):
        place = f"{name}_{n}"
        is_not = isinstance(demand, Mapping)
        values = demand.get(_NOT, []) if is_not else demand
        pairs += [(place, rule), (f"{place}_how", _NOT if is_not else "")]
        pairs += [(f"{place}_value", str(value)) for value in values]
    if targeting.get("unique"):
        pairs.append((f"{name}_unique", "yes"))
    return pairs


def rows(name: str, form: Form, *, and_one: bool) -> list[Row]:
    """The rows of a form, and another one."""
    found = list(_rows(name, form))
    return [*found, Row(f"{name}_{len(found)}", "", False, (), "")] if and_one else found


def _rows(name: str, form: Form) -> Iterator[Row]:
    for n in range(_MOST_ROWS):
        place = f"{name}_{n}"
        if place not in form:
            return
        is_not = form.get(f"{place}_how") == _NOT
        yield Row(
            place, form[place], is_not, tuple(form.all(f"{place}_value")), form.get(f"{place}_more", "")
        )


def value(name: str, form: Form) -> dict[str, Any]:
    """The specification that a form says.

    Raises:
        ValueError: a rule is there twice, or values have no rule.
    """
    found: dict[str, Any] = {}
    for row in rows(name, form, and_one=False):
        values = list(dict.fromkeys((*row.values, *_typed(row))))
        if not values:
            continue
        if not row.rule:
            raise ValueError(f"needs a rule for {', '.join(values)[:50]}")
        if row.rule in found:
            raise ValueError(f"has {row.rule} twice: put all of its values into one row")
        found[row.rule] = {_NOT: values} if row.is_not else values
    if f"{name}_unique" in form:
        found["unique"] = True
    return found


def _typed(row: Row) -> list[str]:
    """The values that were typed: between commas, or for schedules, which have commas, between semicolons."""
    separator = ";" if row.rule == "schedule" else ","
    return [text for text in map(trim, row.more.split(separator)) if text]
