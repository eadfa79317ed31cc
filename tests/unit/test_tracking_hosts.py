import pytest

from tracker.edge.catalogue.tracking_hosts import TrackingHosts, plain_host


@pytest.mark.parametrize(
    ("host", "plain"),
    [
        ("go.test", "go.test"),
        ("GO.Test:8443", "go.test"),
        ("go.test.", "go.test"),
        ("go.test:", "go.test"),
        ("go.test.:80", "go.test"),
        ("go.test:http", "go.test:http"),
        ("[2001:DB8::1]:443", "[2001:db8::1]"),
        ("[2001:db8::1]", "[2001:db8::1]"),
        ("", ""),
        (":", ""),
    ],
)
def test_hosts_are_compared_without_case_port_and_final_dot(host: str, plain: str) -> None:
    assert plain_host(host) == plain


@pytest.mark.parametrize(("status", "served"), [("active", True), ("burned", True), ("retired", False)])
def test_live_ads_need_their_certificate_until_the_host_is_retired(status: str, served: bool) -> None:
    hosts = TrackingHosts()
    hosts.put("go.test", {"host": "go.test", "status": "active"})
    hosts.put("go.test", {"host": "go.test", "status": status})
    assert hosts.serves("GO.test") is served


def test_other_hosts_are_not_served() -> None:
    hosts = TrackingHosts()
    hosts.put("go.test", {"host": "go.test", "status": "active"})
    for domain in ("", "test", "a.go.test", "go.test/", "go.test\0", "gö.test", "x" * 8192):
        assert not hosts.serves(domain)
    hosts.put("go.test", None)
    hosts.put("never.was", None)
    assert not hosts.serves("go.test")
