"""A rate that may be used up in bursts, in one number: the generic cell rate algorithm.

GCRA (ITU-T I.371; "leaky bucket as a meter"): each unit pushes the *theoretical arrival time* of
the next one `1 / rate` further into the future; what would push it beyond the burst has to wait,
and it is known for how long. Nothing has to be refilled by a timer, and what was taken too much can
be given back, as a reservation of tokens is when the answer turns out shorter.

Given back is what is still there to be given. Somebody takes 60 of 60 a minute, uses none, and
says so two minutes later: the limit has long been whole again, and 60 more on top of it would be a
burst of 120. How much is there is the lowest that the use has been since (Skorokhod's reflection):
the rest would have run out by then even if it had never been taken.
"""

from dataclasses import dataclass, field

from index.entry import Instant


@dataclass(frozen=True, slots=True)
class Limit:
    """So many units in so many seconds, all at once if they were saved up."""

    units: float
    window_s: float = 60.0

    @property
    def interval_s(self) -> float:
        """What one unit takes."""
        return self.window_s / self.units


def late_s(limit: Limit, full_at: float, units: float, now: float) -> float:
    """How long until `units` may be taken of a limit whose theoretical arrival time is `full_at`;
    0 if now, infinite if never."""
    if units > limit.units:
        return float("inf")
    late = max(full_at - now, 0.0) + units * limit.interval_s - limit.window_s
    return late if late > _ROUNDING_S else 0.0


@dataclass(slots=True, eq=False)
class Taken:
    """Units set aside, until it is known how many were used."""

    units: float
    low: float = float("inf")
    """The least that was in use since."""


@dataclass(slots=True)
class Meter:
    """What one flow has used of one limit. Not thread-safe."""

    limit: Limit
    _full_at: Instant = Instant(0.0)  # noqa: RUF009  a number
    """When all would be saved up again: the theoretical arrival time."""
    _open: set[Taken] = field(default_factory=set)

    def wait_s(self, units: float, now: Instant) -> float:
        """How long until `units` may be taken; 0 if now, infinite if never."""
        return late_s(self.limit, self._full_at, units, now)

    def spend(self, units: float, now: Instant) -> None:
        """Use it up, whether or not it was there."""
        in_use = self._in_use(now)
        for one in self._open:
            one.low = min(one.low, in_use)
        self._full_at = Instant(max(self._full_at, now) + units * self.limit.interval_s)

    def take(self, units: float, now: Instant) -> Taken:
        """Set it aside, whether or not it was there. To be settled."""
        self.spend(units, now)
        taken = Taken(units)
        self._open.add(taken)
        return taken

    def settle(self, taken: Taken, used: float, now: Instant) -> None:
        """So much of it was used. Harmless a second time."""
        if taken not in self._open:
            return
        self._open.remove(taken)
        if used >= taken.units:
            self.spend(used - taken.units, now)
            return
        back = max(min(taken.units - used, taken.low, self._in_use(now)), 0.0)
        self._full_at = Instant(self._full_at - back * self.limit.interval_s)
        for one in self._open:
            one.low -= back

    def left(self, now: Instant) -> int:
        """Whole units that may be taken now."""
        return max(int(self.limit.units - self._in_use(now) + _ROUNDING_UNITS), 0)

    def reset_s(self, now: Instant) -> float:
        """How long until all is there again."""
        return max(self._full_at - now, 0.0)

    def idle(self, now: Instant) -> bool:
        """Is it as good as new?"""
        return self._full_at <= now and not self._open

    def _in_use(self, now: Instant) -> float:
        return self.reset_s(now) / self.limit.interval_s


_ROUNDING_S = 1e-6
_ROUNDING_UNITS = 1e-6
