"""A rehearsal: nginx in front of the tracker of today, with a copy of each request for this one."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.conftest import Furnish
from tests.e2e.proxies import REHEARSAL, VISITOR, program_of, proxy_of
from tests.e2e.running import Up, clicks_of, command, up

HOST = "go.example"
BROWSER = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"}


class Today(BaseHTTPRequestHandler):
    """The tracker of today, which knows nothing of the rehearsal."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(302)
        self.send_header("Location", "https://today.test/")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def today() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Today)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def tracker(furnish: Furnish, tmp_path: Path) -> Iterator[Up]:
    with up(furnish(tmp_path / "var"), TRACKER_TRUSTED_PROXIES="127.0.0.1") as running:
        yield running


@pytest.mark.skipif(program_of("nginx") is None, reason="no nginx on this machine")
def test_rehearsal_gets_every_click_and_no_visitor_notices(tracker: Up, today: int, tmp_path: Path) -> None:
    command(tracker, "hold-sending")
    at = tmp_path / "nginx"
    at.mkdir()
    with proxy_of(REHEARSAL, tracker, at, today=today) as proxy:

        def visit(sub: str) -> str | None:
            path = f"/offer/3?affiliate_id=513&aff_sub={sub}"
            response, _ = proxy.get(HOST, path, **BROWSER)
            assert response.status == 302
            return response.getheader("Location")

        assert visit("first") == "https://today.test/"
        (click,) = clicks_of(tracker, "aff_sub=first", 1)
        assert click["ip"] == VISITOR
        assert click["requested_link"] == f"http://{HOST}/offer/3?affiliate_id=513&aff_sub=first"
        tracker.end()
        assert visit("second") == "https://today.test/"
