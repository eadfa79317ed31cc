"""Pages: where a sign-in may lead, and how a session names its browser."""

from __future__ import annotations

import pytest

from tracker.dashboard.page import page_of
from tracker.dashboard.people.open_sessions import browser_of

OURS = (
    "/dashboard/",
    "/dashboard/sessions",
    "/dashboard/reports?from=2026-01-01&sort=-clicks",
    "/dashboard/a/b?",
)
FOREIGN = (
    "",
    "/",
    "/dashboard",
    "//evil.test/dashboard/",
    "https://evil.test/dashboard/",
    "/dashboard//evil.test",
    "/dashboard/../../evil",
    "/dashboard/\\evil.test",
    "/\\evil.test/dashboard/",
    "/dashboard/\r\nSet-Cookie: a=b",
    "/dashboard/\n",
    "/dashboard/sessions#x",
    "/dashboard/?next=https://evil.test",
    "javascript:alert(1)",
    " /dashboard/",
    "/dashboard/é",
    "/dashboard/" + "a" * 2_000,
)


@pytest.mark.parametrize("address", OURS)
def test_page_of_ours_is_led_to(address: str) -> None:
    assert page_of(address) == address


@pytest.mark.parametrize("address", FOREIGN)
def test_other_addresses_are_not_led_to(address: str) -> None:
    assert page_of(address) == ""


AGENTS = {
    "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0": "Firefox on Linux",
    "Mozilla/5.0 (Windows NT 10.0) Chrome/131.0 Safari/537.36 Edg/131.0": "Edge on Windows",
    "Mozilla/5.0 (Linux; Android 15) Chrome/131.0 Mobile Safari/537.36": "Chrome on Android",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Version/18.0 Safari/604.1": "Safari on iPhone",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) Version/18.0 Safari/605.1": "Safari on Mac",
    "curl/8.0": "A browser",
    "": "A browser",
}


@pytest.mark.parametrize("agent", AGENTS)
def test_browser_of_a_session_is_named_in_few_words(agent: str) -> None:
    assert browser_of(agent) == AGENTS[agent]
