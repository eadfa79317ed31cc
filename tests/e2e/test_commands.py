"""The commands beside `tracker up`: on the engines that it runs, and without them."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from tests.conftest import Furnish
from tests.e2e.running import Up, up, wait_until
from tests.environ import clean_environ
from tracker import cli
from tracker.domain.test_links import is_valid
from tracker.edge.read.link import read_link
from tracker.errors import CannotStartError
from tracker.processes.engines.engine import postgres_dsn
from tracker.release import version
from tracker.store.catalogue.read import visitor_secret


@pytest.fixture(scope="module")
def running(furnish: Furnish, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with up(furnish(tmp_path_factory.mktemp("running") / "var"), "--no-demo") as tracker:
        yield tracker


def tracker(data_dir: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    clean = clean_environ()
    env = clean | {"TRACKER_DATA_DIR": str(data_dir)} | variables
    command = [sys.executable, "-m", "tracker", *words]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("options", "status"),
    [
        (["--scope", "clicks:read"], 200),
        (["--scope", "offers:read", "--scope", "admin", "--name", "all", "--expires-in", "7"], 200),
        (["--scope", "reports:read"], 403),
    ],
)
def test_token_is_printed_alone_and_works(running: Up, options: list[str], status: int) -> None:
    done = tracker(running.data_dir, "token", "create", *options)
    assert (done.returncode, done.stderr) == (0, "")
    bearer = f"Bearer {done.stdout.removesuffix(chr(10))}"
    path = "/backend/open-api/v1/users/clicks"
    response, _ = running.get(path, running.api_port, Authorization=bearer)
    assert response.status == status


def test_health_asks_the_processes_of_the_data_directory(running: Up, tmp_path: Path) -> None:
    api = f"api-{running.api_port}"
    done = tracker(running.data_dir, "health")
    assert (done.returncode, done.stdout.split("\n")) == (
        0,
        [f"{name} answers" for name in (api, "edge-0", "worker-0")] + [""],
    )
    done = tracker(running.data_dir, "health", "worker-0", "edge-7")
    assert (done.returncode, done.stdout) == (1, "worker-0 answers\nedge-7 does not answer\n")
    assert tracker(running.data_dir, "health", "../x").returncode == 2
    done = tracker(tmp_path, "health")
    assert (done.returncode, done.stderr) == (1, f"tracker: no process runs in {tmp_path.resolve()}\n")


def test_catalogue_is_filled_on_the_command_line(running: Up) -> None:
    def made(*words: str) -> Any:
        done = tracker(running.data_dir, *words, "--json")
        other = [line for line in done.stderr.splitlines() if not line.startswith("tracker: warning: ")]
        assert (done.returncode, other) == (0, [])
        return json.loads(done.stdout)

    advertiser = made("advertisers", "add", "name=PlayGames")["id"]
    offer = made("offers", "add", "name=Puzzle Quest", f"advertiser_id={advertiser}")["id"]
    made("offer-urls", "add", str(offer), "url=https://ad.example/{hash}")
    affiliate = made("affiliates", "add", "name=John Doe")["id"]
    path = f"/offer/{offer}?affiliate_id={affiliate}"
    wait_until(lambda: running.get(path)[0].status == 302)
    made("offers", "rm", str(offer))
    wait_until(lambda: running.get(path)[0].status == 404)


_NETWORK = """
INSERT INTO advertiser (id, name) VALUES (901, 'A');
INSERT INTO offer (id, name, advertiser_id, brand_id) VALUES (901, 'O', 901, 1), (902, 'P', 901, NULL);
INSERT INTO offer_url (id, offer_id, url) VALUES (901, 901, 'https://x.test/?c={hash}');
INSERT INTO affiliate (id, name) VALUES (901, 'own host'), (902, 'none');
"""
_HOSTS = """
INSERT INTO tracking_host (host, status, brand_id, affiliate_id, scheme) VALUES
    ('burned.test', 'burned', NULL, NULL, 'https'), ('b.test', 'active', NULL, NULL, 'http'),
    ('c.test', 'active', NULL, NULL, 'https'), ('brand.test', 'active', 1, NULL, 'https'),
    ('other.test', 'active', 2, NULL, 'https'), ('own.test', 'active', NULL, 901, 'https')
