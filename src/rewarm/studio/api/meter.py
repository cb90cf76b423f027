"""What the server counts about itself, for Prometheus."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector
from starlette.types import Scope


class Meter:
    """Requests by route (the function that answers): how many, with what status, and how long they took."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        labels = ("method", "route")
        self._requests = Counter("rewarm_requests", "Requests", (*labels, "status"), registry=self.registry)
        self._seconds = Histogram("rewarm_request_seconds", "Seconds a request took", labels, registry=self.registry)

        self._runs = Gauge("rewarm_runs", "Runs in this state", ("state",), registry=self.registry)

    def set_runs(self, states: Mapping[str, int]) -> None:
        """How many runs are in each state."""
        self._runs.clear()
        for state, count in states.items():
            self._runs.labels(state).set(count)

    def count(self, scope: Scope, status: int, seconds: float) -> None:
        """A request was answered; ``status`` 0 is a websocket, or none was given."""
        endpoint = scope.get("endpoint")  # never the path: it may be anything
        name = getattr(endpoint, "__name__", None)  # what answers pages has none
        route = f"{endpoint.__module__.rpartition('.')[2]}.{name}" if endpoint and name else "none"
        method = scope.get("method", "websocket")
        method = method if method in ("GET", "POST", "PUT", "PATCH", "DELETE", "websocket") else "other"
        self._requests.labels(method, route, status).inc()
        self._seconds.labels(method, route).observe(seconds)
