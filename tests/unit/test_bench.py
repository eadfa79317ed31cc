from itertools import islice

import pytest

from loadtests import budgets, instructions
from loadtests.bench import _refuse_noise, read_wrk
from loadtests.budgets import Budget, judge
from loadtests.load_generator import requests
from loadtests.subjects import CannotMeasure, Kind, write_requests
from tracker.compiled import Form

WRK = """\
Running 2s test @ http://127.0.0.1:8000
  1 threads and 64 connections
  Latency Distribution
     50%    1.01ms
     75%    1.50ms
     90%    2.00ms
     99%  941.00us
  111000 requests in 2.00s, 12.00MB read
{}Requests/sec:  55500.00
"""


def test_output_of_wrk_is_read():
    told = {"requests": 111_000.0, "seconds": 2.0, "p50_ms": 1.01, "p99_ms": 0.941}
    assert read_wrk(WRK.format("")) == pytest.approx(told | {"failed": 0.0})


@pytest.mark.parametrize(
    ("line", "failed"),
    [
        ("  Non-2xx or 3xx responses: 7\n", 7.0),
        ("  Socket errors: connect 1, read 2, write 0, timeout 3\n", 6.0),
    ],
)
def test_failures_of_wrk_count(line, failed):
    assert read_wrk(WRK.format(line))["failed"] == failed


def test_unreadable_output_of_wrk_is_an_error():
    with pytest.raises(CannotMeasure, match="cannot be read"):
        read_wrk("unable to connect")


def test_placeholders_become_new_with_each_request(tmp_path):
    path = tmp_path / "requests"
    path.write_bytes(b"a @N@ @IP@\x1eb @N@ @IP@")
    sent = list(islice(requests(path, 255), 10_000))
    assert [request.split()[:2] for request in sent[:3]] == [[b"a", b"256"], [b"b", b"257"], [b"a", b"258"]]
    addresses = [request.split()[2] for request in sent]
    networks = [address.rpartition(b".")[0] for address in addresses]
    assert (len(set(addresses)), len(set(networks))) == (10_000, 10_000)
    assert {int(address.split(b".")[0]) for address in addresses} == set(range(24, 88))


def test_requests_without_placeholders_are_repeated(tmp_path):
    path = tmp_path / "requests"
    path.write_bytes(b"a\x1eb")
    assert list(islice(requests(path, 0), 3)) == [b"a", b"b", b"a"]


@pytest.mark.parametrize(
    ("figures", "budget", "verdict"),
    [
        ([1.4, 1.5, 1.6], Budget(1.6), "≤ 1.6 ok"),
        ([1.4, 1.5, 1.7], Budget(1.6), "≤ 1.6 ok (within the spread)"),
        ([1.5, 1.7, 1.8], Budget(1.6), "≤ 1.6 OVER (within the spread)"),
        ([1.7, 1.8, 1.9], Budget(1.6), "≤ 1.6 OVER"),
        ([0.4], Budget(0.4, is_floor=True), "≥ 0.4 ok"),
        ([90_000], Budget(100_000, is_floor=True), "≥ 100,000 UNDER"),
        ([1.7], None, "-"),
    ],
)
def test_figures_are_judged_by_their_budget(figures, budget, verdict):
    assert judge(figures, budget) == verdict


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (Form("compiled: 28 modules", is_compiled=True), "the edge runs compiled"),
        (
            Form("pure Python: TRACKER_PURE is 1"),
            "the edge runs pure Python: TRACKER_PURE is 1; budgets are of the compiled form",
        ),
    ],
)
def test_form_of_the_edge_is_told(form, text, monkeypatch):
    monkeypatch.setattr(budgets, "FORM", form)
    assert budgets.describe_form() == text


def test_ratios_of_instructions_are_judged():
    counts = {name: 100.0 for _, over, under, _ in instructions.RATIOS for name in (over, under)}
    lines = instructions.report(counts | {instructions.BIG: 106.0}).splitlines()
    verdicts = {line[:68].strip(): line[68:].split(maxsplit=1) for line in lines[2:]}
    assert verdicts["edge ÷ bare"] == ["1.00", "≤ 1.25 ok"]
    assert verdicts["edge, big catalogue ÷ small one"] == ["1.06", "≤ 1.05 OVER"]
    assert verdicts["Route ÷ bare"] == ["1.00", "-"]


@pytest.mark.parametrize(("cpu", "refused"), [([16, 17, 19], False), ([16, 17, 25], True)])
def test_noisy_machine_is_refused(cpu, refused):
    ratios = [each / 10 for each in cpu]
    if refused:
        with pytest.raises(CannotMeasure, match="too noisy"):
            _refuse_noise(ratios)
    else:
        _refuse_noise(ratios)


@pytest.mark.parametrize(("kind", "headers"), [(Kind.KNOWN, 5), (Kind.NEW, 5), (Kind.BROWSER, 17)])
def test_requests_have_the_headers_of_their_kind(tmp_path, kind, headers):
    path = write_requests(tmp_path / "requests", (1,), (501,), kind)
    for request in islice(requests(path, 0), 5):
        head, end, body = request.partition(b"\r\n\r\n")
        names = [line.partition(b":")[0].lower() for line in head.split(b"\r\n")[1:]]
        assert (len(set(names)), len(names), end, body) == (headers, headers, b"\r\n\r\n", b"")
