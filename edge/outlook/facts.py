"""What the public is told, as a document: load, wait, upstreams, maintenance, and when to come.

Moments are ISO 8601 in UTC, durations seconds, utilisations shares of what can be done (1 is all of
it). What is not known is null.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edge.outlook.health import Health
from edge.outlook.history import HOUR_S, Expected
from edge.outlook.load import level
from edge.outlook.quiet import CALM, Span, calmest, quiet
from edge.routing.maintenance import Window
from index.entry import Timestamp

SPANS_IN_REFUSALS = 3


@dataclass(frozen=True, slots=True)
class Wait:
    """What a request would meet that came now, of somebody who has none yet."""

    plan: str | None
    """None: without a plan."""
    weight: float
    predicted_s: float | None
    """None: there is no upstream to wait for."""
    most_s: float
    """Who would have to wait longer is refused."""


@dataclass(frozen=True, slots=True)
class Facts:
    node: str
    region: str
    at: Timestamp
    load: float | None
    waiting: int
    waits: Sequence[Wait]
    upstreams: Sequence[Health]
    maintenance: Sequence[Window]
    """Under way and to come, with the public's names of the upstreams."""
    hours: Sequence[Expected]
    """The one under way and those that follow."""

    @property
    def to_come_in(self) -> Sequence[Expected]:
        """The hours that may be told to be calm: the one under way only if that is so."""
        calm = self.load is not None and self.load < CALM
        return self.hours if calm else self.hours[1:]


def document(facts: Facts) -> dict[str, Any]:
    best = calmest(facts.to_come_in)
    return {
        "object": "status",
        "node": facts.node,
        "region": facts.region or None,
        "generated_at": iso(facts.at),
        "time_zone": "UTC",
        "load": {"level": level(facts.load), "utilisation": _share(facts.load)},
        "queue": {"waiting": facts.waiting, "plans": [_wait(one) for one in facts.waits]},
        "upstreams": [
            {"name": one.name, "tier": one.tier, "state": one.word, "since": iso(one.since)}
            for one in facts.upstreams
        ],
        "maintenance": [_window(one, facts.at) for one in facts.maintenance],
        "quiet_hours": spans(quiet(facts.to_come_in)),
        "calmest_hour": None
        if best is None
        else {**_between(best.begins, best.ends), **_hour(best)},
        "forecast": {
            "calm_below": CALM,
            "hour_s": round(HOUR_S),
            "hours": [_hour(one) for one in facts.hours],
        },
    }


def guidance(hours: Sequence[Expected]) -> dict[str, Any]:
    """For those who are refused; the hour under way is none to come back in."""
    found = quiet(hours[1:])
    return {"quiet_hours": spans(found if found is None else found[:SPANS_IN_REFUSALS])}


def spans(found: Sequence[Span] | None) -> list[dict[str, Any]] | None:
    if found is None:
        return None
    return [
        {**_between(one.begins, one.ends), "utilisation": _share(one.utilisation)} for one in found
    ]


def iso(moment: float) -> str:
    """To the second."""
    return dt.datetime.fromtimestamp(moment, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _wait(one: Wait) -> Mapping[str, Any]:
    return {
        "plan": one.plan,
        "weight": one.weight,
        "predicted_wait_s": None if one.predicted_s is None else round(one.predicted_s, 1),
        "wait_s_max": round(one.most_s, 1),
    }


def _window(one: Window, now: Timestamp) -> Mapping[str, Any]:
    under_way = one.holds(now)
    return {"upstream": one.upstream, "now": under_way, **_between(one.begins, one.ends)}


def _hour(one: Expected) -> Mapping[str, Any]:
    return {
        "begins_at": iso(one.begins),
        "utilisation": _share(one.utilisation),
        "weeks": one.weeks,
        "days": one.days,
    }


def _between(begins: float, ends: float) -> dict[str, Any]:
    return {"begins_at": iso(begins), "ends_at": iso(ends), "duration_s": round(ends - begins)}


def _share(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
