"""Alert rules and the board: what they name exists, each rule is explained, and Prometheus reads them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.files import DEPLOY, ROOT
from tests.docs.pages import anchors
from tracker.metrics.families import FAMILIES

RULES_FILE = DEPLOY / "prometheus" / "alerts.yaml"
RULES: list[dict[str, Any]] = yaml.safe_load(RULES_FILE.read_text())["groups"][0]["rules"]
BOARD: dict[str, Any] = json.loads((DEPLOY / "grafana" / "tracker.json").read_text())
PAGE = ROOT / "docs" / "operations" / "alerts.md"
_OF_SCRAPE = {"instance", "job", "le"}
_METRIC = re.compile(r"\b((?:tracker|process)_[a-z_]+)\b(?:\{([^}]*)\})?")


def expressions() -> Iterator[tuple[str, str]]:
    """The name and the expression of each rule and each panel."""
    yield from ((rule["alert"], rule["expr"]) for rule in RULES)
    for panel in BOARD["panels"]:
        yield from ((panel["title"], target["expr"]) for target in panel["targets"])


needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool here")


@pytest.mark.parametrize(("name", "expression"), list(expressions()))
def test_expression_names_metrics_and_labels_that_exist(name: str, expression: str) -> None:
    known = set()
    for metric, labels in _METRIC.findall(expression):
        family = FAMILIES.get(metric) or FAMILIES[re.sub(r"_(bucket|count|sum)$", "", metric)]
        known |= {*family.labels}
        assert set(re.findall(r"(\w+)[=!~]", labels)) <= {*family.labels}, name
    assert known or "tracker_" in expression
    for grouped in re.findall(r"\b(?:by|on) \(?([\w, ]+)\)", expression):
        assert set(re.findall(r"\w+", grouped)) <= known | _OF_SCRAPE, name


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_rule_says_what_it_means_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("page", "ticket")
    shown = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
    families = [FAMILIES.get(name) for name, _ in _METRIC.findall(rule["expr"])]
    labels = {label for family in families if family for label in family.labels}
    assert shown <= labels | {"instance", "edge"}
    page, _, anchor = rule["annotations"]["runbook"].partition("#")
    assert ROOT / page == PAGE
    assert anchor in anchors(PAGE)
    section = PAGE.read_text().partition(f"\n## {rule['alert']}\n")[2].partition("\n## ")[0]
    meaning, _, advice = section.partition("**What to do.**")
    assert meaning.strip()
    assert advice.strip()


def test_page_explains_the_rules_in_their_order() -> None:
    assert re.findall(r"^## (\w+)$", PAGE.read_text(), re.MULTILINE) == [rule["alert"] for rule in RULES]


@needs_promtool
@pytest.mark.parametrize("words", [["rules", "alerts.yaml"], ["config", "prometheus.yaml"]])
def test_prometheus_reads_the_file(words: list[str]) -> None:
    done = subprocess.run(
        ["promtool", "check", *words], cwd=RULES_FILE.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_board_has_panels_that_do_not_overlap() -> None:
    assert (BOARD["title"], BOARD["uid"]) == ("Tracker", "tracker")
    places = [tuple(panel["gridPos"][side] for side in "xywh") for panel in BOARD["panels"]]
    cells = [(x + dx, y + dy) for x, y, w, h in places for dx in range(w) for dy in range(h)]
    assert len(cells) == len(set(cells))
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"]) >= 12
    assert {panel["datasource"]["uid"] for panel in BOARD["panels"]} == {"${datasource}"}


@needs_promtool
def test_board_asks_what_prometheus_understands(tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": expression}
        for number, (_, expression) in enumerate(expressions())
    ]
    path = tmp_path / "board.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "board", "rules": rules}]}))
    done = subprocess.run(["promtool", "check", "rules", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
