"""Advisory locks have different numbers over all modules."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import tracker

_NUMBER = re.compile(r"= 0x7C1C_([0-9A-Fa-f]{4})\b")


def test_locks_have_different_numbers() -> None:
    modules = Path(tracker.__file__).parent.rglob("*.py")
    numbers = Counter(number for module in modules for number in _NUMBER.findall(module.read_text()))
    assert len(numbers) > 5
    assert [number for number, times in numbers.items() if times > 1] == []
