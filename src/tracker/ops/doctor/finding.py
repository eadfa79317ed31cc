"""A finding of `tracker doctor`."""

from __future__ import annotations

from typing import Literal, NamedTuple

Level = Literal["ok", "warn", "fail"]


class Finding(NamedTuple):
    """One line of the report."""

    topic: str
    level: Level
    text: str
    advice: str = ""

    def __str__(self) -> str:
        advice = f"\n{'':18}{self.advice}" if self.advice else ""
        return f"{self.level:4}  {self.topic:10}  {self.text}{advice}"


def cannot_read(topic: str, error: Exception, advice: str = "see the topic engines") -> Finding:
    """The finding of a check that cannot read its data."""
    return Finding(topic, "fail", f"cannot be read: {str(error) or type(error).__name__}", advice)
