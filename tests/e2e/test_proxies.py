"""nginx, HAProxy and Caddy in front of a tracker, as deploy/ configures them."""

from __future__ import annotations

import asyncio
import os
import re
import select
import signal
import socket
import ssl
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse
from itertools import count
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import Furnish
from tests.e2e.proxies import API_HOST, PROXIES, VISITOR, Proxy, program_of, proxy_of
from tests.e2e.running import PATIENCE, Up, clicks_of, command, free_port, up, wait_until
from tests.environ import clean_environ
from tracker import metrics_socket
from tracker.processes.engines.engine import resolve
from tracker.settings import Settings

HOST = "go.example"
LINK = "/offer/3?affiliate_id=513&aff_sub="
CLICKS = "/backend/open-api/v1/users/clicks"
BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[socket.socket]:
    """What a tracker reports to its service manager."""
    with _hearing(tmp_path_factory.mktemp("systemd") / "notify") as hearing:
        yield hearing


@pytest.fixture(scope="module")
def tracker(
    furnish: Furnish, reports: socket.socket, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Up]:
    data_dir = furnish(tmp_path_factory.mktemp("proxies") / "var")
    notify = reports.getsockname()
    with up(data_dir, TRACKER_TRUSTED_PROXIES="127.0.0.1", NOTIFY_SOCKET=notify) as running:
        command(running, "tracking-hosts", "add", f"host={HOST}")
        path = f"/hosts/serves?domain={HOST}"
        wait_until(lambda: running.get(path, running.metrics_port)[0].status == 200)
        yield running


