"""The tables of the metrics page, by the table of families. Writes them into the page."""

from __future__ import annotations

import re
from pathlib import Path

from tracker.metrics.families import SECTIONS, Family

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"


def page() -> str:
    """The page as it is, with each section's table as it should be."""
    text = PAGE.read_text()
    for title, families in SECTIONS.items():
        before, head, rest = text.partition(f"\n## {title}\n")
        assert head, f"the page needs a section {title}"
        prose, after = re.split(r"(?:^\|.*\n)+", rest, maxsplit=1, flags=re.MULTILINE)
        text = before + head + prose + _table(families) + after
    return text


def _table(families: tuple[Family, ...]) -> str:
    rows = [
        f"| `{family.name}` | {family.kind} | {', '.join(f'`{label}`' for label in family.labels)} "
        f"| {family.meaning} |\n"
        for family in families
    ]
    return "".join(["| metric | kind | labels | meaning |\n", "|---|---|---|---|\n", *rows])


if __name__ == "__main__":
    PAGE.write_text(page())
