"""When an upstream is being worked on: by the operator's calendar, or word."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from math import ceil

from edge.errors import RETRY_S_MAX, Overloaded
from edge.routing.settings import MaintenanceSettings
from index.entry import Timestamp

JITTER_S = 30.0
PERIOD_S = {"": 0.0, "day": 86_400.0, "week": 604_800.0}


@dataclass(frozen=True, slots=True)
class Window:
    """A span of maintenance: under way, or the next to come."""

    upstream: str
    begins: Timestamp
    ends: Timestamp

    def holds(self, wall: Timestamp) -> bool:
        return self.begins <= wall < self.ends


@dataclass(frozen=True, slots=True)
class Drain:
    """An upstream gets no new requests until the operator says so."""

    since: Timestamp
    by: str = ""
    """Whoever said so; empty: nobody's name was given."""


def windows(settings: Iterable[MaintenanceSettings], wall: Timestamp) -> list[Window]:
    """Of each setting the window under way or else the next, soonest first; none that is over."""
    found = [_next(one, wall) for one in settings]
    return sorted((one for one in found if one.ends > wall), key=lambda one: one.begins)


def wrong(settings: MaintenanceSettings) -> str | None:
    """What is wrong with it, if anything."""
    length_s = _seconds(settings.ends) - _seconds(settings.begins)
    if length_s <= 0:
        return "ends must be after begins"
    if settings.every and length_s >= PERIOD_S[settings.every]:
        return f"it would never end: it is longer than a {settings.every}"
    return None


def refusal(ends: Timestamp, wall: Timestamp, draw: float) -> Overloaded:
    """For what only upstreams in maintenance could answer, of which the first is back then: in a
    day at most, as who is told to come in a week forgets it, and the work may be done sooner.
    `draw` is from [0, 1): all who are told would come at that very moment."""
    after_s = min(max(1, ceil(ends - wall + JITTER_S * draw)), RETRY_S_MAX)
    until = datetime.fromtimestamp(ends, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return Overloaded(
        f"Every upstream that could answer is in maintenance until {until}. Try again in"
        f" {after_s} s; answers that are stored are served all the same.",
        code="maintenance",
        retry_after_s=after_s,
    )


def _next(settings: MaintenanceSettings, wall: Timestamp) -> Window:
    begins, ends = _seconds(settings.begins), _seconds(settings.ends)
    period_s = PERIOD_S[settings.every]
    if period_s and wall >= ends:
        times = (wall - ends) // period_s + 1
        begins, ends = begins + times * period_s, ends + times * period_s
    return Window(settings.upstream, Timestamp(begins), Timestamp(ends))


def _seconds(moment: datetime) -> float:
    return moment.timestamp()
