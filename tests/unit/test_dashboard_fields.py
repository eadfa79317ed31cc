"""Values of fields as texts of a form: each comes back as it went in."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.catalogue.offers import Offer, OfferUrl
from tracker.catalogue.resources import RESOURCES
from tracker.dashboard.catalogue import lines, rule_rows
from tracker.dashboard.catalogue.fields import Control, beside, controls_of, form_of, label_of, shown, written
from tracker.dashboard.form import Form
from tracker.dashboard.html import Fault
from tracker.domain import rules

NAMES = st.text(max_size=8)
PLAIN = st.one_of(st.text(max_size=12), st.integers(-(10**9), 10**9), st.booleans(), st.none())
OBJECTS = st.dictionaries(NAMES, st.one_of(PLAIN, st.dictionaries(NAMES, PLAIN, min_size=1)))
VALUES = st.lists(st.text("abcXYZ -.", min_size=1).filter(lambda text: text.strip() == text), min_size=1)


@given(OBJECTS)
def test_objects_come_back_from_their_lines(written_: dict[str, Any]) -> None:
    assert lines.read(lines.written(written_)) == written_


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("o = offer_id\r\n\r\n aff = affiliate_id ", {"o": "offer_id", "aff": "affiliate_id"}),
        ("offer_id = 3", {"offer_id": 3}),
        ("status.lead = pending\nstatus.sale=approved", {"status": {"lead": "pending", "sale": "approved"}}),
        ('"a.b" = "7"', {"a.b": "7"}),
        ("url = https://x.example/?a=b", {"url": "https://x.example/?a=b"}),
        ("v = 1.2.3", {"v": "1.2.3"}),
        ("empty =", {"empty": ""}),
    ],
)
def test_lines_are_read_as_people_write_them(text: str, read: dict[str, Any]) -> None:
    assert lines.read(text) == read


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("offer_id", "not name = value"),
        ("= 3", "without a name"),
        ("a = 1\na = 2", "'a' twice"),
        ("a = 1\na.b = 2", "a value and parts"),
        ('"a = 1', "quotes do not end"),
    ],
)
def test_lines_that_say_nothing_are_refused(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        lines.read(text)


@given(st.dictionaries(st.sampled_from(rule_rows.RULES), st.tuples(st.booleans(), VALUES)), st.booleans())
def test_rules_come_back_from_their_rows(said: dict[str, tuple[bool, list[str]]], is_unique: bool) -> None:
    targeting: dict[str, Any] = {}
    for rule, (is_not, values) in said.items():
        distinct = list(dict.fromkeys(values))
        targeting[rule] = {"not": distinct} if is_not else distinct
    if is_unique:
        targeting["unique"] = True
    form = Form(rule_rows.texts("targeting", targeting))
    assert rule_rows.value("targeting", form) == targeting
    assert len(rule_rows.rows("targeting", form, and_one=True)) == len(said) + 1


@pytest.mark.parametrize("rule", [rule for rule in rule_rows.RULES if rule_rows.known(rule)])
def test_known_values_are_those_that_rules_take(rule: str) -> None:
    values = [value for value, _ in rule_rows.known(rule)]
    assert rules.kept({rule: values}, {}) == {rule: values}


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda resource: resource.table.name)
def test_defaults_of_a_kind_come_back_from_its_form(resource: Any) -> None:
    controls = [
        one
        for one in controls_of(resource.fields)
        if not one.is_needed and one.name not in resource.of_network  # the settings have their defaults
    ]
    values, wrong = written(controls, form_of(controls, {}))
    assert wrong == {}
    assert values == {one.name: one.default for one in controls}


def test_controls_have_the_kind_of_their_type() -> None:
    kinds = {one.name: one.kind for one in controls_of(Offer)}
    expected = {
        "name": "text",
        "advertiser_id": "number",
        "status": "choice",
        "targeting": "rules",
        "visitor_cookie": "check",
        "redirect_status": "choice",
        "deep_link_hosts": "lines",
        "note": "long",
    }
    assert {name: kinds[name] for name in expected} == expected
    needed = [one.name for one in controls_of(OfferUrl) if one.is_needed]
    assert needed == ["url"]


NUMBER = Control("n", "number", may_be_null=True)
CHOICE = Control("c", "choice", options=(302, 303))


@pytest.mark.parametrize(
    ("control", "text", "value"),
    [
        (NUMBER, " 12 ", 12),
        (NUMBER, "", None),
        (NUMBER, "1e3", "1e3"),
        (CHOICE, "303", 303),
        (CHOICE, "999", "999"),
        (Control("l", "lines"), " a \r\n\r\nb", ["a", "b"]),
        (Control("t", "text"), " as it is ", " as it is "),
    ],
)
def test_what_cannot_be_read_goes_on_as_it_was_written(control: Control, text: str, value: Any) -> None:
    assert control.value(Form([(control.name, text)])) == value


def test_fault_of_a_part_stands_beside_its_field() -> None:
    fault = Fault(422, "x", fields={"hosts.2": "is no host", "values.a": "is wrong", "id": "is unknown"})
    found = beside(fault, {"hosts", "values"}).fields
    assert found == {"hosts": "line 3: is no host", "values": "a: is wrong", "id": "is unknown"}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (True, "yes"),
        (["a", "b"], "a, b"),
        (
            {"country": ["DE"], "os": {"not": ["iOS"]}, "unique": True},
            "country is DE; os is not iOS; unique: yes",
        ),
    ],
)
def test_values_are_shown_in_words(value: Any, text: str) -> None:
    assert shown(value) == text


@pytest.mark.parametrize(
    ("name", "label"), [("ends_at", "Ends at"), ("url", "URL"), ("brand_id", "Brand id")]
)
def test_labels_are_words(name: str, label: str) -> None:
    assert label_of(name) == label


def test_hints_of_forms_speak_of_boxes_and_empty_fields_not_of_json() -> None:
    models = {model for one in RESOURCES for model in (one.fields, one.new or one.fields)}
    hints = [control.hint for model in models for control in controls_of(model)]
    assert [hint for hint in hints if re.search(r"\btrue\b|\bnull\b|TRACKER_", hint)] == []
    assert {"Empty: all affiliates.", "One click can have several conversions of this goal."} <= {*hints}
