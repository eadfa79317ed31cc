"""What the columns and values of a foreign file mean: the options of `tracker import`, as data.

The parts of a preset and of a `--map-file` have the form that `read` takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from tracker.domain.csv_rows import LEFT_OUT, like, plain_name
from tracker.domain.normalise import word
from tracker.errors import UserError
from tracker.importing.date_formats import DateFormat
from tracker.importing.values import Reader, ignored

_KEYS = {"columns", "values", "dates", "rows", "ignore_rest"}
_ABOUT = {"page", "read_on", "note"}
"""Keys that say where a preset's names are from."""
_SHAPE = (
    "{theirs: ours}, or {columns: {theirs: ours}, values: {our field: {theirs: ours}}, dates: [format], "
    "rows: path, ignore_rest: true}"
)


class Meaning(NamedTuple):
    """What a foreign file means."""

    columns: Mapping[str, str] = {}
    """Their names to ours, LEFT_OUT to leave a column out. Dots lead into nested JSON."""
    values: Mapping[str, Mapping[str, str]] = {}
    """Our fields to their values to ours. An empty text is no value."""
    dates: tuple[DateFormat, ...] = ()
    rows: str = ""
    """Where the rows of a JSON object stand, with dots. Empty: the object is a row or an answer of an API."""
    ignore_rest: bool = False
    """Whether columns without a meaning are left out, and not refused."""

    def over(self, other: Meaning) -> Meaning:
        """Both. This one decides about the columns, fields and values of both."""
        names, fields = {plain_name(name) for name in self.columns}, {*self.columns.values()}
        others = {
            name: LEFT_OUT if ours in fields else ours
            for name, ours in other.columns.items()
            if plain_name(name) not in names
        }
        values = {
            field: {**other.values.get(field, {}), **self.values.get(field, {})}
            for field in {**other.values, **self.values}
        }
        return Meaning(
            {**others, **self.columns},
            values,
            self.dates or other.dates,
            self.rows or other.rows,
            self.ignore_rest or other.ignore_rest,
        )

    def check(self, fields: Mapping[str, Reader], of: str) -> None:
        """Check that our names are fields, and that our values can be read. `of`: what has these fields.

        Raises:
            UserError: naming the first that is wrong.
        """
        for theirs, ours in self.columns.items():
            if ours != LEFT_OUT and ours not in fields:
                raise UserError(f"{theirs}={ours}: {of} have no field {ours!r}{like(ours, fields)}")
        by_name = {plain_name(theirs): ours for theirs, ours in self.columns.items() if ours != LEFT_OUT}
        for field, values in self.values.items():
            if field not in fields:
                named = by_name.get(plain_name(field))
                advice = f": give our name, {named}" if named else like(field, fields)
                raise UserError(f"values of {field}: {of} have no field {field!r}{advice}")
            if fields[field] is ignored:
                raise UserError(f"values of {field}: {field} of {of} is not read")
            for theirs, ours in values.items():
                if why := _why_not(fields[field], ours):
                    raise UserError(f"{field}:{theirs}={ours}: {field} {why}")

    @property
    def translation(self) -> Translation:
        """The values, as `translated` takes them."""
        return {
            field: {word(theirs): ours for theirs, ours in values.items()}
            for field, values in self.values.items()
        }

    @property
    def shown(self) -> str:
        """All of it as a text, "" if there is nothing. Equal texts mean the same."""
        columns = sorted(self.columns.items())
        values = sorted((field, sorted(values.items())) for field, values in self.values.items())
        rest = (values, [each.shown for each in self.dates], self.rows, self.ignore_rest)
        return f"{columns} {rest}" if any(rest) else f"{columns}"


Translation = Mapping[str, Mapping[str, str]]
"""Our fields to the words of their values to our values."""


def translated(fields: Mapping[str, Any], translation: Translation) -> Mapping[str, Any]:
    """The fields of a row with our values for theirs."""
    ours = {
        field: found
        for field, values in translation.items()
        if field in fields and (found := values.get(_word(fields[field]))) is not None
    }
    return {**fields, **ours} if ours else fields


class TranslatingReader(NamedTuple):
    """Reads rows whose values are translated first."""

    reader: Any  # see run.Reader
    translation: Translation

    def read(self, fields: Mapping[str, Any]) -> Any:
        return self.reader.read(translated(fields, self.translation))


def _word(value: Any) -> str:
    """A value of a file as a word: case and spaces around it do not matter."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return ""
    return word(value if isinstance(value, str) else str(value))


def read(content: Any, where: str) -> Meaning:
    """The meaning that a file of meanings has: `{theirs: ours}`, or an object with the parts by name.

    Raises:
        UserError: it has another form. `where` names it.
    """
    if not isinstance(content, dict):
        raise UserError(f"{where} is not an object: {_SHAPE}")
    if not any(isinstance(part, dict | list | bool) for part in content.values()):
        content = {"columns": content}
    if unknown := content.keys() - _KEYS - _ABOUT:
        raise UserError(f"{where}: {', '.join(sorted(unknown))} is not a part of {_SHAPE}")
    rows, dates = content.get("rows") or "", content.get("dates") or []
    if not isinstance(rows, str):
        raise UserError(f"{where}: rows is not a path such as data.table")
    if not isinstance(dates, list):
        raise UserError(f"{where}: dates is not a list of formats such as %d.%m.%Y")
    values = _object(content.get("values"), f"{where}: values")
    return Meaning(
        _texts(content.get("columns"), f"{where}: columns"),
        {field: _texts(named, f"{where}: values of {field}") for field, named in values.items()},
        tuple(_date_format(text, where) for text in dates),
        rows,
        content.get("ignore_rest") is True,
    )


def _object(part: Any, where: str) -> dict[str, Any]:
    if not isinstance(part, dict | None):
        raise UserError(f"{where} is not an object: {_SHAPE}")
    return part or {}


def _texts(part: Any, where: str) -> dict[str, str]:
    texts = {}
    for theirs, ours in _object(part, where).items():
        if isinstance(ours, dict | list):
            raise UserError(f"{where}: {theirs} is not a text")
        texts[theirs] = _word(ours) if isinstance(ours, bool | None) else str(ours)
    return texts


def _date_format(text: Any, where: str) -> DateFormat:
    try:
        return DateFormat.of(str(text))
    except ValueError as error:
        raise UserError(f"{where}: dates: {str(text)!r} {error}") from None


def _why_not(reader: Reader, value: str) -> str:
    """Why a reader does not take a value. "" if it does."""
    try:
        if value:
            reader(value)
    except ValueError as error:
        return str(error)
    return ""
