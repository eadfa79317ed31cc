"""The reference names what the code has, and nothing else: each list is read from the code."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from loadtests import budgets
from tests.conftest import Furnish
from tests.docs import roles
from tests.docs.metrics import PAGE
from tests.docs.metrics import page as metrics_page
from tests.docs.pages import ROOT, code, prose, rows
from tests.e2e.running import Up, up
from tracker.cli import CATALOGUE, COMMANDS
from tracker.domain import macros, postback_macros
from tracker.domain.access import SCOPES
from tracker.domain.model import Reason
from tracker.metrics.families import FAMILIES
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
        known = name if name in found else re.sub(r"_(bucket|count|sum)$", "", name)
        found[known] |= set(re.findall(r'(\w+)="', labels))
    return found


def test_metrics_page_has_the_families() -> None:
    assert metrics_page() == PAGE.read_text(), "python -m tests.docs.metrics writes what the page needs"


def test_metrics_are_the_families(tracker: Up) -> None:
    _make_all_kinds_of_hits(tracker)
    shown = _metrics(tracker)
    assert shown.keys() == FAMILIES.keys()
    for name, family in FAMILIES.items():
        labels = {*family.labels} | ({"le"} if family.kind == "histogram" else set())
        assert shown[name] == labels or (family.needs and not shown[name]), name


def test_metrics_can_be_parsed_and_appear_once(tracker: Up) -> None:
    text = tracker.get("/metrics", tracker.metrics_port)[1].decode()
    series = []
    for metric in text_string_to_metric_families(text):
        family = FAMILIES.get(metric.name) or FAMILIES[f"{metric.name}_total"]
        assert metric.type == family.kind
        assert metric.documentation
        series += [(sample.name, *sorted(sample.labels.items())) for sample in metric.samples]
    assert len(series) == len(set(series))


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool here")
def test_metrics_please_promtool(tracker: Up) -> None:
    text = tracker.get("/metrics", tracker.metrics_port)[1]
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


def test_metrics_that_any_page_names_exist() -> None:
    known = {*FAMILIES} | {f"{name}_{end}" for name in FAMILIES for end in ("bucket", "count", "sum")}
    for path in sorted(Path(ROOT / "docs").rglob("*.md")):
        for name in re.findall(r"`(tracker_[a-z_]+)`", path.read_text()):
            assert name in known or name == "tracker_admin", (path, name)


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
