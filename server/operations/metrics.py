"""Metrics for Prometheus: one registry per app, at `GET /metrics`. docs/operations.md explains each number."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import TYPE_CHECKING, get_args

from flask import Blueprint, Flask, Response, request
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from consts import VERSION
from dalle_model import Observer
from server.api.operation import OPERATIONS, Operation, Reply, described
from server.middleware.callers import Limit, refused_by
from server.middleware.request_ids import when_sent
from server.middleware.request_log import begun_at

if TYPE_CHECKING:
    from dalle_model import DalleModel

# One label for all paths without a route, however many different ones clients request.
_NO_ROUTE = "none"

_STEP_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_REQUEST_SECONDS = (0.005, 0.02, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class Metrics(Observer):
    """The numbers of one app and its engine. The methods may be called from any thread."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # they double the lines, to say when counting began
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._info = self._gauge(
            "dalle_server_info", "Always 1; the labels say what runs.", "version", "python", "torch", "model"
        )
        self._requests = self._counter("dalle_http_requests", "Requests answered, by route and status.", "route", "status")
        self._refused = self._counter(
            "dalle_requests_refused",
            "Requests answered 429, by limit: queue, caller (its share of the queue) or rate.",
            "limit",
        )
        for limit in get_args(Limit):
            self._refused.labels(limit)  # from the start, so that a first refusal is an increase
        self._request_seconds = self._histogram(
            "dalle_http_request_duration_seconds",
            "Time from a request's arrival to the end of its answer, by route.",
            _REQUEST_SECONDS,
            "route",
        )
        self._queue_seconds = self._histogram(
            "dalle_queue_wait_seconds", "Time an image waited for a place in the batch.", _REQUEST_SECONDS
        )
        self._step_seconds = self._histogram(
            "dalle_step_duration_seconds", "Time a step took, which draws one of 256 tokens of every image.", _STEP_SECONDS
        )
        self._image_seconds = self._histogram(
            "dalle_image_duration_seconds", "Time an image took from its place in the batch to its pixels.", _REQUEST_SECONDS
        )
        self._drawn = self._counter("dalle_images_drawn", "Images drawn, the first one at start included.")
        self._cancelled = self._counter("dalle_images_cancelled", "Images whose caller went away, or whose time was up.")
        self._failed = self._counter("dalle_images_failed", "Images that could not be drawn.")
        self._saved = self._counter("dalle_images_saved", "Images saved on disk.")
        self._save_failures = self._counter("dalle_save_failures", "Requests whose images could not be saved on disk.")
        self._removed = self._counter("dalle_saved_requests_removed", "Saved requests removed to keep below --max_disk_mb.")

    def watch(self, model: DalleModel, linked_bytes: Callable[[], int], disk_used: Callable[[], float]) -> None:
        """Include a model's name and, read at each scrape, its engine's state, linked images' memory and the disk budget."""
        self._info.labels(VERSION, platform.python_version(), version("torch"), model.name).set(1)
        self._gauge("dalle_linked_images_bytes", "Memory that images answered as links take.").set_function(linked_bytes)
        self._gauge("dalle_disk_budget_used_ratio", "Share of --max_disk_mb in use; 0 without it.").set_function(disk_used)
        self.registry.register(_EngineCollector(model))

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count a request, by its route's template."""
        self._requests.labels(route, str(status)).inc()
        self._request_seconds.labels(route).observe(seconds)

    def refused(self, limit: Limit) -> None:
        """Count a request that a limit refused."""
        self._refused.labels(limit).inc()

    def waited(self, seconds: float) -> None:
        """Add an image's wait."""
        self._queue_seconds.observe(seconds)

    def step_took(self, seconds: float, batch: int) -> None:
        """Add a step's time."""
        self._step_seconds.observe(seconds)

    def image_took(self, seconds: float) -> None:
        """Add an image's time."""
        self._image_seconds.observe(seconds)

    def drawn(self, images: int) -> None:
        """Count drawn images."""
        self._drawn.inc(images)

    def cancelled(self, images: int) -> None:
        """Count cancelled images."""
        self._cancelled.inc(images)

    def failed(self, images: int) -> None:
        """Count images that could not be drawn."""
        self._failed.inc(images)

    def saved(self, images: int) -> None:
        """Count saved images."""
        self._saved.inc(images)

    def save_failed(self) -> None:
        """Count a request whose images could not be saved."""
        self._save_failures.inc()

    def removed(self, requests: int) -> None:
        """Count saved requests that were removed to make room."""
        self._removed.inc(requests)

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(name, meaning, labels, registry=self.registry)

    def _gauge(self, name: str, meaning: str, *labels: str) -> Gauge:
        return Gauge(name, meaning, labels, registry=self.registry)

    def _histogram(self, name: str, meaning: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(name, meaning, labels, buckets=buckets, registry=self.registry)


class _EngineCollector(Collector):
    """The engine's state as gauges, read at each scrape so that it is never old."""

    def __init__(self, model: DalleModel) -> None:
        self._model = model

    def collect(self) -> Iterator[Metric]:
        """Yield the gauges."""
        state = self._model.state
        yield GaugeMetricFamily("dalle_engine_up", "1 while the engine's thread lives.", value=state.is_alive)
        yield GaugeMetricFamily("dalle_engine_draining", "1 once no new work is taken.", value=state.is_draining)
        yield GaugeMetricFamily("dalle_queue_images", "Images that wait.", value=state.images_waiting)
        limit = float("inf") if state.max_queue is None else state.max_queue
        yield GaugeMetricFamily(
            "dalle_queue_limit_images", "Candidates that may wait: --max_queue times the model's own number.", value=limit
        )
        yield GaugeMetricFamily("dalle_slots_in_use", "Images being drawn.", value=state.slots_in_use)
        yield GaugeMetricFamily(
            "dalle_slots",
            "Images that may be drawn at once; fewer than --max_batch_size after memory ran out.",
            value=state.batch_limit,
        )
        yield GaugeMetricFamily("dalle_machines", "Machines that draw; 1 without --replicas.", value=state.machines)
        yield GaugeMetricFamily(
            "dalle_step_running_seconds",
            "How long the step under way has been running; 0 between steps.",
            value=state.seconds_in_step,
        )


def measure_requests(app: Flask, metrics: Metrics) -> None:
    """Count every answer of an app, a streamed one at its end. Register after the request log."""

    def end(response: Response) -> Response:
        route = _NO_ROUTE if request.url_rule is None else request.url_rule.rule
        status, begun = response.status_code, begun_at()
        if (limit := refused_by()) is not None:
            metrics.refused(limit)
        when_sent(response, lambda: metrics.answered(route, status, time.perf_counter() - begun))
        return response

    app.after_request(end)


def metrics_routes(metrics: Metrics) -> Blueprint:
    """Build `GET /metrics`."""
    blueprint = Blueprint("metrics", __name__)

    @blueprint.get("/metrics")
    @described(
        Operation(OPERATIONS, "Read the server's metrics", {200: Reply("Prometheus's text format.", {"text/plain": None})})
    )
    def show() -> Response:
        """Send every number in Prometheus's text format."""
        return Response(generate_latest(metrics.registry), content_type=CONTENT_TYPE_PLAIN_0_0_4)

    return blueprint
