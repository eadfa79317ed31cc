"""What processes count and measure, and how it is shown."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.metrics_client import of_edge
from tracker.edge.metrics import Metrics
from tracker.metrics.exposition import Exposition
from tracker.metrics.families import FAMILIES
from tracker.metrics.histogram import Histogram


def counters(metrics: Metrics) -> list[str]:
    """The lines of counters."""
    return [line for line in of_edge(metrics).splitlines() if "_total{" in line]


def test_counters_of_the_same_labels_are_added_up() -> None:
    metrics = Metrics(1)
    metrics.plain_clicks += 2
    metrics.count("clicks_recorded", 'status="accepted",reason="0"')  # a bot's
    assert counters(metrics) == [
        'tracker_clicks_recorded_total{edge="1",status="accepted",reason="0"} 3',
    ]
    assert counters(metrics) == counters(metrics), "being asked changes nothing"


def test_count_of_zero_is_reported() -> None:
    metrics = Metrics(0)
    metrics.set("clicks_spooled", 0)
    assert counters(metrics) == ['tracker_clicks_spooled_total{edge="0"} 0']


@pytest.mark.parametrize(
    ("values", "buckets", "total"),
    [
        ([], [0, 0, 0, 0], 0),
        ([0.5], [0, 1, 1, 1], 0.5),
        ([0.1], [1, 1, 1, 1], 0.1),  # a bound belongs to its bucket
        ([0.2, 0.2, 9, 99], [0, 2, 3, 4], 108.4),
    ],
)
def test_histogram_counts_up_to_each_bound(values: list[float], buckets: list[int], total: float) -> None:
    histogram = Histogram((0.1, 1.0, 10.0))
    for value in values:
        histogram.observe(value)
    assert [number for _, number in histogram.buckets] == buckets
    assert [name for name, _ in histogram.buckets] == ["0.1", "1.0", "10.0", "+Inf"]
    assert histogram.sum == pytest.approx(total)


def test_value_may_be_counted_several_times() -> None:
    histogram = Histogram((1.0,))
    histogram.observe(0.5, 32)
    assert ([number for _, number in histogram.buckets], histogram.sum) == ([32, 32], 16)


def test_label_with_any_text_is_escaped() -> None:
    shown, name = Exposition(), 'a"b\\c\nd'
    shown.add("tracker_geo_age_seconds", 1, file=name)
    ((sample,),) = [metric.samples for metric in text_string_to_metric_families(shown.text())]
    assert sample.labels == {"file": name}


@pytest.mark.parametrize("labels", [{}, {"edge": 0, "more": 1}, {"other": 0}])
def test_sample_has_the_labels_of_its_family(labels: dict[str, object]) -> None:
    with pytest.raises(AssertionError):
        Exposition().add("tracker_stream_up", 1, **labels)


def test_families_keep_prometheus_rules() -> None:
    for name, family in FAMILIES.items():
        assert name.endswith("_total") == (family.kind == "counter"), name
        assert name.startswith(("tracker_", "process_")), name
        assert bool(family.buckets) == (family.kind == "histogram"), name
        assert [*family.buckets] == sorted(family.buckets), name
        assert f"{name}_total" not in FAMILIES, name
