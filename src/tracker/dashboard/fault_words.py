"""The API's errors in a person's words. The API speaks to programs: of tokens, scopes and JSON."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from tracker.catalogue.resources import RESOURCES
from tracker.dashboard.words import FILTERS, MEASURES, label_of
from tracker.domain.access import MEANINGS
from tracker.errors import Errors, in_words
from tracker.reading.filters import EXCLUDE

_RIGHT = re.compile(r"(?:The token lacks|needs) the scope ([a-z:-]+)(?: or [a-z: -]+)?\.?")


_DETAILS = re.compile(r" \(.*|, except .*")


def _as_right(found: re.Match[str]) -> str:
    """What a session lacks, by the scope that a program would need."""
    meaning = _DETAILS.sub("", MEANINGS[found[1]])
    if found[1] == "admin":
        meaning = "do what administrators do"
    return f"You may not {meaning}" + ("." if found[0].endswith(".") else "")


_SAYINGS: Final[tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...]] = (
    (_RIGHT, _as_right),
    (re.compile(r"This path shows money, and the token hides it\."), "You do not see amounts."),
    (re.compile(r"This path needs a token of one (\w+)\."), r"This is only for an \1."),
    (re.compile(r"This token belongs to (\w+)s\. It reads only under .*"), r"This is not for \1s."),
    (re.compile(r"of this token is"), "whose rows you see is"),
    (re.compile(r"this token is of several"), "you see the rows of several"),
    (re.compile(r"List should have at least 1 item after validation, not \d+"), "needs at least one"),
    (re.compile(r"List should have at least (\d+) items after validation, not \d+"), r"needs at least \1"),
    (re.compile(r"List should have at most (\d+) items? after validation, not \d+"), r"has more than \1"),
    (re.compile(r"String should have at least 1 character"), "is empty"),
    (re.compile(r"String should have at least (\d+) characters"), r"has fewer than \1 characters"),
    (re.compile(r"String should have at most (\d+) characters?"), r"has more than \1 characters"),
    (re.compile(r"String should match pattern .*"), "is not written as it has to be"),
    (re.compile(r"must be greater than or equal to (\S+)"), r"is less than \1"),
    (re.compile(r"must be less than or equal to (\S+)"), r"is more than \1"),
    (re.compile(r"must be a valid integer.*"), "is not a whole number"),
    (re.compile(r"must be a valid boolean.*"), "is neither yes nor no"),
    (re.compile(r"is not true or false"), "is neither yes nor no"),
    (re.compile(r"must be false for"), "cannot be chosen for"),
    (re.compile(r"must be a valid string"), "is not a text"),
    (re.compile(r"must be a valid dictionary|is not an object"), "is not lines of name = value"),
    (re.compile(r"is not a (?:JSON )?object with fields"), "is not an object in JSON"),
    (re.compile(r"is not a parameter(?: of this endpoint)?"), "is not known here"),
    (re.compile(r"is not a field of this object"), "is not known here"),
    (re.compile(r"is not a whole number from 1 to 9{18}, written without leading zeros"), "is not an id"),
    (re.compile(r"\b(offer|affiliate|advertiser|goal)s/(\d+)\b"), r"\1 \2"),
    (re.compile(r"\bnull\b"), "empty"),
    (re.compile(r"^must be (?:'[^']*'(?:, | or )?)+$"), lambda found: found[0].replace("'", "")),
)
"""What the API says, and what a page says in its place."""

_OF_LIST = re.compile(r"(\w+)\.(\d+)(?:\.(\w+))?")
_LISTS: Final = ("must be ", "is not one of: ")  # of values, which have names of their own
_FILE: Final = "lines"  # of a file, numbered as they stand there
_FIELDS: Final[frozenset[str]] = frozenset(
    name
    for name in (
        *(column for resource in RESOURCES for column in resource.table.columns),
        *FILTERS,
        *MEASURES,
        *(
            "affiliate_ids",
            "advertiser_ids",
            "sale_status",
            "sale_amount",
            "order_id",
            "booked_at",
            "hides_money",
        ),
        *(
            "conversion_id",
            "created_from",
            "created_to",
            "compare_from",
            "compare_to",
            "expires_at",
            "rate_limit",
        ),
    )
    if "_" in name
)
"""The names of fields that are no words of English."""
_NAMED = re.compile(r"(?<![\w{'\"“./=&?:-])[a-z]+(?:_[a-z0-9]+)+(?![\w}'\"”./=:-])")


def said(text: str) -> str:
    """An error, or the message of a field, in a person's words."""
    for pattern, words in _SAYINGS:
        text = pattern.sub(words, text)
    if text.startswith(_LISTS):
        return text
    return _NAMED.sub(lambda found: f"“{field_called(found[0])}”" if found[0] in _FIELDS else found[0], text)


def field_called(name: str) -> str:
    """What a person calls a field or a parameter."""
    if part := _OF_LIST.fullmatch(name):
        of = "Line" if part[1] == _FILE else label_of(part[1])
        number = int(part[2]) + (part[1] != _FILE)
        return f"{of} {number}" + (f", {part[3]}" if part[3] else "")
    if name == "body":
        return "File"
    column = name.removeprefix(EXCLUDE)
    label = FILTERS.get(column) or label_of(column)
    return label if column == name else f"{label} is not"


def in_one_line(detail: str, errors: Errors) -> str:
    """An error as a whole. What only lists its fields is made of their words."""
    if not errors or detail != in_words(errors):
        return said(detail)
    return "; ".join(f"{field_called(name)}: {said(messages[0])}" for name, messages in errors.items())


def by_field(errors: Errors) -> Mapping[str, str]:
    """The messages of each field as one text. What is said of a file has the names of its columns."""
    of_file = {name for name in errors if name == "body" or name.startswith(f"{_FILE}.")}
    return {
        name: "; ".join(messages if name in of_file else map(said, messages))
        for name, messages in errors.items()
    }
