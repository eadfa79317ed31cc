"""The Dockerfile and compose.yaml, by their schemas and by our own rules."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose
from dockerfile_parse import DockerfileParser

from tests.deploy.files import DEPLOY, IMAGE, ROOT, is_pinned
from tracker import cli
from tracker.release import version

DOCKER = DEPLOY / "docker"
COMPOSE: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"] == IMAGE}
UID = "10001"


def steps(*names: str) -> list[str]:
    """The values of instructions of the Dockerfile."""
    with (DOCKER / "Dockerfile").open("rb") as file:
        parsed = DockerfileParser(fileobj=file).structure
    return [step["value"] for step in parsed if step["instruction"] in names]


def copied() -> Iterator[str]:
    """The files that are copied from the sources."""
    for words in map(str.split, steps("COPY")):
        if not words[0].startswith("--from="):
            yield from words[:-1]


def test_image_is_made_of_pinned_images_and_files_that_exist() -> None:
    bases = [words.split()[0] for words in steps("FROM")]
    assert all(map(is_pinned, bases)), bases
    assert len(set(bases)) == 1, "the environment is copied from one to the other"
    assert steps("ADD") == []
    missing = [path for path in copied() if not (ROOT / path).exists()]
    assert missing == []


def test_build_context_has_what_is_copied_and_nothing_else() -> None:
    lines = (DOCKER / "Dockerfile.dockerignore").read_text().splitlines()
    let_in = {line[1:] for line in lines if line.startswith("!")}
    assert "*" in lines
    assert let_in == set(copied())


def test_image_runs_as_its_own_user_and_ends_by_sigterm() -> None:
    assert steps("USER") == [f"{UID}:{UID}"]
    assert f"--uid {UID}" in (DOCKER / "runtime.sh").read_text()
    assert steps("STOPSIGNAL") == ["SIGTERM"]
    assert json.loads(steps("ENTRYPOINT")[0]) == ["tracker"]
    command, *_ = json.loads(steps("CMD")[0])
    assert command in cli.COMMANDS
    (check,) = steps("HEALTHCHECK")
    assert json.loads(check.partition(" CMD ")[2]) == ["tracker", "health"]
    assert f'version="{version()}"' in " ".join(steps("LABEL"))


def test_compose_file_follows_the_specification() -> None:
    PyCompose.from_json(json.dumps(COMPOSE)).validate()
    for service in SERVICES.values():
        assert service.get("depends_on", {}).keys() <= SERVICES.keys()


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"cap_dropp": ["ALL"]}, "cap_dropp"),
        ({"networks": ["nowhere"]}, "network `nowhere`"),
        ({"stop_grace_period": "soon"}, "soon"),
    ],
)
def test_compose_file_with_a_fault_would_be_found(wrong: dict[str, Any], complaint: str) -> None:
    services = SERVICES | {"edge": SERVICES["edge"] | wrong}
    with pytest.raises(ValueError, match=complaint):
        PyCompose.from_json(json.dumps(COMPOSE | {"services": services})).validate()


@pytest.mark.skipif(shutil.which("docker-compose") is None, reason="no docker-compose here")
def test_compose_reads_the_file_as_we_do() -> None:
    done = subprocess.run(
        ["docker-compose", "--file", str(DOCKER / "compose.yaml"), "config"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    read = yaml.safe_load(done.stdout)
    assert {name: service["image"] for name, service in read["services"].items()} == {
        name: service["image"] for name, service in SERVICES.items()
    }


@pytest.mark.parametrize("name", SERVICES)
def test_container_has_least_rights(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert is_pinned(service["image"])
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), "its proxy faces visitors"
    assert "healthcheck" in service
    assert not any(
        "password" in str(value).lower() and "_FILE" not in key
        for key, value in service.get("environment", {}).items()
    )


def test_engines_are_out_of_reach() -> None:
    assert COMPOSE["networks"]["engines"] == {"internal": True}
    assert {tuple(SERVICES[name]["networks"]) for name in ("valkey", "postgres")} == {("engines",)}


def test_parts_of_the_tracker_run_commands_that_exist() -> None:
    assert {service["command"][0] for service in OURS.values()} == {
        "migrate",
        "edge",
        "api",
        "worker",
        "metrics",
    }
    assert {service["command"][0] for service in OURS.values()} <= cli.COMMANDS.keys()
    for name, service in OURS.items():
        after = service["depends_on"]
        assert name == "migrate" or after["migrate"] == {"condition": "service_completed_successfully"}


def test_stream_of_the_compose_file_keeps_every_click() -> None:
    words = SERVICES["valkey"]["command"]
    options = dict(zip(words[2::2], words[3::2], strict=True))
    assert (options["--appendonly"], options["--appendfsync"]) == ("yes", "always")
    assert options["--maxmemory-policy"] == "noeviction"


def test_secrets_are_made_once_for_the_users_that_read_them(tmp_path: Path) -> None:
    script = shutil.copy(DOCKER / "make-secrets", tmp_path)
    done = subprocess.run([script], capture_output=True, text=True, check=False)
    if os.geteuid() != 0:
        assert (done.returncode, "sudo" in done.stderr) == (1, True)
        return
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    files = {path.name: path for path in (tmp_path / "secrets").iterdir()}
    assert {f"secrets/{name}" for name in files} == {each["file"] for each in COMPOSE["secrets"].values()}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files.values()} == {0o400}
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700
    assert {name for name, path in files.items() if path.stat().st_uid == int(UID)} == {
        "redis-url",
        "postgres-dsn",
    }
    password = files["postgres-password"].read_text().strip()
    assert len(password) == 64
    assert files["postgres-dsn"].read_text() == f"postgresql://tracker:{password}@postgres/tracker\n"
    assert files["redis-url"].read_text()[9:73] in files["valkey.conf"].read_text()
    again = subprocess.run([script], capture_output=True, text=True, check=False)
    assert (again.returncode, "is there already" in again.stderr) == (1, True)
