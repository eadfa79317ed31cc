"""Every example works as it stands: the blocks of each page run in order, against a real tracker."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Furnish, open_directory
from tests.docs.pages import PAGES, blocks, name_of
from tests.docs.running import House, house_of, matches, reader

pytestmark = [
    pytest.mark.skipif(not shutil.which("curl"), reason="the examples call curl"),
    pytest.mark.timeout(600),  # a page has up to thirty commands, each a process of its own
]

_RUN = {"console", "sql"}
WITH_EXAMPLES = [page for page in PAGES if any(b.language in _RUN and not b.reason for b in blocks(page))]

SHARING = [  # in this order
    [
        "docs/guides/tokens.md",
        "docs/operations/backup.md",
        "README.md",
        "docs/guides/affiliate-access.md",
        "docs/guides/keep-a-copy.md",
        "docs/operations/ledger.md",
        "docs/operations/upgrade.md",
    ],
    ["docs/guides/create-clicks.md", "docs/guides/steer-traffic.md"],
]
"""Pages that are followed one after another beside one tracker: none shows what those before it have added.

A start takes three seconds of a core. The other pages have a tracker of their own.
"""


def runs() -> Iterator[Any]:
    """The test of each page. Guides run with all tests. The others have a target of their own."""
    pages = {name_of(page): page for page in WITH_EXAMPLES}
    shared = [name for names in SHARING for name in names]
    for names in [*SHARING, *([name] for name in pages if name not in shared)]:
        for name in names:
            marks = [pytest.mark.long] if {"reference", "operations"} & {*pages[name].parts} else []
            yield pytest.param(names[0], pages[name], id=name, marks=marks)


@pytest.fixture(scope="module")
def house(furnish: Furnish) -> Iterator[House]:
    with open_directory() as directory, house_of(directory, furnish) as made:
        yield made


@pytest.mark.parametrize(("house", "page"), list(runs()), indirect=["house"], scope="module")
def test_examples_work_as_written(house: House, page: Path, tmp_path: Path) -> None:
    with reader(tmp_path, house) as following:
        for block in blocks(page):
            if block.language in _RUN and not block.reason:
                following.follow(block)


OUTPUTS = [
    ('{"id":1,…}', '{"id":1,"name":"x"}', True),
    ('{"id":1}', '{"id":2}', False),
    ('{"a":1,\n"b":2}', '{"a":1,"b":2}', True),
    ("2026-11-26T01:49:27.939+00:00  stored", "2026-12-01T10:00:00.001+00:00 stored", True),
    ("2026-11-26T01:49:27.939+00:00  stored", "2026-12-01T10:00:00.001+00:00 rejected", False),
    ("hash 01a208af7a367000b9f9092c3348dab4", "hash 01a208af7a367000b9f9092c3348dab5", True),
    ("", "a warning", False),
]


@pytest.mark.parametrize(("shown", "printed", "is_same"), OUTPUTS)
def test_output_matches_what_a_page_shows(shown: str, printed: str, is_same: bool) -> None:
    assert matches(shown, printed) is is_same