@pytest.fixture(scope="module", params=PROXIES)
def proxy(
    request: pytest.FixtureRequest, tracker: Up, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    if program_of(request.param) is None:
        pytest.skip(f"no {request.param} on this machine")
    with proxy_of(request.param, tracker, tmp_path_factory.mktemp(request.param)) as running:
        yield running


FORGED = {
    "X-Forwarded-For": "203.0.113.9",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Proto": "gopher",
    "Forwarded": "for=203.0.113.9;host=evil.example;proto=gopher",
}


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_click_has_the_visitors_address_scheme_and_host(proxy: Proxy, tracker: Up, tls: bool) -> None:
    link = f"{LINK}{proxy.name}-{tls}"
    response, _ = proxy.get(HOST, link, tls=tls, **{"User-Agent": BROWSER}, **FORGED)
    assert response.status == 302
    (click,) = clicks_of(tracker, f"aff_sub={proxy.name}-{tls}", 1)
    assert (click["ip"], click["host"], click["redirected_link"]) == (
        VISITOR,
        HOST,
        response.headers["location"],
    )
    assert click["requested_link"] == f"http{'s' * tls}://{HOST}{link}"


def test_api_answers_on_its_host_over_tls_alone(proxy: Proxy, tracker: Up) -> None:
    bearer = {"Authorization": f"Bearer {tracker.token}"}
    assert proxy.get(API_HOST, CLICKS, tls=True, **bearer)[0].status == 200
    assert proxy.get(API_HOST, CLICKS, **bearer)[0].status in (404, 308)  # Caddy redirects to https
    assert proxy.get(HOST, CLICKS, tls=True, **bearer)[0].status == 404


def test_metrics_do_not_face_the_internet(proxy: Proxy) -> None:
    for host in (HOST, API_HOST):
        for path in ("/metrics", f"/hosts/serves?domain={HOST}"):
            assert proxy.get(host, path, tls=True)[0].status == 404, (host, path)


def test_caddy_gets_certificates_for_tracking_hosts_alone(tracker: Up, tmp_path: Path) -> None:
    if program_of("caddy") is None:
        pytest.skip("no caddy on this machine")
    with proxy_of("caddy", tracker, tmp_path) as caddy:
        assert caddy.get(HOST, f"{LINK}served", tls=True)[0].status == 302
        for host in ("other.example", f"www.{HOST}"):
            with pytest.raises(ssl.SSLError):
                caddy.get(host, LINK, tls=True)


def test_requests_go_over_connections_that_are_kept(proxy: Proxy, tracker: Up) -> None:
    workers = os.cpu_count() or 1  # of nginx, each with connections of its own
    for port, host in ((tracker.port, HOST), (tracker.api_port, API_HOST)):
        before = _connections(port)
        for _ in range(20 * workers):
            assert proxy.get(host, "/health/live", tls=host == API_HOST)[0].status == 200
        assert len(_connections(port) - before) <= 2 * workers, host


def _connections(port: int) -> set[str]:
    """The remote ends of connections to a local port, including connections just closed."""
    ends = [line.split()[1:3] for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {there for pair in ends for here, there in (pair, pair[::-1]) if here.endswith(f":{port:04X}")}


def test_planned_stop_behind_a_balancer_refuses_nobody(tracker: Up, tmp_path: Path) -> None:
    if program_of("haproxy") is None:
        pytest.skip("no haproxy on this machine")
    with (
        edge_of(tracker, tmp_path / "a", 11, TRACKER_DRAIN_SECONDS="3") as stopped,
        edge_of(tracker, tmp_path / "b", 12) as other,
        balancer_of([stopped.port, other.port], tmp_path) as port,
    ):
        visits = [subprocess.Popen([*VISITS, str(port), LINK], stdout=subprocess.PIPE) for _ in range(2)]
        wait_until(lambda: _answered(tmp_path / "a") > 20)
        stopped.process.terminate()
        assert stopped.process.wait(PATIENCE) == -signal.SIGTERM
        for visit in visits:
            visit.terminate()
        told = Counter(line for visit in visits for line in visit.communicate()[0].split())
    assert told.keys() == {b"302"}, told
    assert told[b"302"] > 40


@pytest.mark.parametrize("role", ["edge", "api"])
def test_server_that_stops_says_so_and_serves_on(tracker: Up, tmp_path: Path, role: str) -> None:
    with edge_of(tracker, tmp_path, 13, role=role, TRACKER_DRAIN_SECONDS="600") as server:
        with closing(HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)) as kept:
            kept.request("GET", "/health/live")
            assert kept.getresponse().read()
            server.process.terminate()
            wait_until(lambda: server.get("/health/ready")[1] == b"stopping\n")
            assert server.get("/health/ready")[0].status == 503
            # A link is answered on the short way through HTTP, all others are not.
            status = {"/health/live": 200} | ({LINK: 302, "/nowhere": 404} if role == "edge" else {})
            for path, expected in status.items():
                answer, _ = server.get(path)
                assert (answer.status, answer.headers.get_all("connection")) == (expected, ["close"]), path
            path = LINK if role == "edge" else "/health/live"
            kept.request("GET", path)
            answer = kept.getresponse()
            assert (answer.status, answer.headers["connection"]) == (status[path], "close")
        assert server.process.poll() is None
        server.process.terminate()
        assert server.process.wait(PATIENCE) == -signal.SIGTERM


@contextmanager
def _hearing(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as hearing:
        hearing.settimeout(PATIENCE)
        hearing.bind(str(path))
        yield hearing


def test_supervisor_is_ready_once_and_its_children_report_nothing(
    tracker: Up, reports: socket.socket
) -> None:
    assert reports.recv(100) == b"READY=1"
    reports.setblocking(False)
    with pytest.raises(BlockingIOError):
        reports.recv(100)


ACTIVATED = 'LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=links exec "$@" 3<&0 0</dev/null'
"""As systemd starts a service with a socket: the socket is file 3."""


def test_restart_on_a_socket_of_systemd_refuses_nobody(tracker: Up, tmp_path: Path) -> None:
    engines = resolve(Settings(data_dir=tracker.data_dir.resolve()))
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as links, _hearing(tmp_path / "n") as reports:
        port = links.getsockname()[1]
        own = {
            "TRACKER_DATA_DIR": str(tmp_path),
            "TRACKER_REDIS_URL": engines.redis_url or "",
            "TRACKER_POSTGRES_DSN": engines.postgres_dsn or "",
            "TRACKER_PORT": str(port),
            "NOTIFY_SOCKET": str(tmp_path / "n"),
            "WATCHDOG_USEC": "300000",
        }
        words = ["/bin/sh", "-c", ACTIVATED, "sh", sys.executable, "-m", "tracker", "edge", "--slot", "14"]

        def start() -> subprocess.Popen[bytes]:
            edge = subprocess.Popen(words, env=clean_environ() | own, stdin=links)
            assert [reports.recv(100), reports.recv(100)] == [b"READY=1", b"WATCHDOG=1"]
            return edge

        edge = start()
        visits = [subprocess.Popen([*VISITS, str(port), LINK], stdout=subprocess.PIPE) for _ in range(2)]
        for _ in range(2):
            assert reports.recv(100) == b"WATCHDOG=1"
            edge.terminate()
            wait_until(lambda: reports.recv(100) == b"STOPPING=1")
            assert edge.wait(PATIENCE) == -signal.SIGTERM
            while select.select([reports], [], [], 0)[0]:
                reports.recv(100)
            edge = start()
        for visit in visits:
            visit.terminate()
        told = Counter(line for visit in visits for line in visit.communicate()[0].split())
        edge.kill()
        edge.wait(PATIENCE)
    assert told.keys() == {b"302"}, told
    assert told[b"302"] > 10


class Server(NamedTuple):
    """A process of its own beside a tracker."""

    process: subprocess.Popen[bytes]
    port: int

    def get(self, path: str) -> tuple[HTTPResponse, bytes]:
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)) as connection:
            connection.request("GET", path)
            response = connection.getresponse()
            return response, response.read()


