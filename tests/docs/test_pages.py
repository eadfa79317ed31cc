"""Pages hold together: links lead somewhere, examples can be read, and the front page stays short."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.docs.pages import ALL_PAGES, PAGES, ROOT, anchors, blocks, code, commands, links, name_of

_LANGUAGES = {"console", "sql", "text", "caddyfile"}
_MODULE = re.compile(r"(?:[\w.-]+/)+[\w.-]+\.(?:py|txt|tsv|sql|lua|toml|md|cfg|conf)|[\w.-]+\.py")
_FILES = [path for path in ROOT.rglob("*") if not {".venv", ".git", "site"} & set(path.parts)]
every_page = pytest.mark.parametrize("page", ALL_PAGES, ids=name_of)


@every_page
def test_links_and_anchors_resolve(page: Path) -> None:
    for link in links(page):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_that_a_page_names_exist(page: Path) -> None:
    for words in code(page.read_text()):
        if _MODULE.fullmatch(words) and not words.startswith(("own/", "var/")):
            assert any(path.as_posix().endswith(f"/{words}") for path in _FILES), words


def test_readme_is_a_front_page() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


def test_pages_are_reached_from_the_index() -> None:
    reached: set[Path] = set()
    waiting = [ROOT / "docs" / "index.md"]
    while waiting:
        page = waiting.pop()
        if page not in reached and page.suffix == ".md":
            reached.add(page)
            paths = (link.partition("#")[0] for link in links(page) if ":" not in link)
            waiting += [(page.parent / path).resolve() for path in paths if path]
    assert {page for page in PAGES if page.name != "README.md"} <= reached


def test_navigation_of_the_site_has_every_page_but_the_single_decisions() -> None:
    text = (ROOT / "zensical.toml").read_text()
    tomllib.loads(text)
    pages = {name_of(page).removeprefix("docs/") for page in PAGES if page.name != "README.md"}
    single = {page for page in pages if re.fullmatch(r"decisions/\d{4}-.*", page)}
    assert set(re.findall(r'"([\w/-]+\.md)"', text)) == pages - single


def test_decisions_are_short_and_numbered_in_order() -> None:
    decisions = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
    for number, decision in enumerate(decisions, start=1):
        lines = decision.read_text().splitlines()
        assert len(lines) <= 10, decision
        assert decision.name.startswith(f"{number:04}-")
        assert lines[0].startswith(f"# {number:04}. ")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_blocks_can_be_parsed(page: Path) -> None:
    assert page.read_text().count("\n```") % 2 == 0
    for block in blocks(page):
        assert block.language in _LANGUAGES
        if block.language == "console":
            assert block.text.startswith("$ ")
            for command in commands(block):
                done = subprocess.run(
                    ["bash", "-n", "-c", command.words], capture_output=True, text=True, check=False
                )
                assert (done.returncode, done.stderr) == (0, ""), command.words
        elif block.language == "caddyfile":  # an excerpt of the tried configuration
            tried = (ROOT / "deploy" / "Caddyfile").read_text()
            assert all(line.strip() in tried for line in block.text.splitlines())


def test_make_targets_that_pages_name_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        for target in re.findall(r"(?:`|^    |^\$ )make ([a-z-]+)", page.read_text(), re.MULTILINE):
            assert target in targets, (page, target)
