from itertools import islice

import pytest

from loadtests.bench import _refuse_noise, _verdict, read_wrk
from loadtests.load_generator import requests
from loadtests.subjects import CannotMeasure, write_requests

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
    assert list(islice(requests(path, 255), 3)) == [b"a 256 24.0.1.0", b"b 257 24.0.1.1", b"a 258 24.0.1.2"]


def test_requests_without_placeholders_are_repeated(tmp_path):
    path = tmp_path / "requests"
    path.write_bytes(b"a\x1eb")
    assert list(islice(requests(path, 0), 3)) == [b"a", b"b", b"a"]


@pytest.mark.parametrize(
    ("ratios", "word"),
    [
        ([1.4, 1.5, 1.6], "pass"),
        ([1.4, 1.5, 1.7], "pass (within the spread)"),
        ([1.5, 1.7, 1.8], "OVER (within the spread)"),
        ([1.7, 1.8, 1.9], "OVER"),
    ],
)
def test_bench_verdicts(ratios, word):
    assert _verdict("edge", ratios, 1.6).endswith(f"1.60 {word}")


@pytest.mark.parametrize(("cpu", "refused"), [([16, 17, 19], False), ([16, 17, 25], True)])
def test_noisy_machine_is_refused(cpu, refused):
    ratios = [each / 10 for each in cpu]
    if refused:
        with pytest.raises(CannotMeasure, match="too noisy"):
            _refuse_noise(ratios)
    else:
        _refuse_noise(ratios)


@pytest.mark.parametrize(("is_browser", "headers"), [(False, 5), (True, 17)])
def test_requests_have_the_headers_of_their_kind(tmp_path, is_browser, headers):
    path = write_requests(tmp_path / "requests", (1,), (501,), browser=is_browser)
    for request in islice(requests(path, 0), 5):
        head, end, body = request.partition(b"\r\n\r\n")
        names = [line.partition(b":")[0].lower() for line in head.split(b"\r\n")[1:]]
        assert (len(set(names)), len(names), end, body) == (headers, headers, b"\r\n\r\n", b"")
