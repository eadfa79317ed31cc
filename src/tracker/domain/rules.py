"""Rules of offers and offer URLs: compiled when the catalogue loads, evaluated for each click.

A specification describes the wanted clicks: {"country": ["DE", "AT"], "browser": {"not": ["Firefox"]},
"schedule": ["mon-fri 09:00-18:00"], "unique": true}. A list accepts any of its values, {"not": […]} none of
them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from tracker.domain import normalise
from tracker.domain.model import Click, Rule, Rules
from tracker.domain.normalise import trim

_Holds = Callable[[Click], bool]

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY_MINUTES = 24 * 60
_WEEK_MINUTES = 7 * _DAY_MINUTES
_OPENING = re.compile(r"(?P<days>[a-z,-]+) (?P<from>\d\d:\d\d)-(?P<to>\d\d:\d\d)")

_FACTS: Mapping[str, Callable[[Click], str]] = {
    "country": lambda click: (click.geo.country_code or "").lower(),
    "region": lambda click: f"{click.geo.country_code}-{click.geo.region_code}".lower(),
    "os": lambda click: click.device.os.lower(),
    "platform": lambda click: click.device.platform.lower(),
    "device_type": lambda click: click.device.type,
    "browser": lambda click: click.device.browser.lower(),
}
_FORMS = {
    "country": (re.compile(r"[a-z]{2}"), "a country of two letters (ISO 3166-1), such as DE"),
    "region": (
        re.compile(r"[a-z]{2}-[a-z0-9]{1,3}"),
        "a region with its country (ISO 3166-2), such as US-CA",
    ),
    "os": (re.compile(r".{1,100}"), "the name of an operating system"),
    "platform": (re.compile(r"x64|x86|arm"), "x64, x86 or ARM"),
    "device_type": (
        re.compile(r"desktop|phone|tablet|tv|console|bot"),
        "desktop, phone, tablet, tv, console or bot",
    ),
    "browser": (re.compile(r".{1,100}"), "the name of a browser"),
    "language": (
        re.compile(r"[a-z]{2,8}(-[a-z0-9]{1,8})*"),
        "a language tag (RFC 5646), such as de or pt-BR",
    ),
    "schedule": (_OPENING, "days and hours, such as mon-fri 09:00-18:00 or sat,sun 22:00-02:00"),
}
_WORDS: Mapping[str, Callable[[str], str]] = {
    "country": normalise.country,
    "region": normalise.region,
    "os": normalise.system,
    "platform": normalise.platform,
    "device_type": normalise.device_type,
    "browser": normalise.browser,
    "language": normalise.language,
}
NAMES = (*_FORMS, "unique")
"""The names of a specification."""


class RuleError(ValueError):
    """A rule may not be saved. The message names it and its allowed values."""


def compile(specification: Mapping[str, Any], zone: str) -> tuple[Rules, bool]:  # noqa: A001 - as macros.compile
    """The rules, and whether only a visitor's first click fits. Schedules are in that IANA zone.

    Raises:
        RuleError: a name is unknown, or a value has the wrong type.
    """
    if not isinstance(specification, Mapping):
        raise RuleError("targeting is an object of rules by name")
    rules = dict(specification)
    unique = rules.pop("unique", False)
    if not isinstance(unique, bool):
        raise RuleError(f"unique is true or false, not {unique!r}")
    return tuple(_rule(name, demand, zone) for name, demand in rules.items()), unique


def kept(specification: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """A specification as it is saved: changed rules get the words that clicks have.

    Rules as in `before` stay.

    Raises:
        RuleError: as for compile, or a value is not a country, language, type of device or architecture.
    """
    before = before if isinstance(before, Mapping) else {}
    translated = {
        name: demand if name in before and before[name] == demand else in_our_words(name, demand)
        for name, demand in dict(specification).items()
    }
    compile(translated, "UTC")
    return translated


def in_our_words(name: str, demand: Any) -> Any:
    """The values of a rule in the words that clicks have: UK becomes GB, and macOS becomes Mac OS X.

    Raises:
        RuleError: a value is not a country, language, type of device or architecture.
    """
    if isinstance(demand, Mapping) and demand.keys() == {"not"}:
        return {"not": in_our_words(name, demand["not"])}
    if (
        name not in _WORDS
        or not isinstance(demand, list)
        or not all(isinstance(text, str) for text in demand)
    ):
        return demand
    try:
        return list(dict.fromkeys(map(_WORDS[name], demand)))
    except ValueError as error:
        raise RuleError(f"{name}: {error}") from None


def words(specification: Any, name: str) -> list[str]:
    """The texts that a rule includes or excludes. Empty for a wrong specification."""
    demand = specification.get(name, []) if isinstance(specification, Mapping) else []
    values = demand.get("not", []) if isinstance(demand, Mapping) else demand
    return [value for value in values if isinstance(value, str)] if isinstance(values, list) else []


def _rule(name: str, demand: object, zone: str) -> Rule:
    if name not in _FORMS:
        raise RuleError(f"unknown rule {name!r}: the rules are {', '.join(NAMES)}")
    wanted = not (isinstance(demand, Mapping) and demand.keys() == {"not"})
    values = demand if wanted or not isinstance(demand, Mapping) else demand["not"]
    if not isinstance(values, list) or not values:
        raise RuleError(f'{name} takes a list of values, or {{"not": [values]}}')
    texts = [_checked(name, value) for value in values]
    holds = _holds(name, texts, zone)
    return Rule(
        f"{name} {'in' if wanted else 'not in'} {', '.join(map(str, values))}",
        holds if wanted else lambda click: not holds(click),
    )


def _checked(name: str, value: object) -> str:
    form, meaning = _FORMS[name]
    text = trim(value).lower() if isinstance(value, str) else ""
    if not form.fullmatch(text):
        raise RuleError(f"{name}: {value!r} is not {meaning}")
    return text


def _holds(name: str, texts: Sequence[str], zone: str) -> _Holds:
    if name == "schedule":
        openings = [opening for text in texts for opening in _openings(text)]
        return lambda click: _is_open(openings, _minute_of_week(zone, click.millis // 60_000))
    values = frozenset(texts)
    if name == "language":
        return lambda click: _speaks(values, preferred_language(click.visitor.language))
    fact = _FACTS[name]
    return lambda click: fact(click) in values


def _speaks(languages: frozenset[str], preferred: str) -> bool:
    """Whether a tag or its beginning is wanted: de-at is also de."""
    while preferred:
        if preferred in languages:
            return True
        preferred = preferred.rpartition("-")[0]
    return False


@lru_cache(8192)
def preferred_language(accept_language: str) -> str:
    """The first language of a browser's list (RFC 9110, section 12.5.4) in lower case, or ""."""
    best, best_quality = "", 0.0
    for item in accept_language.split(","):
        tag, _, parameter = item.partition(";")
        quality = _quality(parameter)
        if quality > best_quality and tag.strip() not in ("", "*"):
            best, best_quality = tag.strip().lower(), quality
    return best


