"""Presets are well-formed: names of ours exist, values of ours can be read, and each part has its page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, date
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from pydantic import TypeAdapter

from tracker.catalogue.links import LinkForm
from tracker.domain.csv_rows import LEFT_OUT
from tracker.domain.postback import DEFAULT_WORDS, PARAMETERS, STATUSES
from tracker.importing import clicks, conversions, yaml_file
from tracker.importing.catalogue import RESOURCES
from tracker.importing.clicks import ClickReader
from tracker.importing.conversions import ConversionReader
from tracker.importing.entries import Kinds
from tracker.importing.values import Reader, ignored
from tracker.store.imports.progress import Known

PRESETS = Path(yaml_file.__file__).with_name("presets")
KINDS = Kinds(RESOURCES).top
READERS: dict[str, dict[str, Reader]] = {
    "clicks": dict(ClickReader.of("x", UTC, Known({}, {})).readers),
    "conversions": dict(ConversionReader.of("x", UTC, DEFAULT_WORDS).readers),
}
REQUIRED = {"clicks": clicks.REQUIRED, "conversions": conversions.REQUIRED}
KEYS = {"page", "read_on", "note", "rows", "columns", "values", "dates", "ignore_rest"}
_PLAIN = re.compile(r"[\W_]+")


class Part(NamedTuple):
    preset: str
    kind: str  # clicks, catalogue offers, link_forms
    content: dict[str, Any]


def _parts() -> Iterator[Part]:
    for path in sorted(PRESETS.glob("*.yaml")):
        content = yaml_file.read(path)
        for kind in READERS:
            if kind in content:
                yield Part(path.stem, kind, content[kind])
        for kind, part in content.get("catalogue", {}).items():
            yield Part(path.stem, f"catalogue {kind}", part)
        for kind, forms in content.get("forms", {}).items():
            for form in forms:
                yield Part(path.stem, kind, form)


PARTS = list(_parts())
FILES = [part for part in PARTS if not part.kind.endswith("_forms")]
LINK_FORMS = [part.content for part in PARTS if part.kind == "link_forms"]
POSTBACK_FORMS = [part.content for part in PARTS if part.kind == "postback_forms"]


def _name(value: Any) -> str:
    return f"{value.preset}-{value.kind}" if isinstance(value, Part) else value["name"]


every_file = pytest.mark.parametrize("part", FILES, ids=_name)


def test_some_presets_have_clicks_conversions_and_a_postback_form() -> None:
    whole = {"clicks", "conversions", "postback_forms"}
    of = {part.preset: {each.kind for each in PARTS if each.preset == part.preset} for part in PARTS}
    assert {name for name, kinds in of.items() if whole <= kinds} == {"everflow", "trackier", "tune"}


@pytest.mark.parametrize("path", sorted(PRESETS.glob("*")), ids=lambda path: path.name)
def test_a_preset_has_known_sections(path: Path) -> None:
    content = yaml_file.read(path)
    assert path.suffix == ".yaml"
    assert content["platform"]
    assert content.keys() <= {"platform", "clicks", "conversions", "catalogue", "forms"}
    assert len(content) > 1
    assert content.get("catalogue", {}).keys() <= KINDS.keys()
    assert content.get("forms", {}).keys() <= {"link_forms", "postback_forms"}


@pytest.mark.parametrize("part", PARTS, ids=_name)
def test_a_part_names_its_page_and_the_day(part: Part) -> None:
    assert re.fullmatch(r"https://[\w.-]+/\S*", part.content["page"])
    assert date(2026, 1, 1) < date.fromisoformat(part.content["read_on"])


@every_file
def test_a_column_means_a_field_and_a_field_has_one_column(part: Part) -> None:
    assert part.content.keys() <= {
        "page",
        "read_on",
        "note",
        "rows",
        "columns",
        "values",
        "dates",
        "ignore_rest",
    }
    meant = [ours for ours in part.content["columns"].values() if ours != LEFT_OUT]
    plain = [_PLAIN.sub("", theirs.casefold()) for theirs in part.content["columns"]]
    assert set(meant) <= _fields(part)
    assert len({*meant}) == len(meant)
    assert len({*plain}) == len(plain)
    assert part.content["ignore_rest"] is True
    for names in REQUIRED.get(part.kind, ()):
        assert {*names} & {*meant}


@every_file
def test_values_can_be_read(part: Part) -> None:
    for field, values in part.content.get("values", {}).items():
        assert field in part.content["columns"].values()
        for theirs, ours in values.items():
            assert theirs
            if ours:
                _read(part, field, ours)


def _fields(part: Part) -> set[str]:
    if part.kind in READERS:
        return {name for name, reader in READERS[part.kind].items() if reader is not ignored}
    resource = KINDS[part.kind.removeprefix("catalogue ")]
    return {"id", resource.table.parent, *resource.fields.model_fields} - {""}


def _read(part: Part, field: str, value: str) -> None:
    if part.kind in READERS:
        READERS[part.kind][field](value)
    else:
        kind = KINDS[part.kind.removeprefix("catalogue ")].fields.model_fields[field]
        assert TypeAdapter(kind.annotation).validate_python(value) == value


@pytest.mark.parametrize("form", LINK_FORMS, ids=_name)
def test_an_edge_takes_the_link_forms(form: dict[str, Any]) -> None:
    fields = {name: value for name, value in form.items() if name not in ("page", "read_on")}
    assert LinkForm(**fields).clashes() == {}


@pytest.mark.parametrize("form", POSTBACK_FORMS, ids=_name)
def test_parameters_of_a_postback_form_mean_ours(form: dict[str, Any]) -> None:
    known = {"name", "page", "read_on", "path", "match", "parameters", "constants", "values", "secret"}
    assert form.keys() <= known
    assert {*form["parameters"].values()} <= PARAMETERS | {LEFT_OUT}
    assert {*form.get("values", {}).get("status", {}).values()} <= {*STATUSES}


def test_forms_have_a_name_each() -> None:
    names = [form["name"] for form in (*LINK_FORMS, *POSTBACK_FORMS)]
    assert len({*names}) == len(names)
