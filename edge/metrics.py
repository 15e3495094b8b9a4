"""What the operator's dashboards read, in Prometheus form.

A hit of one kind is never counted as another: exact, semantic, stale, collapsed and forwarded
answers have an outcome of their own. No label takes a value that a client can choose.
"""

from collections.abc import Callable, Iterable, Mapping
from math import nan

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from edge.routing.report import UpstreamFacts
from edge.status import STALE, Stale

OUTCOMES = (
    *("exact", "semantic", "redis", "stale"),
    *("miss", "collapsed", "request", "bypass", "refused", "failed"),
)
TURNED_AWAY = (
    *("requests", "tokens", "tokens_day", "concurrency"),
    *("queue_full", "queue_late", "deadline"),
    *("address", "lockout"),
)
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_TTFT_SECONDS = (0.05, 0.1, 0.2, 0.3, 0.45, 0.7, 1, 1.5, 2.5, 4, 7, 12, 20, 40, 90, 300)


NODE_STATES = ("alive", "suspect", "dead", "leaving", "unheard")

CLASS_GAUGES = {
    "max_error": "Share of semantic hits that may be wrong.",
    "error_estimate": "Share of semantic hits that were wrong, estimated from checked ones.",
    "error_low": "Lower bound of that share.",
    "error_high": "Upper bound of that share.",
    "error_labels": "Checked hits that the estimate rests on.",
    "error_hits": "Semantic hits that it speaks of.",
    "error_of_requests": "The same wrong hits as a share of all that asked by meaning.",
    "noise": "Share of prompts asked twice whose two answers differ.",
    "unwatched": "Semantic hits served while none was checked.",
    "shadow_rate": "Share of semantic hits that are checked now.",
    "alarms": "How often its cuts were tightened because wrong answers were served.",
    "muted": "Vetoes that live labels have lifted, above some score.",
}


class _Classes(Collector):
    def __init__(self, read: Callable[[], Iterable[tuple[str, Mapping[str, float]]]]) -> None:
        self._read = read

    def collect(self) -> Iterable[GaugeMetricFamily]:
        found = list(self._read())
        for name, what in CLASS_GAUGES.items():
            family = GaugeMetricFamily(f"promptedge_semantic_{name}", what, labels=["class"])
            for kind, values in found:
                family.add_metric([kind], values[name])
            yield family


class _Nodes(Collector):
    def __init__(self, read: Callable[[], Iterable[tuple[str, str, float]]]) -> None:
        self._read = read

    def collect(self) -> Iterable[GaugeMetricFamily]:
        found = list(self._read())
        lag = GaugeMetricFamily(
            "promptedge_sync_lag_seconds",
            "For how long something that another node told may have been missing here.",
            labels=["origin"],
        )
        nodes = GaugeMetricFamily(
            "promptedge_sync_nodes", "Other nodes of the fleet, by how they are.", labels=["state"]
        )
        for origin, _, lag_s in found:
            lag.add_metric([origin], lag_s)
        states = [state for _, state, _ in found]
        for state in NODE_STATES:
            nodes.add_metric([state], states.count(state))
        yield from (lag, nodes)


UPSTREAM_GAUGES = {
    "in_flight": "Requests that an upstream is answering.",
    "waiting": "Those of them whose first token is not here yet.",
    "limit": "How many may wait at a time, as far as is known.",
    "expected_ttft_seconds": "How long a first token of a short prompt is expected to take.",
    "breaker_state": "0 closed, 1 half-open, 2 open or told to wait.",
    "ejected": "1 while it is left out because it fails more than others do.",
    "drained": "1 while it gets no new requests by the operator's wish or calendar.",
    "allowance": "What it says is left of its rate limits, of the scarcest, from 0 to 1.",
}


class _Upstreams(Collector):
    def __init__(self, read: Callable[[], Iterable[UpstreamFacts]]) -> None:
        self._read = read

    def collect(self) -> Iterable[GaugeMetricFamily | CounterMetricFamily]:
        found = list(self._read())
        for name, what in UPSTREAM_GAUGES.items():
            gauge = GaugeMetricFamily(f"promptedge_upstream_{name}", what, labels=["upstream"])
            for one in found:
                gauge.add_metric([one.name], one.gauges[name])
            yield gauge
        requests = CounterMetricFamily(
            "promptedge_upstream_requests",
            "Requests to an upstream, by what became of them.",
            labels=["upstream", "result"],
        )
        retries = CounterMetricFamily(
            "promptedge_upstream_retries",
            "Requests that failed at an upstream and were then sent to another.",
            labels=["upstream"],
        )
        for one in found:
            for result, count in one.results.items():
                requests.add_metric([one.name, result], count)
            retries.add_metric([one.name], one.retries)
        yield from (requests, retries)


