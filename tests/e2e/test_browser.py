"""A real Chromium, from a page that links to an offer to the advertiser's page."""

from __future__ import annotations

import asyncio
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import pytest

from tests.conftest import Furnish
from tests.e2e.browsing import CHROMIUM, needs_chromium
from tests.e2e.running import PATIENCE, Up, clicks_of, up, wait_until
from tracker.processes.engines.engine import postgres_dsn
from tracker.store.db import connect

pytestmark = needs_chromium

# Nobody drives this browser: DevTools change how it looks ahead.
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",  # else it shows one page and ends
    "--host-resolver-rules=MAP *.test 127.0.0.1",
]

LANDING = "<!doctype html><title>Arrived</title><h1>Welcome</h1><img src=/shown alt=''>"
# The publisher's page follows its link once the test has seen a prefetch.
PUBLISHER = """<!doctype html><title>Publisher</title>{ahead}
<script>
const timer = setInterval(async () => {{
  if ((await fetch("/may-go")).status === 200) {{ clearInterval(timer); location.href = "{link}" }}
}}, 50)
</script>"""
AHEAD = {
    "link": '<link rel=prefetch href="{link}">',
    "prefetch rule": '<script type=speculationrules>{{"prefetch": [{rule}]}}</script>',
    "prerender rule": '<script type=speculationrules>{{"prerender": [{rule}]}}</script>',
}
RULE = '{{"source": "list", "urls": ["{link}"], "eagerness": "immediate"}}'


class Site:
    """A publisher's and an advertiser's pages, on one local port."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.publisher = ""
        self.may_go = threading.Event()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.address = f"http://127.0.0.1:{self.server.server_port}"

    @property
    def landings(self) -> list[str]:
        return [target for target in self.asked if target.startswith("/land")]

    def answer(self, target: str) -> tuple[int, str]:
        if target == "/publisher":
            return 200, self.publisher
        if target == "/may-go":
            return (200 if self.may_go.is_set() else 404), ""
        return (200, LANDING) if target.startswith("/land") else (404, "")

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.asked.append(self.path)
                status, text = site.answer(self.path)
                self.send_response(status)
                self.send_header("Content-Type", "text/html")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_: Any) -> None:
                pass

        return Handler


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    serving = threading.Thread(target=site.server.serve_forever)
    serving.start()
    yield site
    site.server.shutdown()
    serving.join()
    site.server.server_close()


@pytest.fixture(scope="module")
def tracker(furnish: Furnish, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with up(furnish(tmp_path_factory.mktemp("browser") / "var")) as running:
        yield running


@pytest.fixture
def link(tracker: Up, site: Site) -> str:
    """A tracking link of an offer that leads to the site."""
    template = (
        f"{site.address}/land?click={{hash}}&aff={{affiliate_id}}&sub={{aff_sub}}"
        "&os={device_os}&b={browser}"
    )
    asyncio.run(point_offer_at(tracker, template))
    wait_until(lambda: tracker.head_location("/offer/4?affiliate_id=503").startswith(site.address))
    return f"http://127.0.0.1:{tracker.port}/offer/4?affiliate_id=503"


async def point_offer_at(tracker: Up, template: str) -> None:
    connection = await connect(postgres_dsn(tracker.data_dir))
    await connection.execute("UPDATE offer_url SET url = $1 WHERE offer_id = 4", template)
    await connection.close()


@contextmanager
def browsing(address: str, profile: Path, agent: str | None = None) -> Iterator[None]:
    """A Chromium that shows an address, until the block ends."""
    assert CHROMIUM
    own = [f"--user-data-dir={profile}", *([f"--user-agent={agent}"] if agent else [])]
    browser = subprocess.Popen(
        [CHROMIUM, *FLAGS, *own, address], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        browser.terminate()
        browser.wait(PATIENCE)


def agent_of_a_person() -> str:
    """The User-Agent of this Chromium with a window: reduced as Chrome's is, without the word Headless."""
    assert CHROMIUM
    told = subprocess.run([CHROMIUM, "--version"], capture_output=True, text=True, timeout=60, check=True)
    major = re.search(r"\d+", told.stdout)[0]  # type: ignore[index]
    system = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)"
    return f"{system} Chrome/{major}.0.0.0 Safari/537.36"


def looks_ahead(tracker: Up) -> float:
    """The number of prefetches counted by the edge."""
    _, body = tracker.get("/metrics", tracker.metrics_port)
    text = body.decode()
    return sum(map(float, re.findall(r"(?m)^tracker_speculative_requests_total\S* (\S+)$", text)))


def test_browser_arrives_at_the_advertiser_with_the_macros_filled(
    tracker: Up, site: Site, link: str, tmp_path: Path
) -> None:
    agent = agent_of_a_person()
    link += "&aff_sub=a%20b%26c&source=plain"
    with browsing(link, tmp_path, agent):
        wait_until(lambda: "/shown" in site.asked)
    (landing,) = site.landings
    told = {name: values[0] for name, values in parse_qs(urlsplit(landing).query).items()}
    (click,) = clicks_of(tracker, "affiliate_source=plain", 1)
    assert told == {
        "click": click["hash"],
        "aff": "503",
        "sub": "a b&c",
        "os": click["device_os"],
        "b": click["browser"],
    }
    assert click["redirected_link"] == site.address + landing
    assert (click["requested_link"], click["user_agent"]) == (link, agent)
    # The values of its reduced User-Agent and of the hints it sends by default.
    assert (click["device_os"], click["device_os_version"], click["device_model"]) == ("Linux", "UNK", "")
    assert (click["fetch_dest"], click["device_type"], click["is_unique"]) == ("document", "desktop", True)
    assert (click["is_bot"], click["bot_reason"]) == (False, None)


@pytest.mark.parametrize("kind", AHEAD)
def test_prefetched_link_is_counted_once_when_followed(
    tracker: Up, site: Site, link: str, tmp_path: Path, kind: str
) -> None:
    name = kind.replace(" ", "-")
    link += f"&source={name}&gaid={uuid4()}"  # a visitor of its own
    site.publisher = PUBLISHER.format(
        ahead=AHEAD[kind].format(link=link, rule=RULE.format(link=link)), link=link
    )
    before = looks_ahead(tracker)
    with browsing(f"{site.address}/publisher", tmp_path, agent_of_a_person()):
        wait_until(lambda: looks_ahead(tracker) > before)
        assert site.landings == [], "who looks ahead is sent nowhere"
        site.may_go.set()
        wait_until(lambda: "/shown" in site.asked)
    (landing,) = site.landings
    (click,) = clicks_of(tracker, f"affiliate_source={name}", 1)
    assert click["redirected_link"] == site.address + landing
    assert (click["referrer"], click["fetch_dest"]) == (f"{site.address}/", "document")
    assert click["is_unique"], "looking ahead uses nothing up"


def test_headless_browser_is_redirected_and_marked_as_a_bot(
    tracker: Up, site: Site, link: str, tmp_path: Path
) -> None:
    with browsing(f"{link}&source=headless", tmp_path):
        wait_until(lambda: "/shown" in site.asked)
    (click,) = clicks_of(tracker, "affiliate_source=headless", 1)
    assert "HeadlessChrome/" in click["user_agent"]
    assert (click["status"], click["is_bot"], click["is_unique"]) == ("accepted", True, False)
    assert "headless" in click["bot_reason"].lower()
