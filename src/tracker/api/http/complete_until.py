"""The header Complete-Until, on every answer that tells of clicks."""

from __future__ import annotations

from starlette.requests import Request

from tracker.ops.ledger import rfc3339
from tracker.reading.complete_until import CompleteUntil

HEADER = "Complete-Until"


async def complete_until(request: Request) -> dict[str, str]:
    """The header of an answer whose clicks are read after this; empty where nothing is known."""
    tracked: CompleteUntil = request.app.state.complete_until
    return header(await tracked.millis())


def header(millis: int | None) -> dict[str, str]:
    return {} if millis is None else {HEADER: rfc3339(millis)}