class _Waits(Collector):
    def __init__(self, read: Callable[[], Iterable[tuple[str, float]]]) -> None:
        self._read = read

    def collect(self) -> Iterable[GaugeMetricFamily]:
        family = GaugeMetricFamily(
            "promptedge_predicted_wait_seconds",
            "How long a prompt would wait for room that came now, by its plan.",
            labels=["plan"],
        )
        for plan, seconds in self._read():
            family.add_metric([plan], seconds)
        yield family


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

        self._first_tokens = Histogram(
            "promptedge_upstream_ttft_seconds",
            "From a request to an upstream to the first token of its stream.",
            ["upstream"],
            buckets=_TTFT_SECONDS,
            registry=self.registry,
        )
        self._checks = Counter(
            "promptedge_semantic_checks",
            "Answers by meaning that were compared with fresh ones: same, different, undecided; "
            "unanswered by the upstream, dropped as the queue was full.",
            ["verdict"],
            registry=self.registry,
        )

        turned_away = Counter(
            "promptedge_turned_away",
            "Requests refused as a limit of a plan or of an address was reached or upstreams were "
            "busy, by reason.",
            ["reason"],
            registry=self.registry,
        )
        stale = Counter(
            "promptedge_stale",
            "Expired answers served, by why: swr (fetched anew beside that), sie (an upstream "
            "failed), busy (none had room).",
            ["why"],
            registry=self.registry,
        )
        self._stale = {why: stale.labels(why) for why in STALE}
        self._negative_hits = Counter(
            "promptedge_negative_hits",
            "Refusals by an upstream that were said again without asking it.",
            registry=self.registry,
        )
        self._refreshes = Counter(
            "promptedge_refreshes",
            "Answers fetched anew for nobody who waits, by why (swr: it had expired, ahead: it was "
            "about to) and what became of it: stored, unfit, refused (no room), failed.",
            ["why", "result"],
            registry=self.registry,
        )
        self._queue_seconds = Histogram(
            "promptedge_queue_seconds",
            "How long calls of upstreams waited for room.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._turned_away = {reason: turned_away.labels(reason) for reason in TURNED_AWAY}

    def waited(self, seconds: float) -> None:
        """For room at the upstreams, before a call."""
        self._queue_seconds.observe(seconds)

    def stale(self, why: Stale) -> None:
        """An expired answer was served."""
        self._stale[why].inc()

    def negative_hit(self) -> None:
        self._negative_hits.inc()

    def refreshed(self, why: str, result: str) -> None:
        """Both are from closed lists."""
        self._refreshes.labels(why, result).inc()

    def turned_away(self, reason: str) -> None:
        """`reason` is one of TURNED_AWAY."""
        self._turned_away[reason].inc()

    def first_token(self, upstream: str, seconds: float) -> None:
        """`upstream` is a name from the configuration."""
        self._first_tokens.labels(upstream).observe(seconds)

    def watch_upstreams(self, read: Callable[[], Iterable[UpstreamFacts]]) -> None:
        """How the upstreams are, each by its name from the configuration."""
        self.registry.register(_Upstreams(read))

    def checked(self, verdict: str) -> None:
        """`verdict` is from a closed list."""
        self._checks.labels(verdict).inc()

    def answered(self, outcome: str, seconds: float) -> None:
        self._requests[outcome].inc()
        self._seconds[outcome].observe(seconds)

    def semantic_miss(self, reason: str) -> None:
        """`reason` is one of ours, from a closed list; it never holds a word of a prompt."""
        self._ineligible.labels(reason).inc()

    def watch(self, name: str, what: str, read: Callable[[], float]) -> None:
        """A gauge that is read when it is asked for."""
        Gauge(f"promptedge_{name}", what, registry=self.registry).set_function(read)

    def watch_classes(self, read: Callable[[], Iterable[tuple[str, Mapping[str, float]]]]) -> None:
        """Gauges by class of prompts, which are the operator's tenants and routes."""
        self.registry.register(_Classes(read))

    def watch_waits(self, read: Callable[[], Iterable[tuple[str, float]]]) -> None:
        """Of each plan, which the operator named; "": of who has none."""
        self.registry.register(_Waits(read))

    def watch_fleet(self, read: Callable[[], Iterable[tuple[str, str, float]]]) -> None:
        """Of each other node: its name, which the operator gave it, its state, and its lag."""
        self.registry.register(_Nodes(read))

    def totals(self) -> dict[str, int]:
        """Requests by outcome, for people."""
        return {how: int(child._value.get()) for how, child in self._requests.items()}

    def render(self) -> bytes:
        return generate_latest(self.registry)


def or_nan(value: float | None) -> float:
    """What nobody knows, as a gauge has it."""
    return nan if value is None else value
