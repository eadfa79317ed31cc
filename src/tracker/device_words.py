"""Names of systems and browsers: those that clicks have, and those in targeting that match nobody."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from typing import Any

from tracker import rules
from tracker.domain.normalise import trim
from tracker.edge import device

_MOST_NAMED = 5
_ALMOST = 0.6
_LONGEST = 50  # characters of a word that is compared and shown


def doubts(targeting: Mapping[str, Any]) -> list[str]:
    """The names in targeting that clicks may never have, each with the nearest that they have.

    Apps bring names of their own as their browser: these are not known before.
    """
    return [
        f"{rule}: {word[:_LONGEST]!r} is not a name that is known here{_hint(rule, word)}"
        for rule, word in list(_unknown(targeting))[:_MOST_NAMED]
    ]


def ours(rule: str, word: str) -> str:
    """The name of a system or a browser that clicks have: "macOS" is Mac OS X, "android" is Android."""
    (alias,) = rules.in_our_words(rule, [word])
    return _known(rule).get(alias.lower(), alias)


def _unknown(targeting: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for rule in ("os", "browser"):
        known = _known(rule)
        yield from ((rule, word) for word in rules.words(targeting, rule) if trim(word).lower() not in known)


@cache
def _known(rule: str) -> Mapping[str, str]:
    """The words that clicks have, by themselves in lower case."""
    words: Collection[str] = device.systems() if rule == "os" else device.browsers()
    return {word.lower(): word for word in words}


def _hint(rule: str, word: str) -> str:
    """The nearest known word: its alias, one that it begins with as "Windows 10", or one spelt almost so."""
    (alias,) = rules.in_our_words(rule, [word[:_LONGEST]])
    word, known = alias.lower(), _known(rule)
    begun = [name for name in known if word == name or word.startswith(f"{name} ")]
    near = [max(begun, key=len)] if begun else get_close_matches(word, known, 1, _ALMOST)
    return f": the nearest is {known[near[0]]!r}" if near else ""
