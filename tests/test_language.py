"""The language of docstrings and comments: plain English, one idea a sentence."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted([*(ROOT / "src" / "tracker").rglob("*.py"), *(ROOT / "workers").rglob("*.py")])

BANNED = {
    "a semicolon: write two sentences": r";",
    "anew: write again": r"\banew\b",
    "mend: write fix or correct": r"\bmend(s|ed|ing)?\b",
    "but for: write except": r"\bbut for\b",
    "is none: write is not a, or None if missing": r"(?-i:\bis none\b)",
    "as far as: write if": r"\bas far as\b",
    "whoever, whatever: leave it out": r"\b(who|what|why)ever\b",
    "amiss: write wrong": r"\bamiss\b",
    "farewell, bury: write deregister, dead-letter": r"\b(farewell|bury|buried)\b",
}
_CODE = re.compile(r'`[^`]*`|"[^"\n]*"|noqa.*|type: ignore.*')


def texts(source: str) -> Iterator[tuple[int, str]]:
    """The first line and the text of each docstring and comment."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Expr(value=ast.Constant(value=str(text))):
                yield node.lineno, text
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_docstrings_and_comments_are_plain(file: Path) -> None:
    faults = [
        f"{file}:{line}: {advice}: {' '.join(text.split())[:100]}"
        for line, text in texts(file.read_text())
        for advice, pattern in BANNED.items()
        if re.search(pattern, _CODE.sub("", text), re.IGNORECASE)
    ]
    assert faults == []
