from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.factories.clicks import a_click
from tracker.domain import rules
from tracker.domain.model import Click, Device, Geo
from tracker.domain.rules import RuleError, preferred_language

BERLIN = "Europe/Berlin"


def click_of(**facts: Any) -> Click:
    click = a_click()
    device = Device._fields
    geo = Geo._fields
    return click._replace(
        device=click.device._replace(**{name: value for name, value in facts.items() if name in device}),
        geo=click.geo._replace(**{name: value for name, value in facts.items() if name in geo}),
        visitor=click.visitor._replace(language=facts.get("language", "")),
        millis=facts.get("millis", click.millis),
    )


def holds(specification: dict[str, Any], click: Click, zone: str = BERLIN) -> bool:
    return all(rule.holds(click) for rule in rules.compile(specification, zone)[0])


CASES: list[tuple[dict[str, Any], dict[str, Any], bool]] = [
    ({}, {}, True),
    ({"country": ["DE", "at"]}, {"country_code": "AT"}, True),
    ({"country": ["DE"]}, {"country_code": "US"}, False),
    ({"country": ["DE"]}, {"country_code": None}, False),
    ({"country": {"not": ["DE"]}}, {"country_code": "US"}, True),
    ({"country": {"not": ["DE"]}}, {"country_code": "DE"}, False),
    ({"country": {"not": ["DE"]}}, {"country_code": None}, True),
    ({"region": ["US-CA"]}, {"country_code": "US", "region_code": "CA"}, True),
    ({"region": ["US-CA"]}, {"country_code": "CA", "region_code": "US"}, False),
    ({"region": ["US-CA"]}, {"country_code": "US", "region_code": None}, False),
    ({"os": ["windows", "iOS"]}, {"os": "Windows"}, True),
    ({"os": ["Windows"]}, {"os": "UNK"}, False),
    ({"platform": ["arm"]}, {"platform": "ARM"}, True),
    ({"platform": ["x64"]}, {"platform": ""}, False),
    ({"device_type": ["phone", "tablet"]}, {"type": "tablet"}, True),
    ({"device_type": ["phone"]}, {"type": "desktop"}, False),
    ({"browser": {"not": ["Firefox"]}}, {"browser": "Firefox"}, False),
    ({"browser": ["Chrome Mobile"]}, {"browser": "Chrome Mobile"}, True),
    ({"language": ["de"]}, {"language": "de-AT,en;q=0.8"}, True),
    ({"language": ["de-at"]}, {"language": "de-AT,en;q=0.8"}, True),
    ({"language": ["de-at"]}, {"language": "de"}, False),
    ({"language": ["en"]}, {"language": "de,en;q=0.8"}, False),
    ({"language": ["en"]}, {"language": ""}, False),
    ({"country": ["DE"], "os": ["iOS"]}, {"country_code": "DE", "os": "iOS"}, True),
    ({"country": ["DE"], "os": ["iOS"]}, {"country_code": "DE", "os": "Android"}, False),
]


@pytest.mark.parametrize(("specification", "facts", "expected"), CASES)
def test_rules_hold_or_not(specification: dict[str, Any], facts: dict[str, Any], expected: bool) -> None:
    assert holds(specification, click_of(**facts)) is expected


SCHEDULES = [
    (["mon-fri 09:00-18:00"], "2026-11-23 08:59:59", False),  # a Monday
    (["mon-fri 09:00-18:00"], "2026-11-23 09:00:00", True),
    (["mon-fri 09:00-18:00"], "2026-11-27 17:59:59", True),
    (["mon-fri 09:00-18:00"], "2026-11-27 18:00:00", False),
    (["mon-fri 09:00-18:00"], "2026-11-28 12:00:00", False),
    (["sat,sun 00:00-24:00"], "2026-11-29 23:59:59", True),
    (["sat,sun 00:00-24:00"], "2026-11-30 00:00:00", False),
    (["daily 22:00-02:00"], "2026-11-25 23:00:00", True),
    (["daily 22:00-02:00"], "2026-11-25 01:59:59", True),
    (["daily 22:00-02:00"], "2026-11-25 02:00:00", False),
    (["sun 22:00-02:00"], "2026-11-30 01:00:00", True),  # Sunday night is Monday morning
    (["sun 22:00-02:00"], "2026-11-29 01:00:00", False),
    (["fri-mon 10:00-11:00"], "2026-11-29 10:30:00", True),
    (["fri-mon 10:00-11:00"], "2026-11-26 10:30:00", False),
    (["mon 09:00-10:00", "wed 12:00-13:00"], "2026-11-25 12:30:00", True),
    (["daily 02:00-03:00"], "2026-03-29 03:00:00", False),  # the hour that does not exist
    (["daily 00:00-00:00"], "2026-11-25 12:00:00", True),  # around the clock
]


