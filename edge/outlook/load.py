"""How busy the node is, as a share of what its upstreams can do at a time: 1 is all of it.

Three things can be in short supply, and the scarcest counts: the calls that the operator allows at
a time, how many may wait for a first token at the upstreams that work, and how many these take.
Whoever is queued for one of them counts as if it had it, so it can be more than 1. Answers from
memory need none.
"""

from dataclasses import dataclass
from math import exp
from typing import Literal

from edge.routing.pool import Pool
from edge.routing.report import state
from edge.routing.upstream import Upstream
from index.entry import Instant, Timestamp

Level = Literal["idle", "normal", "busy", "overloaded", "unavailable"]

NORMAL_FROM, BUSY_FROM = 0.1, 0.6
FADE_S = 5.0
"""A peak is shown at once, and takes so long to fade by two thirds: a level that changes with each
call tells nobody anything."""
_LONG_AGO = Instant(0.0)


@dataclass(frozen=True, slots=True)
class Calls:
    """Of upstreams, all together."""

    running: int
    waiting: int
    most: int | None
    """How many the operator allows at a time; None: any number."""


def utilisation(pool: Pool, calls: Calls, now: Instant, wall: Timestamp) -> float | None:
    """None: there is no upstream that could be asked."""
    resting = pool.resting(wall)
    states = [(one, state(one, now, resting)) for one in pool.upstreams]
    works = [one for one, word in states if word == "up"]
    if not works:
        return 1.0 if any(word == "at its limit" for _, word in states) else None
    # A local one is no place for all: it stands in when nobody else can, and for some routes only.
    meant = [one for one in works if one.settings.tier != "local"]
    load = max(_allowed(calls), _borne(meant or works, calls.waiting, now))
    alone = not meant and any(one.settings.tier != "local" for one in pool.upstreams)
    return max(load, 1.0) if alone else load


def _allowed(calls: Calls) -> float:
    return 0.0 if calls.most is None else (calls.running + calls.waiting) / calls.most


def _borne(upstreams: list[Upstream], queued: int, now: Instant) -> float:
    """Whoever is queued would be there if there were room."""
    in_flight = queued + sum(one.in_flight for one in upstreams)
    return in_flight / max(1, sum(one.at_once(now) for one in upstreams))


def level(load: float | None) -> Level:
    if load is None:
        return "unavailable"
    if load > 1:
        return "overloaded"
    return "busy" if load >= BUSY_FROM else "normal" if load >= NORMAL_FROM else "idle"


@dataclass(slots=True)
class Peak:
    """The load as it is shown."""

    value: float | None = None
    at: Instant = _LONG_AGO

    def note(self, load: float | None, now: Instant) -> None:
        faded = (self.value or 0.0) * exp((self.at - now) / FADE_S)
        self.value = None if load is None else max(load, faded)
        self.at = now
