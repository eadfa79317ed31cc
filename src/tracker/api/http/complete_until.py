"""The header Complete-Until, on every answer that tells of clicks."""

from __future__ import annotations

from tracker.ops.ledger import rfc3339

HEADER = "Complete-Until"


def header(millis: int | None) -> dict[str, str]:
    """The header of an answer. Empty if the time is not known."""
    return {} if millis is None else {HEADER: rfc3339(millis)}
