"""Reads the documentation: pages, their headings, links, tables and blocks of code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
ALL_PAGES = [*PAGES, *(ROOT / name for name in ("SECURITY.md", "CHANGELOG.md", "geoip/README.md"))]
ALL_PAGES += [ROOT / "loadtests" / "README.md"]

_FENCE = re.compile(
    r"^(?:<!-- not run: (?P<reason>[^\n]+?) -->\n)?```(?P<language>[^\n]*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"`([^`\n]+)`")


class Block(NamedTuple):
    language: str
    text: str
    reason: str
    """Why it is not run. Empty: it is run."""


class Command(NamedTuple):
    words: str
    output: str


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def prose(page: Path) -> str:
    """The page without its blocks of code."""
    return _FENCE.sub("", page.read_text())


def blocks(page: Path) -> list[Block]:
    return [
        Block(found["language"], found["text"], found["reason"] or "")
        for found in _FENCE.finditer(page.read_text())
    ]


def commands(block: Block) -> Iterator[Command]:
    """What a console block types after `$ `, each with the output below it."""
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        words, output = re.fullmatch(r"((?:[^\n]*\\\n)*[^\n]*)\n?(.*)", part, re.DOTALL).groups()  # type: ignore[union-attr]
        yield Command(words, output)


def anchors(page: Path) -> set[str]:
    """The anchors of the headings, as code hosts make them."""
    found: set[str] = set()
    for heading in _HEADING.findall(prose(page)):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        found.add(re.sub(r"[^\w\- ]", "", plain).strip().replace(" ", "-"))
    return found


def links(page: Path) -> list[str]:
    return _LINK.findall(_CODE.sub("", prose(page)))


def code(text: str) -> list[str]:
    """What stands in backticks. In a table a bar is written as `\\|`."""
    return [words.replace("\\|", "|") for words in _CODE.findall(text)]


def rows(page: Path) -> Iterator[list[str]]:
    """The cells of each row of each table, without head and rule."""
    is_head = True
    for line in prose(page).splitlines():
        if not line.startswith("|"):
            is_head = True
        elif re.fullmatch(r"[|\-: ]+", line):
            is_head = False
        elif not is_head:
            yield [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
