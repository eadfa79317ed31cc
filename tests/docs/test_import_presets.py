"""The page of presets names each part of each file, with the page that it was read from and the day."""

from __future__ import annotations

from collections.abc import Iterator

from tests.docs.pages import ROOT, code, rows
from tracker.importing import yaml_file

PAGE = ROOT / "docs" / "reference" / "import-presets.md"
FILES = sorted((ROOT / "src" / "tracker" / "importing" / "presets").glob("*.yaml"))


def _parts() -> Iterator[list[str]]:
    for path in FILES:
        content = yaml_file.read(path)
        sections = [(name, content[name]) for name in ("clicks", "conversions") if name in content]
        sections += [(f"`{kind}`", part) for kind, part in content.get("catalogue", {}).items()]
        for kind, forms in content.get("forms", {}).items():
            noun = kind.removesuffix("s").replace("_", " ")
            sections += [(f"{noun} {form['name']}", form) for form in forms]
        for name, part in sections:
            yield [content["platform"], f"`{path.stem}`", name, f"<{part['page']}>", part["read_on"]]


def test_each_part_has_its_page_and_day() -> None:
    assert sorted(cells for cells in rows(PAGE) if len(cells) == 5) == sorted(_parts())


def test_platforms_that_are_left_out_have_a_reason() -> None:
    whole = {platform for platform, *_ in _parts()}
    left_out = [cells for cells in rows(PAGE) if len(cells) == 2 and not code(cells[0])]
    names = {name for names, _ in left_out for name in names.split(", ")}
    assert all(reason for _, reason in left_out)
    assert {"Binom", "Post Affiliate Pro", "RedTrack", "ThriveTracker", "Voluum"} <= names - whole
