"""The doctor without engines: silent servers and settings."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tracker.ops.doctor import report, servers
from tracker.settings import Settings, packaged_geoip


@pytest.fixture
def frozen() -> Iterator[socket.socket]:
    """A server that accepts connections and stays silent, as a stopped process does."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        yield listening


def settings_at(server: socket.socket, data_dir: Path) -> Settings:
    address = f"127.0.0.1:{server.getsockname()[1]}"
    urls = {
        "TRACKER_REDIS_URL": f"redis://{address}?password=secret",
        "TRACKER_POSTGRES_DSN": f"postgresql://u@{address}/x?a=1&password=secret",
    }
    return Settings.from_env(urls | {"TRACKER_DATA_DIR": str(data_dir)})


@pytest.mark.parametrize("topic", ["geo", "settings", "disk", "form"])
def test_local_topics_are_checked_without_a_server(frozen: socket.socket, tmp_path: Path, topic: str) -> None:
    findings = asyncio.run(report.examine(settings_at(frozen, tmp_path), topic))
    assert {finding.topic for finding in findings} == {topic}
    with pytest.raises(BlockingIOError):
        frozen.accept()


def test_servers_that_never_answer_are_findings(
    frozen: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "ANSWER_SECONDS", 0.1)
    findings = asyncio.run(report.examine(settings_at(frozen, tmp_path)))
    said = [finding.text for finding in findings if finding.topic == "engines"]
    assert [text.partition(" cannot be used: ")[2] for text in said] == ["it does not answer"] * 2
    assert "secret" not in str(findings)


def test_url_with_an_unreadable_option_is_a_finding(tmp_path: Path) -> None:
    settings = Settings.from_env(
        {
            "TRACKER_REDIS_URL": "redis://127.0.0.1:1?socket_timeout=soon",
            "TRACKER_POSTGRES_DSN": "postgresql://127.0.0.1:1/x",
            "TRACKER_DATA_DIR": str(tmp_path),
        }
    )
    first, *_ = asyncio.run(report.examine(settings, "engines"))
    assert (first.level, "socket_timeout" in first.text) == ("fail", True)


def test_settings_are_shown_as_they_are_set(tmp_path: Path) -> None:
    settings = Settings.from_env({"TRACKER_DATA_DIR": str(tmp_path), "TRACKER_BATCH_AGE_MS": "70"})
    said = [finding.text for finding in asyncio.run(report.examine(settings, "settings"))]
    assert {
        "TRACKER_APPEND_TIMEOUT_MS = 250",
        "TRACKER_BATCH_AGE_MS = 70",
        "TRACKER_TRUSTED_PROXIES = none",
    } <= set(said)
    assert all(text.startswith("TRACKER_") for text in said)
    geo = next(text for text in said if text.startswith("TRACKER_GEOIP_DB"))
    assert geo.endswith("(the packaged one, the default)") == bool(settings.geoip_db)


@pytest.mark.skipif(not packaged_geoip(), reason="the geo extra is not installed")
@pytest.mark.parametrize("is_default", [True, False])
def test_packaged_geo_database_is_marked(tmp_path: Path, is_default: bool) -> None:
    (packaged,) = packaged_geoip()
    own = tmp_path / "own.mmdb"
    own.symlink_to(packaged)
    settings = Settings.from_env({} if is_default else {"TRACKER_GEOIP_DB": str(own)})
    (finding,) = asyncio.run(report.examine(settings, "geo"))
    assert ("(the packaged one, the default)" in finding.text) == is_default


def test_file_of_a_secret_that_others_can_read_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "dsn"
    path.touch(0o600)
    monkeypatch.setenv("TRACKER_POSTGRES_DSN_FILE", str(path))
    settings = Settings(data_dir=tmp_path)
    shown = asyncio.run(report.examine(settings, "settings"))
    assert {finding.level for finding in shown} == {"ok"}
    path.chmod(0o604)
    *_, found = asyncio.run(report.examine(settings, "settings"))
    assert (found.level, found.advice) == ("warn", f"run `chmod 600 {path}`")
    assert found.text == f"TRACKER_POSTGRES_DSN_FILE: other users can read {path}"
