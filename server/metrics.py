"""Count and measure for Prometheus: one registry an app, at GET /metrics. docs/operations.md says what each number means."""

from __future__ import annotations

import time

from flask import Blueprint, Flask, Response, request
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from server.request_ids import when_sent
from server.request_log import begun_at

# What is no route of ours is one label, whatever paths callers think up.
_NO_ROUTE = "none"
_REQUEST_SECONDS = (0.005, 0.02, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class Metrics:
    """Hold the numbers of one app. The methods may be called from any thread."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # they double the lines, to say when counting began
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = Counter(
            "dalle_http_requests", "Requests answered, by route and status.", ["route", "status"], registry=self.registry
        )
        self._request_seconds = Histogram(
            "dalle_http_request_duration_seconds",
            "Time from a request's arrival to the end of its answer, by route.",
            ["route"],
            buckets=_REQUEST_SECONDS,
            registry=self.registry,
        )
        self._saved = Counter("dalle_images_saved", "Images saved on disk.", registry=self.registry)
        self._save_failures = Counter(
            "dalle_save_failures", "Requests whose images could not be saved on disk.", registry=self.registry
        )
        self._removed = Counter(
            "dalle_saved_requests_removed",
            "Saved requests removed to keep below --max_disk_mb.",
            registry=self.registry,
        )

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count a request to a route's template."""
        self._requests.labels(route, str(status)).inc()
        self._request_seconds.labels(route).observe(seconds)

    def saved(self, images: int) -> None:
        """Count saved images."""
        self._saved.inc(images)

    def save_failed(self) -> None:
        """Count a request whose images could not be saved."""
        self._save_failures.inc()

    def removed(self, requests: int) -> None:
        """Count saved requests that made room."""
        self._removed.inc(requests)


def measure_requests(app: Flask, metrics: Metrics) -> None:
    """Register with an app, after the request log: count every answer, a streamed one at its end."""

    def end(response: Response) -> Response:
        route = _NO_ROUTE if request.url_rule is None else request.url_rule.rule
        status, begun = response.status_code, begun_at()
        when_sent(response, lambda: metrics.answered(route, status, time.perf_counter() - begun))
        return response

    app.after_request(end)


def metrics_routes(metrics: Metrics) -> Blueprint:
    """Build `GET /metrics`."""
    blueprint = Blueprint("metrics", __name__)

    @blueprint.get("/metrics")
    def show() -> Response:
        """Show every number in Prometheus's text format."""
        return Response(generate_latest(metrics.registry), content_type=CONTENT_TYPE_PLAIN_0_0_4)

    return blueprint
