"""Status words that the operator has mapped. The conversion writer applies their meaning."""

from __future__ import annotations

from collections import Counter
from typing import Any

from tracker.domain.postback import DEFAULT_WORDS


class StatusWords:
    """The words of every advertiser and of the network."""

    def __init__(self) -> None:
        self._words: dict[int, tuple[int | None, str]] = {}  # by the row's id: the advertiser's id, the word
        self._known: Counter[tuple[int | None, str]] = Counter()
        self._of_any: Counter[str] = Counter()

    def put(self, id_: int, row: dict[str, Any] | None) -> None:
        """Replace one word. None removes it."""
        if id_ in self._words:
            old = self._words.pop(id_)
            self._known[old] -= 1
            self._of_any[old[1]] -= 1
        if row is not None:
            new = self._words[id_] = row["advertiser_id"], row["word"]
            self._known[new] += 1
            self._of_any[new[1]] += 1

    def knows(self, word: str, advertiser_id: int | None) -> bool:
        """Whether a word has a meaning for an advertiser. Without an advertiser, for any of them."""
        if word in DEFAULT_WORDS:
            return True
        if advertiser_id is None:
            return self._of_any[word] > 0
        return self._known[advertiser_id, word] > 0 or self._known[None, word] > 0
