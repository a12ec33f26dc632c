"""Prometheus metrics of one server, in a registry of their own. Knows names and labels, nothing of HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from math import inf
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector

from toolkit.seal.validity import Standing, State
from toolkit.serving.batching import Observer
from toolkit.serving.drift import RANK
from toolkit.serving.models import BundleFacts, ServedModel
from toolkit.serving.week import Weeks
from toolkit.serving.written import TextObserver
from toolkit.text import Usage

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64)
_TOKEN_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.4, 1.0)
_BUNDLE = ("bundle", "version", "product")


class Metrics:
    """What an operator watches. What a version does bears its bundle's id, its version and its product; of what no
    version answered, such as a request without a key, they are empty. Of texts the names are those of vLLM's metrics
    behind `toolkit_`."""

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
        self._first = Histogram(
            "toolkit_time_to_first_token_seconds", "Request to the first piece of its text.", _BUNDLE,
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self._between = Histogram(
            "toolkit_inter_token_latency_seconds", "What a token took, from a piece of a text to the next.", _BUNDLE,
            buckets=_TOKEN_SECONDS, registry=registry,
        )  # fmt: skip
        self._prompt_tokens = Counter("toolkit_prompt_tokens", "Tokens of prompts.", _BUNDLE, registry=registry)
        self._generation_tokens = Counter("toolkit_generation_tokens", "Tokens written.", _BUNDLE, registry=registry)
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

        self._taken_back = Counter(
            "toolkit_versions_taken_back", "Versions that the server took back by itself.", ("bundle",),
            registry=registry,
        )  # fmt: skip

    def answered(
        self, model: ServedModel | None, route: str, status: int, seconds: float, verdicts: Iterable[str]
    ) -> None:
        """One request is done; `verdicts` are the classes its answer names."""
        bundle = _named(model.facts) if model else ("", "", "")
        self._requests.labels(*bundle, route, str(status)).inc()
        self._duration.labels(*bundle, route).observe(seconds)
        for verdict in verdicts:
            self._verdicts.labels(*bundle, verdict).inc()

    def batches(self, facts: BundleFacts) -> Observer:
        """What is told of each batch that goes through the model of this version."""
        rows, inference = self._batch_rows.labels(*_named(facts)), self._inference.labels(*_named(facts))

        def ran(count: int, seconds: float) -> None:
            rows.observe(count)
            inference.observe(seconds)

        return ran

    def texts(self, facts: BundleFacts) -> TextObserver:
        """What is told of each text that this version writes."""
        named = _named(facts)
        return _Texts(self._first, self._between, self._prompt_tokens, self._generation_tokens, named)

    def taken_back(self, bundle: str) -> None:
        """A version did not come to life, or answered with faults."""
        self._taken_back.labels(bundle).inc()

    def taken_in(self, inside: Callable[[], int]) -> None:
        """Where to read the requests in progress when somebody asks."""
        self._inside.set_function(inside)

    def serve(self, model: ServedModel) -> None:
        """From now on the version shows its queue's depth and its grant's standing when somebody asks."""
        bundle, queue, standing = _named(model.facts), model.queue, model.standing
        self._model.labels(*bundle, queue.facts.form, queue.facts.provider).set(1)
        self._queue.labels(*bundle).set_function(lambda: queue.waiting)
        self._left.labels(*bundle).set_function(lambda: inf if (left := standing().seconds_left) is None else left)
        for state in get_args(State):
            self._standing.labels(*bundle, state).set_function(partial(_is, standing, state))

    def forget(self, model: ServedModel) -> None:
        """The version is gone; what it did stays counted."""
        bundle, running = _named(model.facts), model.queue.facts
        self._model.remove(*bundle, running.form, running.provider)
        self._queue.remove(*bundle)
        self._left.remove(*bundle)
        for state in get_args(State):
            self._standing.remove(*bundle, state)

    def watch_rates(self, rates: Callable[[], Mapping[str, float]]) -> None:
        """Show how often each key with a limit may ask; `toolkit_requests` with status 429 counts what was refused."""
        self._registry.register(_Rates(rates))

    def watch_drift(self, weeks: Weeks) -> None:
        """Show how the running week of each bundle compares with its reference."""
        self._registry.register(_Drift(weeks))

    def render(self) -> bytes:
        """The exposition format, as `content_type` says."""
        return generate_latest(self._registry)


class _Texts:
    """A `TextObserver` of one version. Its series begin with its first text, so that a classifier has none."""

    def __init__(
        self, first: Histogram, between: Histogram, given: Counter, made: Counter, named: tuple[str, ...]
    ) -> None:
        self._first, self._between, self._given, self._made, self._named = first, between, given, made, named

    def first(self, seconds: float) -> None:
        self._first.labels(*self._named).observe(seconds)

    def next(self, seconds: float) -> None:
        self._between.labels(*self._named).observe(seconds)

    def ended(self, usage: Usage | None) -> None:
        if usage is not None:
            self._given.labels(*self._named).inc(usage.prompt_tokens)
            self._made.labels(*self._named).inc(usage.completion_tokens)


class _Rates(Collector):
    """The limits of keys as they are."""

    def __init__(self, rates: Callable[[], Mapping[str, float]]) -> None:
        self._rates = rates

    def collect(self) -> Iterator[GaugeMetricFamily]:
        limits = GaugeMetricFamily("toolkit_key_rate_limit", "Requests a second that a key may send.", None, ("key",))
        for name, rate in self._rates().items():
            limits.add_metric((name,), rate)
        yield limits


class _Drift(Collector):
    """What the last look at the running week found."""

    def __init__(self, weeks: Weeks) -> None:
        self._weeks = weeks

    def collect(self) -> Iterator[GaugeMetricFamily]:
        labels = (*_BUNDLE, "measure")
        values = GaugeMetricFamily(
            "toolkit_drift_values", "Answers of the running week that were counted.", None, labels
        )
        psi = GaugeMetricFamily("toolkit_drift_psi", "PSI against the bundle's reference.", None, labels)
        ks = GaugeMetricFamily("toolkit_drift_ks", "KS distance from the bundle's reference.", None, labels)
        state = GaugeMetricFamily(
            "toolkit_drift_state", "How a measure stands: 1 at its state.", None, (*labels, "state")
        )
        for told in self._weeks.as_records():
            for measure, found in told["states"].items():
                named = (told["bundle"], told["version"], told["product"], measure)
                values.add_metric(named, told["week"][measure])
                for family, name in ((psi, "psi"), (ks, "ks")):
                    if told[name][measure] is not None:
                        family.add_metric(named, told[name][measure])
                for one in RANK[1:]:
                    state.add_metric((*named, one), float(found == one))
        return iter((values, psi, ks, state))


def _named(facts: BundleFacts) -> tuple[str, str, str]:
    return facts.id, facts.version, facts.product


def _is(standing: Callable[[], Standing], state: State) -> float:
    return float(standing().state == state)
