"""Stored clicks with words that the edges do not write, such as the country Germany from an import."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tracker.domain import normalise
from tracker.ops.upgrade.concern import Concern
from tracker.store import doubtful_rows
from tracker.store.db import Connection


async def find(connection: Connection) -> list[Concern]:
    """Find such words. Clicks are never changed: reports still show such a word beside ours."""
    return [
        concern
        for dimension, check in _CHECKS.items()
        for word, clicks in await doubtful_rows.words(connection, dimension)
        for concern in _of_word(dimension, word, clicks, check)
    ]


def _of_word(dimension: str, word: str, clicks: int, check: Callable[[str], str]) -> Iterator[Concern]:
    try:
        ours = check(word)
    except ValueError as error:
        yield Concern("clicks", f"{clicks} have the {dimension} {error}")
        return
    if ours != word:
        yield Concern(
            "clicks", f"{clicks} have the {dimension} {word!a}, which is {ours!a} in all other clicks"
        )


_CHECKS: dict[str, Callable[[str], str]] = {
    "country": normalise.country,
    "device_type": normalise.device_type,
    "os": normalise.system,
    "browser": normalise.browser,
}
