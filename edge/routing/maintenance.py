"""When an upstream is being worked on, by the operator's calendar."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from edge.routing.settings import MaintenanceSettings
from index.entry import Timestamp

PERIOD_S = {"": 0.0, "day": 86_400.0, "week": 604_800.0}


@dataclass(frozen=True, slots=True)
class Window:
    """A span of maintenance: under way, or the next to come."""

    upstream: str
    begins: Timestamp
    ends: Timestamp

    def holds(self, wall: Timestamp) -> bool:
        return self.begins <= wall < self.ends


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


def _next(settings: MaintenanceSettings, wall: Timestamp) -> Window:
    begins, ends = _seconds(settings.begins), _seconds(settings.ends)
    period_s = PERIOD_S[settings.every]
    if period_s and wall >= ends:
        times = (wall - ends) // period_s + 1
        begins, ends = begins + times * period_s, ends + times * period_s
    return Window(settings.upstream, Timestamp(begins), Timestamp(ends))


def _seconds(moment: datetime) -> float:
    return moment.timestamp()
