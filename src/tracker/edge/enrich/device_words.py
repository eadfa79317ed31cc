"""Names of systems, browsers and languages in targeting: those that clicks have, and doubtful ones."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from typing import Any

from tracker import device
from tracker.domain import languages, normalise, rules

_MOST_NAMED = 5
_ALMOST = 0.6
_LONGEST = 50  # characters of a word that are compared and shown


def doubts(targeting: Mapping[str, Any]) -> list[str]:
    """The names in targeting that clicks may never have, each with the nearest known name.

    Apps have browser names of their own, which are not known in advance.
    """
    names = [
        f"{rule}: {word[:_LONGEST]!r} is not a name that is known here{_hint(rule, word)}"
        for rule, word in list(_unknown(targeting))[:_MOST_NAMED]
    ]
    return names + list(_hardly_asked_for(targeting))


def ours(rule: str, word: str) -> str:
    """The name that clicks have for a system or browser: "macOS" is Mac OS X, "android" is Android."""
    (alias,) = rules.in_our_words(rule, [word])
    return _known(rule).get(alias.lower(), alias)


def _unknown(targeting: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for rule in ("os", "browser"):
        known = _known(rule)
        yield from (
            (rule, word) for word in rules.words(targeting, rule) if normalise.trim(word).lower() not in known
        )


def _hardly_asked_for(targeting: Mapping[str, Any]) -> Iterator[str]:
    codes = {word.lower().partition("-")[0] for word in rules.words(targeting, "language")}
    for code in sorted(codes & languages.ASKED_AS.keys()):
        today = languages.ASKED_AS[code]
        if today not in codes:
            yield f"language: {code!r}: browsers of today ask for {today}"


@cache
def _known(rule: str) -> Mapping[str, str]:
    """The names that clicks have, by their lower case."""
    words: Collection[str] = device.systems() if rule == "os" else device.browsers()
    return {word.lower(): word for word in words}


def _hint(rule: str, word: str) -> str:
    """The nearest known word: an alias, a word at its start as in "Windows 10", or a similar spelling."""
    (alias,) = rules.in_our_words(rule, [word[:_LONGEST]])
    if near_by := normalise.near_word(alias):
        return f": the nearest is {near_by!r}"
    word, known = alias.lower(), _known(rule)
    begun = [name for name in known if word == name or word.startswith(f"{name} ")]
    near = [max(begun, key=len)] if begun else get_close_matches(word, known, 1, _ALMOST)
    return f": the nearest is {known[near[0]]!r}" if near else ""