@pytest.mark.parametrize(("openings", "local", "expected"), SCHEDULES)
def test_schedules_are_in_the_offers_time_zone(openings: list[str], local: str, expected: bool) -> None:
    at = datetime.fromisoformat(local).replace(tzinfo=ZoneInfo(BERLIN))
    click = click_of(millis=int(at.timestamp() * 1000))
    assert holds({"schedule": openings}, click) is expected
    assert holds({"schedule": {"not": openings}}, click) is not expected


def test_repeated_hour_is_open_both_times() -> None:
    first, second = (
        datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo(BERLIN), fold=fold).timestamp() for fold in (0, 1)
    )
    assert second - first == 3600
    for at in (first, second):
        assert holds({"schedule": ["daily 02:00-03:00"]}, click_of(millis=int(at * 1000)))


def test_uniqueness_is_counted_apart() -> None:
    assert rules.compile({"unique": True, "country": ["DE"]}, "UTC")[1] is True
    assert rules.compile({"unique": False}, "UTC") == ((), False)


def test_rule_text_names_its_condition() -> None:
    (country, browser), _ = rules.compile({"country": ["DE", "AT"], "browser": {"not": ["Firefox"]}}, "UTC")
    assert (country.text, browser.text) == ("country in DE, AT", "browser not in Firefox")


REFUSED: list[tuple[Any, str]] = [
    ([], "an object of rules"),
    ({"planet": ["earth"]}, "unknown rule 'planet'"),
    ({"country": "DE"}, "country takes a list"),
    ({"country": []}, "country takes a list"),
    ({"country": {"in": ["DE"]}}, "country takes a list"),
    ({"country": {"not": "DE"}}, "country takes a list"),
    ({"country": ["Germany"]}, "'Germany' is not a country of two letters"),
    ({"country": [49]}, "49 is not a country"),
    ({"region": ["CA"]}, "a region with its country"),
    ({"platform": ["windows"]}, "x64, x86 or ARM"),
    ({"device_type": ["mobile"]}, "desktop, phone, tablet"),
    ({"language": ["german!"]}, "a language tag"),
    ({"os": [""]}, "the name of an operating system"),
    ({"schedule": ["09:00-18:00"]}, "days and hours"),
    ({"schedule": ["mon-fri 9-18"]}, "days and hours"),
    ({"schedule": ["mon 09:00-25:00"]}, "there is no 25:00"),
    ({"schedule": ["mon 09:60-10:00"]}, "there is no 09:60"),
    ({"schedule": ["noday 09:00-10:00"]}, "days are daily"),
    ({"schedule": ["mon-daily 09:00-10:00"]}, "days are daily"),
    ({"unique": "yes"}, "unique is true or false"),
]


@pytest.mark.parametrize(("specification", "message"), REFUSED)
def test_wrong_rule_is_refused_by_name(specification: Any, message: str) -> None:
    with pytest.raises(RuleError, match=message):
        rules.compile(specification, "UTC")


LANGUAGES = [
    ("", ""),
    ("*", ""),
    ("de", "de"),
    ("de-AT,de;q=0.9,en;q=0.8", "de-at"),
    ("en;q=0.8, de", "de"),
    ("en;q=0.8,de;q=0.9", "de"),
    ("*;q=1, fr;q=0.1", "fr"),
    ("de;q=x", ""),
    ("de;q=nan", ""),
    ("en;q=0", ""),
]


@pytest.mark.parametrize(("header", "language"), LANGUAGES)
def test_preferred_language_is_read(header: str, language: str) -> None:
    assert preferred_language(header) == language


@given(st.text(max_size=200))
def test_language_header_of_any_text_is_read(header: str) -> None:
    click = click_of(language=header)
    assert holds({"language": ["de"]}, click) in (True, False)
