"""Prometheus metrics of one server, in a registry of their own. Knows names and labels, nothing of HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from math import inf
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from toolkit.seal.validity import Standing, State
from toolkit.serving.batching import Observer
from toolkit.serving.models import ServedModel

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64)
_BUNDLE = ("bundle", "version")


class Metrics:
    """What an operator watches. What a version does bears its bundle's id and version; of what no version answered,
    such as a request without a key, both are empty."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._requests = Counter(
            "toolkit_requests", "Requests answered.", (*_BUNDLE, "route", "status"), registry=registry
        )
        self._duration = Histogram(
            "toolkit_request_seconds", "Request to answer.", (*_BUNDLE, "route"), buckets=_SECONDS, registry=registry
        )
        self._verdicts = Counter("toolkit_verdicts", "Answers by class.", (*_BUNDLE, "verdict"), registry=registry)
        self._batch_rows = Histogram(
            "toolkit_batch_rows", "Inputs run together.", _BUNDLE, buckets=_ROWS, registry=registry
        )
        self._inference = Histogram(
            "toolkit_inference_seconds", "One batch through the model.", _BUNDLE, buckets=_SECONDS, registry=registry
        )
        self._inside = Gauge("toolkit_requests_in_progress", "Requests taken in.", registry=registry)
        self._queue = Gauge("toolkit_queue_depth", "Inputs waiting for the model.", _BUNDLE, registry=registry)
        self._model = Gauge(
            "toolkit_model", "The model served: always 1.", (*_BUNDLE, "form", "provider"), registry=registry
        )
        self._standing = Gauge(
            "toolkit_grant_state", "How the grant of what is served stands: 1 at its state.", (*_BUNDLE, "state"),
            registry=registry,
        )  # fmt: skip
        self._left = Gauge(
            "toolkit_grant_seconds_left", "Until the grant ends, its grace included; +Inf without an end.", _BUNDLE,
            registry=registry,
        )  # fmt: skip

    def answered(
        self, model: ServedModel | None, route: str, status: int, seconds: float, verdicts: Iterable[str]
    ) -> None:
        """One request is done; `verdicts` are the classes its answer names."""
        bundle = (model.facts.id, model.facts.version) if model else ("", "")
        self._requests.labels(*bundle, route, str(status)).inc()
        self._duration.labels(*bundle, route).observe(seconds)
        for verdict in verdicts:
            self._verdicts.labels(*bundle, verdict).inc()

    def batches(self, bundle: str, version: str) -> Observer:
        """What is told of each batch that goes through the model of this version."""
        rows, inference = self._batch_rows.labels(bundle, version), self._inference.labels(bundle, version)

        def ran(count: int, seconds: float) -> None:
            rows.observe(count)
            inference.observe(seconds)

        return ran

    def taken_in(self, inside: Callable[[], int]) -> None:
        """Where to read the requests in progress when somebody asks."""
        self._inside.set_function(inside)

    def serve(self, model: ServedModel) -> None:
        """From now on the version shows its queue's depth and its grant's standing when somebody asks."""
        bundle, queue, standing = (model.facts.id, model.facts.version), model.queue, model.standing
        self._model.labels(*bundle, queue.facts.form, queue.facts.provider).set(1)
        self._queue.labels(*bundle).set_function(lambda: queue.waiting)
        self._left.labels(*bundle).set_function(lambda: inf if (left := standing().seconds_left) is None else left)
        for state in get_args(State):
            self._standing.labels(*bundle, state).set_function(partial(_is, standing, state))

    def forget(self, model: ServedModel) -> None:
        """The version is gone; what it did stays counted."""
        bundle, running = (model.facts.id, model.facts.version), model.queue.facts
        self._model.remove(*bundle, running.form, running.provider)
        self._queue.remove(*bundle)
        self._left.remove(*bundle)
        for state in get_args(State):
            self._standing.remove(*bundle, state)

    def render(self) -> bytes:
        """The exposition format, as `content_type` says."""
        return generate_latest(self._registry)


def _is(standing: Callable[[], Standing], state: State) -> float:
    return float(standing().state == state)
