"""The manifests of deploy/kubernetes, by Kubernetes' own schemas and by our rules."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.deploy.files import DEPLOY, IMAGE, is_pinned
from tracker import cli

KUBERNETES = DEPLOY / "kubernetes"
FOLDERS = [KUBERNETES / "base", *sorted((KUBERNETES / "overlays").iterdir())]
OLDEST, NEWEST = "1.32", "1.37"
"""The oldest version whose pods know their number (pod-index), and the newest of the validator."""


@cache
def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.load_all(path.read_text(), yaml.CSafeLoader))


def kustomization(folder: Path) -> dict[str, Any]:
    (read,) = documents(folder / "kustomization.yaml")
    return read


def objects_of(folder: Path) -> Iterator[dict[str, Any]]:
    """The objects that a folder names, and those of the folders that it names."""
    for name in kustomization(folder)["resources"]:
        path = folder / name
        yield from objects_of(path) if path.is_dir() else documents(path)


MANIFESTS = {
    f"{each['kind']}/{each['metadata']['name']}": each for folder in FOLDERS for each in objects_of(folder)
}
PODS = {
    name: each["spec"]["template"] for name, each in MANIFESTS.items() if "template" in each.get("spec", {})
}
OURS = {name: pod for name, pod in PODS.items() if pod["spec"]["containers"][0]["image"] == IMAGE}
SETTINGS = dict(line.split("=", 1) for line in kustomization(FOLDERS[0])["configMapGenerator"][0]["literals"])


def test_manifests_follow_the_schemas() -> None:
    for manifest in MANIFESTS.values():
        kubernetes_validate.validate(manifest, OLDEST, strict=True)


def test_manifest_with_a_fault_would_be_found() -> None:
    wrong = {**MANIFESTS["Service/tracker-edge"], "specs": {}}
    with pytest.raises(kubernetes_validate.ValidationError, match="specs"):
        kubernetes_validate.validate(wrong, OLDEST, strict=True)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_overlays_name_what_exists(folder: Path) -> None:
    own = kustomization(folder)
    there = {(each["kind"], each["metadata"]["name"]): each for each in objects_of(folder)}
    patches = [document for patch in own.get("patches", ()) for document in documents(folder / patch["path"])]
    assert {(patch["kind"], patch["metadata"]["name"]) for patch in patches} <= there.keys()
    assert {each["name"] for each in own.get("replicas", ())} <= {name for _, name in there}
    files = {path.name for path in folder.iterdir()} - {"kustomization.yaml"}
    named = {*own["resources"], *(patch["path"] for patch in own.get("patches", ()))}
    named |= {name for made in own.get("configMapGenerator", ()) for name in made.get("files", ())}
    assert {name for name in named if not name.startswith("..")} == files
    for image in own.get("images", ()):
        assert f"{image['name']}:{image['newTag']}" == IMAGE


@pytest.mark.parametrize("name", PODS)
def test_pod_has_least_rights(name: str) -> None:
    pod = PODS[name]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False, "a Service becomes a variable TRACKER_…, which is no setting"
    security = pod["securityContext"]
    assert security["runAsNonRoot"] is True
    assert security["runAsUser"] == security["fsGroup"] > 0
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pod["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert is_pinned(container["image"])
        assert container["resources"]["limits"].keys() == {"memory"}, "a limit of CPU would stall visitors"


@pytest.mark.parametrize("name", OURS)
def test_pod_runs_a_part_of_the_tracker(name: str) -> None:
    pod = OURS[name]["spec"]
    volumes = {volume["name"] for volume in pod["volumes"]} | {"data"}
    for container in pod["containers"]:
        command, *words = container["args"]
        assert command in cli.COMMANDS
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
        if "--slot" in words:
            (slot,) = container["env"]
            assert words == ["--slot", "$(SLOT)"]
            assert "pod-index" in slot["valueFrom"]["fieldRef"]["fieldPath"]
            assert name.startswith("StatefulSet/"), "pods of a Deployment have no numbers"


@pytest.mark.parametrize("name", ["StatefulSet/tracker-edge", "Deployment/tracker-api"])
def test_pod_leaves_the_balancer_before_it_stops(name: str) -> None:
    pod = OURS[name]["spec"]
    (served, _) = pod["containers"]
    ready, live = served["readinessProbe"], served["livenessProbe"]
    assert (ready["httpGet"]["path"], live["httpGet"]["path"]) == ("/health/ready", "/health/live")
    noticed = ready["failureThreshold"] * (ready["periodSeconds"] + ready["timeoutSeconds"])
    assert noticed <= int(SETTINGS["TRACKER_DRAIN_SECONDS"])
    assert pod["terminationGracePeriodSeconds"] >= int(SETTINGS["TRACKER_DRAIN_SECONDS"]) + 20


def test_every_server_has_a_budget_and_its_ports_a_policy() -> None:
    served = {name.partition("/tracker-")[2] for name in OURS} - {"migrate"}
    for kind in ("PodDisruptionBudget", "NetworkPolicy"):
        there = {name.partition("tracker-")[2] for name in MANIFESTS if name.startswith(f"{kind}/tracker-")}
        assert there == (served if kind == "PodDisruptionBudget" else {"edge", "api", "metrics"})
    metrics = MANIFESTS["NetworkPolicy/tracker-metrics"]["spec"]
    assert metrics["podSelector"] == {"matchLabels": {"app.kubernetes.io/name": "tracker"}}
    ((rule,),) = [metrics["ingress"]]
    assert rule["from"], "no rule for everybody"
    edge, api = (MANIFESTS[f"NetworkPolicy/tracker-{part}"]["spec"]["ingress"] for part in ("edge", "api"))
    assert [edge, api] == [[{"ports": [{"port": "links"}]}], [{"ports": [{"port": "api"}]}]]


def test_budgets_and_services_select_pods_that_exist() -> None:
    labels = [pod["metadata"]["labels"] for pod in PODS.values()]
    for name, each in MANIFESTS.items():
        selector = each.get("spec", {}).get("selector") or each.get("spec", {}).get("podSelector")
        if selector:
            wanted = selector.get("matchLabels", selector)
            assert any(wanted.items() <= there.items() for there in labels), name


def test_engines_of_the_trial_are_those_of_the_compose_file() -> None:
    compose = yaml.safe_load((DEPLOY / "docker" / "compose.yaml").read_text())["services"]
    for name in ("valkey", "postgres"):
        (container,) = PODS[f"StatefulSet/{name}"]["spec"]["containers"]
        assert container["image"] == compose[name]["image"]
    arguments = " ".join(PODS["StatefulSet/valkey"]["spec"]["containers"][0]["args"])
    assert re.search("--appendfsync always .*--maxmemory-policy noeviction", arguments)
    scripts = [DEPLOY / "docker", KUBERNETES / "overlays" / "trial"]
    assert len({(folder / "database.sql").read_text() for folder in scripts}) == 1


if shutil.which("kubectl"):  # Debian has none of this age

    @pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
    def test_kustomize_builds_valid_objects(folder: Path) -> None:
        done = subprocess.run(
            ["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        built = list(yaml.load_all(done.stdout, yaml.CSafeLoader))
        assert len(built) > len(list(objects_of(folder)))  # and what it generates
        for each in built:
            kubernetes_validate.validate(each, NEWEST, strict=True)
