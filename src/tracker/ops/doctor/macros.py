"""Macros that a partner sends without their values."""

from __future__ import annotations

from tracker.ops.doctor.finding import Finding
from tracker.store import unfilled
from tracker.store.unfilled import Unfilled


def unfilled_macro(topic: str, who: str, macro: Unfilled) -> Finding:
    text = f"{who} {macro.whose} sends a macro that nobody fills: {macro.name}={macro.macro[:50]}"
    sent = f"{text}, in {macro.times:,} of the last {unfilled.LATEST:,} rows"
    return Finding(topic, "warn", sent, f"ask the {who} to fill in the value: it is stored as it came")
