"""The figures of several processes as those of one server. Knows the exposition format, not what a figure means."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

_ADDED_GAUGES = frozenset({
    "toolkit_queue_depth", "toolkit_requests_in_progress", "process_virtual_memory_bytes",
    "process_resident_memory_bytes", "process_open_fds",
})  # fmt: skip
"""Gauges of what each process has for itself. Of others the largest counts: all processes say the same, or nearly."""


def gathered(texts: Iterable[str], *, counted_only: bool = False) -> bytes:
    """One exposition of several: what is counted is added up.

    Args:
        counted_only: leave gauges out, as is right for processes that are gone.
    """
    registry = CollectorRegistry()
    registry.register(_Merged(texts, counted_only))
    return generate_latest(registry)


class _Merged(Collector):
    def __init__(self, texts: Iterable[str], counted_only: bool) -> None:
        self._families: dict[str, Metric] = {}
        self._values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
        for text in texts:
            for family in text_string_to_metric_families(text):
                if not (counted_only and family.type not in ("counter", "histogram")):
                    self._add(family)

    def _add(self, family: Metric) -> None:
        self._families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
        values = self._values.setdefault(family.name, {})
        for sample in family.samples:
            key = sample.name, tuple(sorted(sample.labels.items()))
            if key not in values:
                values[key] = sample.value
            elif sample.name.endswith("_created") or family.name == "process_start_time_seconds":
                values[key] = min(values[key], sample.value)
            elif family.type == "gauge" and family.name not in _ADDED_GAUGES:
                values[key] = max(values[key], sample.value)
            else:
                values[key] += sample.value

    def collect(self) -> Iterator[Metric]:
        for name, family in self._families.items():
            merged = Metric(family.name, family.documentation, family.type)
            for (sample, labels), value in self._values[name].items():
                merged.add_sample(sample, dict(labels), value)
            yield merged
