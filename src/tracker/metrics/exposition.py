"""Samples in Prometheus' text format 0.0.4, written by prometheus_client. All are of the table."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from tracker.compiled import FORM
from tracker.metrics.families import FAMILIES, PROCESSES
from tracker.metrics.histogram import Histogram
from tracker.release import version

_MARKS = re.compile(r"\[([^]]+)\]\([^)]*\)")  # of a link in Markdown
_OWN = {family.name for family in PROCESSES}


class Exposition:
    """What one process shows."""

    def __init__(self) -> None:
        self._metrics: dict[str, Metric] = {}

    def add(self, name: str, value: float, **labels: object) -> None:
        """Add a sample. Its name and its labels are those of a family."""
        self._family(name).add_metric(_values(name, labels), value)

    def add_histogram(self, name: str, histogram: Histogram, **labels: object) -> None:
        self._family(name).add_metric(_values(name, labels), histogram.buckets, sum_value=histogram.sum)

    def declare(self, *names: str) -> None:
        """Show families that have no sample."""
        for name in names:
            self._family(name)

    def add_process(self, process: str, pid: int | None = None) -> None:
        """Add process_*, by /proc of this process or of another one."""
        collected = ProcessCollector(pid=lambda: pid or os.getpid(), registry=None).collect()
        for sample in [sample for metric in collected for sample in metric.samples]:
            if sample.name in _OWN:
                self.add(sample.name, sample.value, process=process)

    def add_build(self, process: str) -> None:
        python = ".".join(map(str, sys.version_info[:3]))
        form = "compiled" if FORM.is_compiled else "pure"
        self.add("tracker_build_info", 1, process=process, version=version(), python=python, form=form)

    def collect(self) -> Iterator[Metric]:
        yield from self._metrics.values()

    def text(self) -> str:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return generate_latest(registry).decode()

    def _family(self, name: str) -> Any:
        if name not in self._metrics:
            family = FAMILIES[name]
            kinds = {
                "counter": CounterMetricFamily,
                "gauge": GaugeMetricFamily,
                "histogram": HistogramMetricFamily,
            }
            meaning = _MARKS.sub(r"\1", family.meaning).replace("`", "")
            self._metrics[name] = kinds[family.kind](name, meaning, labels=family.labels)
        return self._metrics[name]


def _values(name: str, labels: dict[str, object]) -> list[str]:
    wanted = FAMILIES[name].labels
    assert labels.keys() == {*wanted}, (name, labels)
    return [str(labels[label]) for label in wanted]
