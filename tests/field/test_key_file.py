"""A key file that others may read stops a start, in one line and before anything else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.environ import clean_environ
from tracker import secret_key
from tracker.settings import Settings

NOWHERE = {"TRACKER_REDIS_URL": "redis://127.0.0.1:1", "TRACKER_POSTGRES_DSN": "postgresql://127.0.0.1:1/x"}


@pytest.mark.parametrize(
    ("command", "variables"), [("up", {}), ("api", NOWHERE), ("worker", NOWHERE)], ids=["up", "api", "worker"]
)
def test_key_file_that_is_open_to_others_stops_the_start(
    tmp_path: Path, command: str, variables: dict[str, str]
) -> None:
    path = Settings(data_dir=tmp_path).key_file
    secret_key.load(path)
    path.chmod(0o644)
    env = clean_environ() | variables | {"TRACKER_DATA_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "tracker", command],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    complaint = f"the key file {path} is open to other users: run `chmod 600 {path}`"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"tracker: {complaint}\n")
    assert not (tmp_path / "postgres").exists()