def _quality(parameter: str) -> float:
    name, _, value = parameter.partition("=")
    if name.strip() != "q":
        return 1.0
    try:
        return float(value)
    except ValueError:
        return 0.0


def _openings(text: str) -> list[tuple[int, int]]:
    """Minutes of the week from Monday 00:00: start (inclusive) and end (exclusive)."""
    parts = _OPENING.fullmatch(text)
    assert parts  # _checked has verified it
    opens, closes = _minute_of_day(text, parts["from"]), _minute_of_day(text, parts["to"])
    lasts = (closes - opens) % _DAY_MINUTES or _DAY_MINUTES
    starts = [day * _DAY_MINUTES + opens for day in _days(text, parts["days"])]
    return [
        span
        for start in starts
        for span in ((start, start + lasts), (start - _WEEK_MINUTES, start + lasts - _WEEK_MINUTES))
    ]  # twice, because a range that begins on Sunday night ends on Monday morning


def _minute_of_day(text: str, clock: str) -> int:
    hour, minute = int(clock[:2]), int(clock[3:])
    if hour * 60 + minute > _DAY_MINUTES or minute > 59:
        raise RuleError(f"schedule: {text!r}: there is no {clock}")
    return hour * 60 + minute


def _days(text: str, days: str) -> list[int]:
    if days == "daily":
        return list(range(7))
    chosen: list[int] = []
    for part in days.split(","):
        first, _, last = part.partition("-")
        if first not in _DAYS or (last or first) not in _DAYS:
            raise RuleError(f"schedule: {text!r}: days are daily, or of {', '.join(_DAYS)}")
        start, end = _DAYS.index(first), _DAYS.index(last or first)
        chosen += [(start + n) % 7 for n in range((end - start) % 7 + 1)]
    return chosen


def _is_open(openings: Sequence[tuple[int, int]], minute: int) -> bool:
    for opens, closes in openings:  # noqa: SIM110 (any() with a generator costs twice as much)
        if opens <= minute < closes:
            return True
    return False


@lru_cache(4096)
def _minute_of_week(zone: str, minute: int) -> int:
    local = datetime.fromtimestamp(minute * 60, ZoneInfo(zone))
    return local.weekday() * _DAY_MINUTES + local.hour * 60 + local.minute
