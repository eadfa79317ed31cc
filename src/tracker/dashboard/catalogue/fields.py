"""Fields of the catalogue's objects as controls of a form: made from their types, and read back as JSON.

A control shows a value as texts that a person can change, and reads the same value from them. What it cannot
read goes to the API as it was written, and the API says what is wrong with it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache
from typing import Any, Final, Literal, NamedTuple

from pydantic import BaseModel

from tracker.dashboard.catalogue import lines, rule_rows
from tracker.dashboard.form import Form, number_or_text
from tracker.dashboard.html import Fault
from tracker.dashboard.words import label_of, sentence

Kind = Literal["text", "long", "number", "choice", "check", "checks", "lines", "pairs", "rules"]

MISSING: Final = object()
"""The value of a field that was left empty and cannot be empty."""

_LONG = 10_000  # characters from which a text has several lines
_OF_JSON: Final = (
    (re.compile(r"Answers are in UTC\.|Default: TRACKER_[A-Z_]+\.|null: none\."), ""),
    (re.compile(r"\bnull: "), "Empty: "),
    (re.compile(r"^true: "), ""),
    (re.compile(r"^true "), "Marked "),
)
"""What descriptions say of JSON, and what a form says: its boxes are marked, and its fields are empty."""


class Control(NamedTuple):
    """One field of a form."""

    name: str
    kind: Kind
    hint: str = ""
    options: tuple[Any, ...] = ()
    default: Any = MISSING
    may_be_null: bool = False
    most: int = 0  # characters. 0: no limit
    example: str = ""
    names: str = ""  # the table whose row it names, if it does
    is_locked: bool = False  # shown, and not changed
    has_unique: bool = False  # rules: for first clicks only

    @property
    def label(self) -> str:
        return label_of(self.name.removesuffix("_id") if self.names else self.name)

    @property
    def may_be_empty(self) -> bool:
        """Whether nothing can be written there."""
        return self.may_be_null or self.default in ("", [], {})

    @property
    def is_needed(self) -> bool:
        return self.default is MISSING and not self.may_be_null

    def texts(self, value: Any) -> list[tuple[str, str]]:
        """A value as the fields of a form."""
        match self.kind:
            case "check":
                return [(self.name, "yes")] if value else []
            case "checks":
                return [(self.name, str(one)) for one in value or ()]
            case "lines":
                return [(self.name, "\n".join(map(str, value or ())))]
            case "pairs":
                return [(self.name, lines.written(value or {}))]
            case "rules":
                return rule_rows.texts(self.name, value or {})
        return [(self.name, "" if value is None else str(value))]

    def value(self, form: Form) -> Any:
        """The value that a form says. MISSING if it says none.

        Raises:
            ValueError: its texts cannot be read. The message says why.
        """
        match self.kind:
            case "check":
                return self.name in form
            case "checks":
                return form.all(self.name)
            case "lines":
                return lines.listed(form.get(self.name, ""))
            case "pairs":
                return lines.read(form.get(self.name, ""))
            case "rules":
                return rule_rows.value(self.name, form)
        return self._one(form.get(self.name, ""))

    def _one(self, text: str) -> Any:
        known = {str(option): option for option in self.options}
        if text in known:
            return known[text]
        if text == "":
            return None if self.may_be_null else MISSING if self.kind == "number" else ""
        return number_or_text(text) if self.kind == "number" else text


@cache
def controls_of(model: type[BaseModel]) -> tuple[Control, ...]:
    """The controls of a model's fields, in their order."""
    schema = model.model_json_schema()
    needed = schema.get("required", ())
    return tuple(_control(name, about, name in needed) for name, about in schema["properties"].items())


def _control(name: str, about: Mapping[str, Any], is_needed: bool) -> Control:
    branches = about.get("anyOf", [about])
    typed: Mapping[str, Any] = next((branch for branch in branches if branch.get("type") != "null"), {})
    kind, options = _kind(name, typed)
    examples = about.get("examples") or typed.get("examples") or [""]
    default = MISSING if is_needed else about.get("default", typed.get("default", _empty(kind)))
    return Control(
        name=name,
        kind=kind,
        hint=_hint(about.get("description") or typed.get("description", "")),
        options=options,
        default=default,
        may_be_null=len(branches) > 1,
        most=typed.get("maxLength", 0),
        example=str(examples[0]) if kind in ("text", "number") else "",
    )


def _hint(description: str) -> str:
    """What the API says of a field, in the words of a form."""
    for words, ours in _OF_JSON:
        description = words.sub(ours, description)
    return sentence(" ".join(description.split()))


def _empty(kind: Kind) -> Any:
    """The default of a field whose model makes it."""
    return {"lines": [], "checks": [], "pairs": {}, "rules": {}}.get(kind)


def _kind(name: str, typed: Mapping[str, Any]) -> tuple[Kind, tuple[Any, ...]]:
    words = typed.get("enum") or typed.get("items", {}).get("enum") or ()
    match typed.get("type"):
        case "boolean":
            return "check", ()
        case "array":
            return ("checks" if words else "lines"), tuple(words)
        case "object":
            return ("rules" if name == "targeting" else "pairs"), ()
    if words:
        return "choice", tuple(words)
    if typed.get("type") == "integer":
        return "number", ()
    return ("long" if typed.get("maxLength", 0) >= _LONG else "text"), ()


def form_of(controls: Iterable[Control], row: Mapping[str, Any]) -> Form:
    """The fields of a form with the values of a row, or with defaults."""
    pairs: list[tuple[str, str]] = []
    for control in controls:
        value = row.get(control.name, control.default)
        pairs += control.texts(None if value is MISSING else value)
    return Form(pairs)


def written(controls: Iterable[Control], form: Form) -> tuple[dict[str, Any], dict[str, str]]:
    """The values that a form says, and why others cannot be read, by name."""
    values: dict[str, Any] = {}
    wrong: dict[str, str] = {}
    for control in controls:
        try:
            values[control.name] = control.value(form)
        except ValueError as error:
            wrong[control.name] = str(error)
    return {name: value for name, value in values.items() if value is not MISSING}, wrong


def beside(fault: Fault, names: Collection[str]) -> Fault:
    """A fault by the fields of a form: what is wrong with a part is wrong with its field."""
    fields: dict[str, list[str]] = {}
    for place, text in fault.fields.items():
        name, _, part = place.partition(".")
        whole = f"{_part(part)}{text}" if name in names and part else text
        fields.setdefault(name if name in names else place, []).append(whole)
    return fault._replace(fields={name: "; ".join(texts) for name, texts in fields.items()})


def _part(part: str) -> str:
    return f"line {int(part) + 1}: " if part.isdecimal() else f"{part}: "


def shown(value: Any) -> str:
    """A value in a list, for people."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or value in ("", [], {}):
        return "-"
    if isinstance(value, Mapping):
        return "; ".join(_shown_pair(name, part) for name, part in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(str, value))
    return str(value)


def _shown_pair(name: str, part: Any) -> str:
    if isinstance(part, Mapping) and part.keys() == {"not"}:
        return f"{name} is not {shown(part['not'])}"
    return f"{name} is {shown(part)}" if isinstance(part, list) else f"{name}: {shown(part)}"