@contextmanager
def edge_of(tracker: Up, data_dir: Path, slot: int, role: str = "edge", **variables: str) -> Iterator[Server]:
    """An edge or an API on the engines of a tracker, with a socket and a directory of its own."""
    port, engines = free_port(), resolve(Settings(data_dir=tracker.data_dir.resolve()))
    own = {
        "TRACKER_DATA_DIR": str(data_dir),
        "TRACKER_REDIS_URL": engines.redis_url or "",
        "TRACKER_POSTGRES_DSN": engines.postgres_dsn or "",
        "TRACKER_PORT": str(port),
        "TRACKER_API_PORT": str(port + 1),
    }
    words = [role, "--slot", str(slot)] if role == "edge" else [role]
    process = subprocess.Popen(
        [sys.executable, "-m", "tracker", *words], env=clean_environ() | own | variables
    )
    server = Server(process, port if role == "edge" else port + 1)

    def is_ready() -> bool:
        with suppress(ConnectionError):
            return server.get("/health/ready")[0].status == 200
        return False

    try:
        wait_until(is_ready)
        yield server
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(PATIENCE)


VISITS = (
    sys.executable,
    "-c",
    """
import sys
from http.client import HTTPConnection
while True:
    try:
        connection = HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=30)
        connection.request("GET", sys.argv[2])
        print(connection.getresponse().status, flush=True)
        connection.close()
    except OSError as error:
        print(type(error).__name__, flush=True)
""",
)
"""Visits a port, one connection after the other, and prints what each got."""


@contextmanager
def balancer_of(ports: list[int], at: Path) -> Iterator[int]:
    """HAProxy as a plain balancer: it asks each server for its health, and tries no request again."""
    port = free_port()
    servers = "".join(f"    server s{each} 127.0.0.1:{each} check\n" for each in ports)
    at.joinpath("balancer.cfg").write_text(f"""
defaults
    mode http
    retries 0
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    default-server inter 200ms fall 2 rise 1
listen public
    bind 127.0.0.1:{port}
    option httpchk GET /health/ready
{servers}""")
    with subprocess.Popen([program_of("haproxy") or "", "-db", "-f", at / "balancer.cfg"]) as process:
        try:
            wait_until(lambda: _accepts(port))
            yield port
        finally:
            process.terminate()


def _accepts(port: int) -> bool:
    with suppress(ConnectionError):
        socket.create_connection(("127.0.0.1", port), PATIENCE).close()
        return True
    return False


def _answered(data_dir: Path) -> float:
    """The clicks that the edge of a data directory has answered."""
    text = asyncio.run(metrics_socket.ask(data_dir, "edge-*", "metrics"))["edge-11"] or ""
    return sum(map(float, re.findall(r"(?m)^tracker_clicks_recorded_total{.+} (\S+)$", text)))


REQUESTS = {
    "edge: POST of a link": (HOST, "POST /offer/3?affiliate_id=513"),
    "edge: GET of a link": (HOST, "GET /offer/3?affiliate_id=513"),
    "edge: HEAD of a link": (HOST, "HEAD /offer/3?affiliate_id=513"),
    "edge: GET of health": (HOST, "GET /health/live"),
    "edge: PUT of a postback": (HOST, "PUT /postback"),
    "API: POST without a token": (API_HOST, f"POST {CLICKS}"),
}
"""Requests that are answered before their body is read, by host and first words."""


