"""What the operator's dashboards read, in Prometheus form.

A hit of one kind is never counted as another: exact, semantic, collapsed and forwarded answers have
an outcome of their own. No label takes a value that a client can choose.
"""

from collections.abc import Callable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.process_collector import ProcessCollector

OUTCOMES = ("exact", "semantic", "miss", "collapsed", "request", "bypass", "refused", "failed")
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """One registry for the node; children are bound once, so that a hit pays for an addition."""

    def __init__(self) -> None:
        # A second series for each one, which nobody here reads.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        requests = Counter(
            "promptedge_requests",
            "Requests answered, by how.",
            ["outcome"],
            registry=self.registry,
        )
        seconds = Histogram(
            "promptedge_request_seconds",
            "From a request's last byte to its answer's head, by how it was answered.",
            ["outcome"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._requests = {outcome: requests.labels(outcome) for outcome in OUTCOMES}
        self._seconds = {outcome: seconds.labels(outcome) for outcome in OUTCOMES}
        self._ineligible = Counter(
            "promptedge_semantic_misses",
            "Prompts that meaning did not answer, by reason.",
            ["reason"],
            registry=self.registry,
        )

    def answered(self, outcome: str, seconds: float) -> None:
        self._requests[outcome].inc()
        self._seconds[outcome].observe(seconds)

    def semantic_miss(self, reason: str) -> None:
        """`reason` is one of ours, from a closed list; it never holds a word of a prompt."""
        self._ineligible.labels(reason).inc()

    def watch(self, name: str, what: str, read: Callable[[], float]) -> None:
        """A gauge that is read when it is asked for."""
        Gauge(f"promptedge_{name}", what, registry=self.registry).set_function(read)

    def totals(self) -> dict[str, int]:
        """Requests by outcome, for people."""
        return {how: int(child._value.get()) for how, child in self._requests.items()}

    def render(self) -> bytes:
        return generate_latest(self.registry)
