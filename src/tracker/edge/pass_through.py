"""Parameters of a tracking link that go on to the offer's page as they came.

The template's own parameters win, and those of a deep link. What does not fit is left out whole: a cut value
would mean something else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from urllib.parse import quote

from tracker.domain import link_query
from tracker.domain.deep_links import names_of
from tracker.domain.macros import MAX_LOCATION
from tracker.domain.model import PassThrough
from tracker.domain.normalise import bytes_of
from tracker.edge.read.link import PLACES

MOST_NAMES = 20
"""Most names and beginnings of names that an offer lists."""
MOST_PASSED = 50
"""Most parameters of one link that go on."""
_ANY = "*"


def compile(texts: Sequence[str]) -> PassThrough:  # noqa: A001 - as macros.compile
    """The parameters of a list such as utm_*, gclid.

    Raises:
        ValueError: there are too many names, or one cannot be passed on.
    """
    if len(texts) > MOST_NAMES:
        raise ValueError(f"there are {len(texts)} names, and at most {MOST_NAMES} may be passed on")
    for text in texts:
        try:
            link_query.check_name(text.removesuffix(_ANY))
        except ValueError as error:
            raise ValueError(f"{text!r}: {error}. A * may stand at its end") from None
    return PassThrough(
        frozenset(text for text in texts if not text.endswith(_ANY)),
        tuple(text.removesuffix(_ANY) for text in texts if text.endswith(_ANY)),
    )


def add(location: str, query: str, passing: PassThrough) -> str:
    """A Location with those parameters of a link's query that go on, behind its own and before its fragment.

    It stays within MAX_LOCATION.
    """
    before, mark, fragment = location.partition("#")
    room = MAX_LOCATION - len(location)
    added: list[str] = []
    for pair in _wanted(before, query, passing):
        if len(pair) < room and len(added) < MOST_PASSED:
            room -= len(pair) + 1
            added.append(pair)
    if not added:
        return location
    joint = "?" if "?" not in before else "" if before.endswith(("?", "&")) else "&"
    return f"{before}{joint}{'&'.join(added)}{mark}{fragment}"


def left_out(location: str, query: str, passing: PassThrough) -> int:
    """The number of parameters that found no room in a Location."""
    if len(location) + 3 * len(query) < MAX_LOCATION and query.isascii() and query.count("&") < MOST_PASSED:
        return 0  # each byte of it, percent-encoded, had room
    return sum(1 for _ in _wanted(location.partition("#")[0], query, passing))


def _wanted(before: str, query: str, passing: PassThrough) -> Iterator[str]:
    """The parameters that go on, except those that a Location has already: percent-encoded pairs.

    Two names that some server takes for one are one, so a visitor cannot write over the click's hash.
    """
    names = [name for name in link_query.names(query) if _goes_on(name, passing)]
    taken = set(names_of(before.partition("?")[2])) if names else set()
    for name in names:
        readings, value = names_of(name), link_query.value(query, name)
        if value is not None and readings.isdisjoint(taken):
            taken |= readings
            yield f"{name}={quote(bytes_of(value), safe='')}"


def _goes_on(name: str, passing: PassThrough) -> bool:
    """Whether a list names a parameter. A beginning does not name parameters that the tracker knows."""
    return name in passing.names or (name.startswith(passing.beginnings) and name not in PLACES)