"""


def in_database(running: Up, use: Callable[[asyncpg.Connection], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        connection = await asyncpg.connect(postgres_dsn(running.data_dir))
        try:
            return await use(connection)
        finally:
            await connection.close()

    return asyncio.run(run())


@pytest.fixture(scope="module")
def network(running: Up) -> Up:
    in_database(running, lambda connection: connection.execute(_NETWORK))
    return running


def link(network: Up, *words: str) -> str:
    done = tracker(network.data_dir, "link", *words, TRACKER_PORT=str(network.port))
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_link_is_printed_alone_with_the_host_that_is_its_own(network: Up) -> None:
    own = f"http://127.0.0.1:{network.port}/offer/901?affiliate_id=902"
    assert link(network, "901", "902") == f"{own}\n"
    assert link(network, "901", "902", "--url-id", "901") == f"{own}&url_id=901\n"
    in_database(network, lambda connection: connection.execute(_HOSTS))
    assert link(network, "901", "901") == "https://own.test/offer/901?affiliate_id=901\n"
    assert link(network, "901", "902") == "https://brand.test/offer/901?affiliate_id=902\n"
    assert link(network, "902", "902") == "http://b.test/offer/902?affiliate_id=902\n"
    burn = "UPDATE tracking_host SET status = 'burned' WHERE host = 'b.test'"
    in_database(network, lambda connection: connection.execute(burn))
    assert link(network, "902", "902") == "https://c.test/offer/902?affiliate_id=902\n"


def test_test_link_is_signed_until_it_expires(network: Up) -> None:
    made = json.loads(link(network, "901", "902", "--test", "--valid-hours", "2", "--json"))
    said = read_link("/offer/901", urlsplit(made["link"]).query.encode())
    until = datetime.fromisoformat(made["test_until"])
    assert timedelta(hours=1.9) < until - datetime.now(UTC) <= timedelta(hours=2)
    secret = in_database(network, visitor_secret)
    assert is_valid(secret, said, int(until.timestamp() * 1000) - 1)
    assert not is_valid(secret, said, int(until.timestamp() * 1000))


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["999", "901"], "there is no offer 999"),
        (["901", "999"], "there is no affiliate 999"),
        (["902", "901", "--url-id", "901"], "offer 902 has no URL 901"),
    ],
)
def test_link_that_would_lead_nowhere_is_not_made(network: Up, words: list[str], complaint: str) -> None:
    done = tracker(network.data_dir, "link", *words)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"tracker: {complaint}\n")


def test_exports_are_imported_again(network: Up, tmp_path: Path) -> None:
    catalogue, clicks = tmp_path / "network.yaml", tmp_path / "clicks.ndjson"
    done = tracker(network.data_dir, "export", "catalogue", "--with-archived", str(catalogue))
    assert (done.returncode, done.stderr) == (0, "")
    again = tracker(network.data_dir, "import", "catalogue", str(catalogue))
    assert again.stdout == f"0 created, 0 changed, {done.stdout.split()[0]} left as they are\n"
    written = tracker(network.data_dir, "export", "clicks", str(clicks)).stdout
    assert written == f"{clicks}: {len(clicks.read_text().splitlines())} clicks\n"
    piped = tracker(network.data_dir, "export", "catalogue", "--with-archived", "-")
    assert piped.stdout == catalogue.read_text()


def test_migrate_prints_its_steps(running: Up) -> None:
    assert tracker(running.data_dir, "migrate").stdout == "nothing to do\n"
    assert json.loads(tracker(running.data_dir, "migrate", "--json").stdout) == {"applied": []}


def test_doctor_finds_the_embedded_engines_sound(running: Up) -> None:
    done = tracker(running.data_dir, "doctor", "--json")
    findings = json.loads(done.stdout)
    assert done.returncode == 0, findings
    assert {finding["topic"] for finding in findings} == {
        "form",
        "engines",
        "durability",
        "catalogue",
        "affiliates",
        "webhooks",
        "retention",
        "standby",
        "alerts",
        "ledger",
        "formats",
        "postbacks",
        "tokens",
        "users",
        "settings",
        "geo",
        "disk",
        "backup",
        "clock",
    }
    assert [finding["text"] for finding in findings if "level in force: always" in finding["text"]]


@pytest.mark.parametrize(
    ("variables", "topic", "code", "expected"),
    [
        ({"TRACKER_GEOIP_DB": ""}, "geo", 0, "warn  geo         no database"),
        ({"TRACKER_GEOIP_DB": "/nowhere.mmdb"}, "geo", 1, "fail  geo         /nowhere.mmdb: "),
        (
            {"TRACKER_POSTGRES_DSN": "postgresql://u:secret@127.0.0.1:1/x"},
            "engines",
            1,
            "u:***@127.0.0.1:1/x cannot",
        ),
        ({"TRACKER_REDIS_URL": "redis://:secret@127.0.0.1:1"}, "durability", 1, "fail  durability  unknown"),
        (
            {"TRACKER_REDIS_URL": "redis://:secret@127.0.0.1:1"},
            "settings",
            0,
            "TRACKER_REDIS_URL = redis://:***@127.0.0.1:1",
        ),
    ],
)
def test_doctor_names_faults(
    running: Up, variables: dict[str, str], topic: str, code: int, expected: str
) -> None:
    done = tracker(running.data_dir, "doctor", "--only", topic, **variables)
    assert done.returncode == code
    assert expected in done.stdout
    assert "secret" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (["token", "create", "--scope", "clicks:read"], 1, "tracker: PostgreSQL cannot be reached"),
        (["migrate"], 1, "tracker: PostgreSQL cannot be reached"),
        (["edge", "--fd", "999"], 1, "tracker: --fd: 999 is not an open socket"),
    ],
)
def test_error_is_one_line(tmp_path: Path, words: list[str], code: int, line: str) -> None:
    done = tracker(tmp_path, *words)
    assert done.returncode == code
    assert done.stderr.startswith(line)
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("TRACKER_DATA_DIR", "~no-such-user/x"),
        ("TRACKER_REDIS_URL", "redis://h:bad"),
        ("TRACKER_TIME_ZONE", "America"),
    ],
)
def test_variable_that_is_wrong_is_one_line(tmp_path: Path, variable: str, value: str) -> None:
    done = tracker(tmp_path, "doctor", **{variable: value})
    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr.startswith(f"tracker: {variable}: ")
    assert done.stderr.count("\n") == 1


TOKEN = ["token", "create", "--scope", "clicks:read"]


@pytest.mark.parametrize(
    ("words", "database", "line"),
    [
        (
            TOKEN,
            "postgres",
            'tracker: PostgreSQL refuses: relation "token" does not exist. Has `tracker migrate`',
        ),
        (TOKEN, "nowhere", 'tracker: PostgreSQL refuses: database "nowhere" does not exist'),
        (["migrate"], "nowhere", 'tracker: PostgreSQL refuses: database "nowhere" does not exist'),
    ],
)
def test_refusal_of_postgres_is_one_line(running: Up, words: list[str], database: str, line: str) -> None:
    dsn = urlsplit(postgres_dsn(running.data_dir))._replace(path=f"/{database}").geturl()
    done = tracker(running.data_dir, *words, TRACKER_POSTGRES_DSN=dsn)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(line)
    assert done.stderr.count("\n") == 1


def test_server_that_is_not_there_is_named_by_its_variable(tmp_path: Path) -> None:
    done = tracker(tmp_path, "migrate", TRACKER_POSTGRES_DSN="postgresql://u:secret@127.0.0.1:1/x")
    assert done.returncode == 1
    assert "Is TRACKER_POSTGRES_DSN right" in done.stderr
    assert "secret" not in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (CannotStartError("no"), "tracker: no\n"),
        (OSError("gone"), "tracker: PostgreSQL cannot be reached (gone). "),
        (asyncpg.InvalidPasswordError("wrong password"), "tracker: PostgreSQL refuses: wrong password. "),
    ],
)
def test_error_in_a_task_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, line: str
) -> None:
    async def fail(*_: object) -> None:
        raise ExceptionGroup("tasks", [ExceptionGroup("more", [error]), ValueError("later")])

    monkeypatch.setattr("workers.worker.run", fail)
    assert cli.main(["worker"]) == 1
    said = capsys.readouterr().err
    assert said.startswith(line)
    assert said.count("\n") == 1


def test_own_fault_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object) -> None:
        raise ExceptionGroup("tasks", [ZeroDivisionError()])

    monkeypatch.setattr("workers.worker.run", fail)
    with pytest.raises(ExceptionGroup, match="tasks"):
        cli.main(["worker"])


def test_server_log_lines_have_our_format(running: Up) -> None:
    before = running.output
    assert "uvicorn" not in before
    with socket.create_connection(("127.0.0.1", running.port)) as connection:
        connection.sendall(b"no request\r\n\r\n")
        connection.recv(1)
    wait_until(
        lambda: "] WARNING tracker.edge.http.bounds: refused a request that is not HTTP" in running.output
    )


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--version"], f"tracker {version()}\n"),
        (["--help"], "78  a TRACKER_… variable is wrong"),
        (["edge", "--help"], "Each edge needs a --slot of its own"),
        (["worker", "--help"], "Each worker needs a --slot of its own"),
        (["edge", "--help"], "TRACKER_REDIS_URL and TRACKER_POSTGRES_DSN"),
        (["api", "--help"], "TRACKER_REDIS_URL and TRACKER_POSTGRES_DSN"),
        (["worker", "--help"], "TRACKER_REDIS_URL and TRACKER_POSTGRES_DSN"),
        (["backup", "--help"], "DIR appears when the backup is complete"),
        (["restore", "--help"], "nothing is ever overwritten"),
        (["conversions", "--help"], "tracker conversions status=pending affiliate_id=513"),
        (["conversions", "--help"], "advertiser_external_id"),
        (["reports", "--help"], "tracker reports --group-by offer --from 2026-11-01"),
        (["status-upload", "--help"], "order_id,status,sale_status"),
        (["period-close", "--help"], "A close is final"),
        (["offers", "list", "--help"], "only rows with this text in name, external_id"),
        (["goals", "add", "--help"], "a payout in a postback replaces that of the goal"),
    ],
)
def test_command_line_explains_itself(
    capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    with pytest.raises(SystemExit, match=r"^0$"):
        cli.main(words)
    said = capsys.readouterr().out
    assert told in said or told in " ".join(said.split())


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "required: COMMAND"),
        (["token", "create"], "required: --scope"),
        (["token", "create", "--scope", "clicks"], "invalid choice: 'clicks'"),
        (["token", "create", "--scope", "admin", "--expires-in", "0"], "whole number from 1 to 36500"),
        (["link", "3"], "required: AFFILIATE"),
        (["link", "0", "513"], "whole number from 1 to 999999999999999999"),
        (["link", "3", "513", "--valid-hours", "9000"], "whole number from 1 to 8760"),
        (["up", "--edges", "0"], "whole number from 1 to 256"),
        (["doctor", "--only", "weather"], "invalid choice: 'weather'"),
    ],
)
def test_wrong_arguments_are_named(tmp_path: Path, words: list[str], complaint: str) -> None:
    done = tracker(tmp_path, *words)
    assert done.returncode == 2
    assert complaint in done.stderr