@pytest.mark.parametrize("name", REQUESTS)
def test_body_never_becomes_a_request(proxy: Proxy, tracker: Up, name: str) -> None:
    host, words = REQUESTS[name]
    smuggled = f"{proxy.name}-{list(REQUESTS).index(name)}"
    wrong = []
    for kind, body in _bodies("/docs" if host == API_HOST else f"{LINK}{smuggled}"):
        before = _api_answers(tracker)
        answers = _send(proxy, host, words, body)
        visits = [_visit(proxy, host) for _ in range(2)]
        wrong += [f"{kind}: one request, answers {answers}"] * (len(answers) > 1)
        wrong += [f"{kind}: the next visitor got {visit}" for visit in visits if visit != "its own"]
        if host == API_HOST and _api_answers(tracker) > before + 1 + len(visits):
            wrong.append(f"{kind}: the API answered another request")
    tracker.get(f"{LINK}{smuggled}-end")
    wait_until(lambda: tracker.clicks(f"aff_sub={smuggled}-end"))  # and all that came before it
    wrong += [f"recorded: {click['requested_link']}" for click in tracker.clicks(f"aff_sub={smuggled}")]
    assert wrong == []


def _bodies(target: str) -> list[tuple[str, bytes]]:
    """Bodies with a second request, complete or completed by the next visitor's.

    The tracker once tripled bytes above 7F of a body. The second request of a small one then lay just beyond
    it. A large one serves for any number of tripled bytes: blank lines before a request are skipped.
    """
    whole, unfinished = (
        f"GET {target} HTTP/1.1\r\nHost: {HOST}\r\nX{'Y' * (len(target) % 2)}: {end}".encode()
        for end in ("z\r\n\r\n", "")
    )
    return [
        ("small, whole", _small(whole)),
        ("small, unfinished", _small(unfinished)),
        *((f"{size} bytes, whole", _large(whole, size)) for size in (20_000, 50_000, 100_000)),
        ("100000 bytes, unfinished", _large(unfinished, 100_000)),
        ("JSON in UTF-8", '{"name": "Zoë, Ærø, 東京"}'.encode()),
    ]


def _small(hidden: bytes) -> bytes:
    hidden = b"\n" * (2 - len(hidden) % 2) + hidden
    return b"\xff" * (len(hidden) // 2) + hidden


def _large(hidden: bytes, size: int) -> bytes:
    return b"\xff" * size + b"\n" + b"\r\n" * size + hidden


_body_first: set[tuple[str, str]] = set()
"""Proxies, and hosts behind them, that read a body before they pass its head on, as nginx does."""


def _send(proxy: Proxy, host: str, words: str, body: bytes) -> list[bytes]:
    """The statuses of all answers on a connection. The body is sent after the head is answered."""
    about = ("Content-Type: application/json", f"Content-Length: {len(body)}")
    received = b""
    with proxy.connect(host, tls=host == API_HOST) as connection, suppress(OSError):
        connection.sendall("\r\n".join([f"{words} HTTP/1.1", f"Host: {host}", *about, "\r\n"]).encode())
        if (proxy.name, host) not in _body_first and not select.select([connection], [], [], 0.5)[0]:
            _body_first.add((proxy.name, host))
        connection.sendall(body)
        connection.settimeout(0.2)
        while data := connection.recv(1 << 16):
            received += data
    return re.findall(rb"HTTP/1\.1 (\d+) ", received)


_visitors = count()


def _visit(proxy: Proxy, host: str) -> str:
    """The answer to the next visitor: "its own" or another one."""
    name = f"visitor-{next(_visitors)}"
    path = f"{LINK}{name}" if host == HOST else "/health/live"
    try:
        response, body = proxy.get(host, path, tls=host == API_HOST)
    except (OSError, HTTPException) as error:
        return repr(error)
    answer = response.headers.get("location", body.decode(errors="replace"))
    is_own = answer.endswith(f"&sub={name}") if host == HOST else answer == "alive\n"
    return "its own" if is_own else f"{response.status} {answer[:200]}"


def _api_answers(tracker: Up) -> float:
    _, text = tracker.get("/metrics", tracker.metrics_port)
    return sum(map(float, re.findall(rb"(?m)^tracker_api_answers_total{.+} (\S+)$", text)))
