"""The reference names what the code has, and nothing else: each list is read from the code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtests import budgets
from tests.conftest import Furnish
from tests.docs import roles
from tests.docs.pages import ROOT, code, prose, rows
from tests.e2e.running import Up, up
from tracker.cli import CATALOGUE, COMMANDS
from tracker.domain import macros, postback_macros
from tracker.domain.access import SCOPES
from tracker.domain.model import Reason
from tracker.reading.reports.query import FIELDS
from tracker.settings import _READERS, SECRET_FILES
from tracker.store.reports.measures import MEASURES

REFERENCE = ROOT / "docs" / "reference"
REPORTS = (REFERENCE / "reports.md").read_text()


def _first_cells(page: str) -> Iterator[str]:
    for cells in rows(REFERENCE / page):
        yield from code(cells[0])


def test_settings_are_those_that_the_code_reads() -> None:
    assert list(_first_cells("settings.md")) == list(_READERS)


def test_settings_have_their_default_and_meaning() -> None:
    assert all(len(cells) == 3 and all(cells) for cells in rows(REFERENCE / "settings.md"))


def test_settings_that_any_page_names_exist() -> None:
    for page in (ROOT / "docs").rglob("*.md"):
        for name in re.findall(r"TRACKER_[A-Z_]+", page.read_text()):
            assert name in {*_READERS, *SECRET_FILES, "TRACKER_"}, (page, name)


def test_commands_are_those_of_the_command_line() -> None:
    named = re.findall(r"tracker ([a-z-]+)", " ".join(_first_cells("commands.md")))
    assert set(named) == COMMANDS.keys() | CATALOGUE.keys()


def test_reasons_have_their_numbers_and_names() -> None:
    table = [cells for cells in rows(REFERENCE / "tracking-links.md") if cells[0].isdigit()]
    assert {int(number): code(name) for number, name, *_ in table} == {
        reason.value: [reason.name.lower()] for reason in Reason
    }
    assert all(meaning for _, _, meaning, *_ in table)


def test_budgets_are_those_of_the_benchmarks() -> None:
    limits = {str(each) for each in vars(budgets).values() if isinstance(each, budgets.Budget)}
    cells = [cells[1] for cells in rows(ROOT / "docs" / "benchmarks.md") if len(cells) == 3]
    assert {cell for cell in cells if cell[0] in "≤≥"} == limits


def test_scopes_are_those_that_tokens_have() -> None:
    scopes = [cells for cells in rows(REFERENCE / "tokens-and-limits.md") if cells[0].count("`") == 2]
    named = {
        code(cells[0])[0]: cells[1] for cells in scopes if re.fullmatch(r"`([\w-]+:\w+|admin)`", cells[0])
    }
    assert named.keys() == set(SCOPES)
    assert all(named.values())


def test_roles_are_those_of_the_code() -> None:
    """`python -m tests.docs.roles` prints the table."""
    assert roles.table() in (REFERENCE / "tokens-and-limits.md").read_text()


FOLDERS = {
    path.parent.relative_to(ROOT).as_posix()
    for root in ("src/tracker", "workers")
    for kind in ("*.py", "*.sql", "*.lua")
    for path in (ROOT / root).rglob(kind)
}


def test_folders_of_the_code_are_in_the_architecture() -> None:
    cells = [cells for cells in rows(ROOT / "docs" / "architecture.md") if len(cells) == 3]
    assert {code(folder)[0] for folder, *_ in cells} == FOLDERS
    assert all(lives and touches for _, lives, touches in cells)


SECTIONS = [("Links", macros.MACROS), ("Postbacks to affiliates", postback_macros.MACROS)]


@pytest.mark.parametrize(("section", "known"), SECTIONS, ids=[name for name, _ in SECTIONS])
def test_macros_are_those_that_are_filled(section: str, known: dict[str, object]) -> None:
    text = prose(REFERENCE / "macros.md").split(f"\n## {section}\n")[1].split("\n## ")[0]
    named: set[str] = set()
    for line in text.splitlines():
        if line.startswith("| `"):
            named |= set(_with_ranges(line.split("|")[1]))
    assert named == known.keys()


def _with_ranges(cell: str) -> Iterator[str]:
    """The macros of a cell: `{sub2}` … `{sub5}` stands for those between, too."""
    for first, last in re.findall(r"`\{(\w+)\}`(?: … `\{(\w+)\}`)?", cell):
        stem = first.rstrip("0123456789")
        if last:
            numbers = range(int(first[len(stem) :]), int(last[len(stem) :]) + 1)
            yield from (f"{stem}{number}" for number in numbers)
        else:
            yield first


@pytest.fixture(scope="module")
def tracker(furnish: Furnish, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with up(furnish(tmp_path_factory.mktemp("metrics") / "var")) as running:
        yield running


def _make_all_kinds_of_hits(tracker: Up) -> None:
    for path in (tracker.link, "/offer/3?affiliate_id= 513".replace(" ", "%20"), "/offer/99999999"):
        tracker.get(path)
    tracker.get("/offer/3?affiliate_id=513&url_id=9999999")
    tracker.get(tracker.link, **{"Sec-Purpose": "prefetch"})
    tracker.head_location(tracker.link)
    tracker.get("/postback?order_id=1")
    tracker.get(f"/offer/3?affiliate_id=513&aff_sub={'x' * 9000}")


def _metrics(tracker: Up) -> dict[str, set[str]]:
    """The labels of each metric: those of its samples, if it has any."""
    text = tracker.get("/metrics", tracker.metrics_port)[1].decode()
    found: dict[str, set[str]] = {name: set() for name in re.findall(r"^# HELP (\S+)", text, re.MULTILINE)}
    for name, labels in re.findall(r"^(\w+)\{(.*)\} ", text, re.MULTILINE):
        found[name] |= set(re.findall(r'(\w+)="', labels))
    return found


NEEDS_A_FAULT = {
    "tracker_clicks_not_recorded_total",
    "tracker_parameters_left_out_total",
    "tracker_standby_behind_bytes",
    "tracker_unsendable_locations_total",
}
"""Metrics without a sample until something fails, or without a standby."""


def test_metrics_have_their_names_labels_and_meanings(tracker: Up) -> None:
    _make_all_kinds_of_hits(tracker)
    documented = {}
    for name, labels, meaning in rows(REFERENCE / "metrics.md"):
        documented[code(name)[0]] = set(code(labels))
        assert meaning
    shown = _metrics(tracker)
    assert documented.keys() == shown.keys()
    assert {name for name, labels in shown.items() if not labels} - NEEDS_A_FAULT <= {
        name for name, labels in documented.items() if not labels
    }
    for name in shown.keys() - NEEDS_A_FAULT:
        assert documented[name] == shown[name], name


def test_metrics_that_any_page_names_exist(tracker: Up) -> None:
    known = _metrics(tracker).keys()
    for page in sorted(Path(ROOT / "docs").rglob("*.md")):
        for name in re.findall(r"`(tracker_[a-z_]+)`", page.read_text()):
            assert name in known or name == "tracker_admin", (page, name)


def test_measures_of_reports_are_explained_in_their_order() -> None:
    cells = re.findall(r"^\| (`[^|]*) \|", section_of(REPORTS, "Measures"), re.MULTILINE)
    assert [name for cell in cells for name in code(cell)] == list(MEASURES)


def test_groups_of_reports_are_explained() -> None:
    cells = re.findall(r"^\| (`[^|]*) \|", section_of(REPORTS, "Groups"), re.MULTILINE)
    named = {name for cell in cells for name in code(cell)}
    left_out = {name for name in FIELDS if re.fullmatch(r"(aff|adv)_sub\d+", name)}
    assert named | left_out == set(FIELDS)


def section_of(page: str, title: str) -> str:
    return page.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
