"""The headers of every answer that tells of clicks: up to when, and from when on if days are dropped."""

from __future__ import annotations

from tracker.ops.ledger import rfc3339

HEADER = "Complete-Until"
KEPT_HEADER = "Rows-Kept-From"


def header(millis: int | None, kept_since: int = 0) -> dict[str, str]:
    """The headers of an answer. Empty if the time is not known, and all rows are kept (0)."""
    complete = {} if millis is None else {HEADER: rfc3339(millis)}
    return complete | ({KEPT_HEADER: rfc3339(kept_since)} if kept_since else {})
