"""How the upstreams are, for operators: in words and in numbers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edge.routing.breaker import STATES
from edge.routing.call import RESULTS
from edge.routing.maintenance import Window
from edge.routing.pool import Pool
from edge.routing.upstream import Upstream
from index.entry import Instant, Timestamp


@dataclass(frozen=True, slots=True)
class UpstreamFacts:
    name: str
    gauges: Mapping[str, float]
    """See `edge.metrics.UPSTREAM_GAUGES`."""
    results: Mapping[str, int]
    """Calls by what became of them, each of `RESULTS`."""
    retries: int


def facts(pool: Pool, now: Instant, wall: Timestamp) -> list[UpstreamFacts]:
    resting = pool.resting(wall)
    return [_facts(one, now, one.drained or one.name in resting) for one in pool.upstreams]


def state(one: Upstream, now: Instant, resting: Mapping[str, Window]) -> str:
    """In a word: `up`, or why it gets no requests, or only one to try it."""
    if one.drained:
        return "draining" if one.in_flight else "drained"
    if one.name in resting:
        return "maintenance"
    if now < one.ejected_until:
        return "ejected"
    if not one.breaker.closed:
        return "down" if one.breaker.state(now) == "open" else "on trial"
    limited = [lane for lane in one.lanes.values() if lane.breaker.state(now) == "open"]
    return "at its limit" if limited and len(limited) == len(one.lanes) else "up"


def told(pool: Pool, now: Instant, wall: Timestamp) -> list[dict[str, Any]]:
    """For `promptedge upstream list` and status."""
    resting = pool.resting(wall)
    return [
        {
            "name": one.name,
            "tier": one.settings.tier,
            "region": one.settings.region,
            "state": state(one, now, resting),
            "drained_since": None if one.drain is None else round(one.drain.since),
            "drained_by": None if one.drain is None else one.drain.by,
            "in_flight": one.in_flight,
            "limit": int(one.at_once(now)),
            "ttft_s": _ttft_s(one, now),
            "tokens_per_s": None if one.tokens_per_s is None else round(one.tokens_per_s, 1),
            "connect_s": None if one.connect_s is None else round(one.connect_s, 4),
            "failing": round(one.breaker.recent.share_bad(now), 3),
            "allowance": round(_allowance(one, now), 3),
            "retry_in_s": round(max(0.0, _out_until(one) - now), 1),
            "requests": dict(one.results),
        }
        for one in pool.upstreams
    ]


def maintenance(pool: Pool, wall: Timestamp) -> list[dict[str, Any]]:
    """The windows under way and the next to come."""
    return [
        {
            "upstream": one.upstream,
            "begins": round(one.begins),
            "ends": round(one.ends),
            "now": one.holds(wall),
        }
        for one in pool.windows(wall)
    ]


def _facts(one: Upstream, now: Instant, drained: bool) -> UpstreamFacts:
    gauges = {
        "in_flight": float(one.in_flight),
        "waiting": float(len(one.waiting)),
        "limit": one.at_once(now),
        "expected_ttft_seconds": _ttft_s(one, now) or 0.0,
        "breaker_state": float(STATES.index(one.breaker.state(now))),
        "ejected": float(now < one.ejected_until),
        "drained": float(drained),
        "allowance": _allowance(one, now),
    }
    results = {result: one.results.get(result, 0) for result in RESULTS}
    return UpstreamFacts(one.name, gauges, results, one.retries)


def _ttft_s(one: Upstream, now: Instant) -> float | None:
    """For a short prompt to the model that was asked last."""
    for lane in reversed(one.lanes.values()):
        if lane.news is not None:
            return round(lane.latency.of(0).expect(now), 3)
    return None


def _allowance(one: Upstream, now: Instant) -> float:
    """Of the model that has the least."""
    return min((lane.allowances.share(now) for lane in one.lanes.values()), default=1.0)


def _out_until(one: Upstream) -> Instant:
    rests = (lane.breaker.rests_until for lane in one.lanes.values())
    return max(one.out_until, *rests, Instant(0.0))
