from tracker.edge.metrics import Metrics


def counters(metrics: Metrics) -> list[str]:
    return [line for line in metrics.text().splitlines() if not line.startswith("#")]


def test_counters_of_the_same_labels_are_added_up():
    metrics = Metrics(1)
    metrics.plain_clicks += 2
    metrics.count("clicks_recorded", 'status="accepted",reason="0"')  # a bot's
    assert counters(metrics) == [
        'tracker_clicks_recorded_total{edge="1",status="accepted",reason="0"} 3',
    ]
    assert counters(metrics) == counters(metrics), "being asked changes nothing"


def test_count_of_zero_is_reported():
    metrics = Metrics(0)
    metrics.set("clicks_spooled", 0)
    assert counters(metrics) == ['tracker_clicks_spooled_total{edge="0"} 0']
