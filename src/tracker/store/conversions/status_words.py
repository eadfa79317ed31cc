"""The operator's tables of advertisers' status words."""

from __future__ import annotations

from collections.abc import Collection

from tracker.domain.postback import ConversionStatus, StatusWords
from tracker.store.db import Connection, Pool

_READ = "SELECT advertiser_id, word, status FROM status_word WHERE word = ANY ($1)"
_EVERY = "SELECT DISTINCT word FROM status_word"


async def read(source: Connection | Pool, words: Collection[str]) -> StatusWords:
    """The meanings of some words in lower case, trimmed."""
    wanted = [word for word in words if word]
    rows = await source.fetch(_READ, wanted) if wanted else []
    return {(advertiser_id, word): ConversionStatus(status) for advertiser_id, word, status in rows}


async def every(source: Connection | Pool) -> frozenset[str]:
    """All words with a meaning."""
    return frozenset(word for (word,) in await source.fetch(_EVERY))
