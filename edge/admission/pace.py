"""How often it is the turn of those of one weight, when heavier ones go first.

Who waits now does not tell: those who pay hardly ever wait, and yet take most places as they come.
So it is measured how many places a second each weight took of late; what the heavier ones leave is
there for the others, and their share by weight in any case.
"""

from dataclasses import dataclass, field
from math import exp

from index.entry import Instant

LATELY_S = 5.0
"""What was taken so long ago counts for about a third."""
_UNUSED_PER_S = 0.01
"""Fewer than so many places a second are none."""


@dataclass(slots=True)
class Pace:
    _taken: dict[float, tuple[float, Instant]] = field(default_factory=dict)
    """By weight: places a second, and when that was so."""

    def took(self, weight: float, now: Instant) -> None:
        """Somebody of that weight got a place."""
        self._taken[weight] = self.rate(weight, now) + 1 / LATELY_S, now

    def rate(self, weight: float, now: Instant) -> float:
        """Places a second, of late."""
        rate, since = self._taken.get(weight, (0.0, now))
        return rate * exp(-(now - since) / LATELY_S)

    def left(self, weight: float, places_per_s: float, now: Instant) -> float:
        """Of so many places a second, those that are there for `weight`, and lighter ones."""
        heavier = {one: self.rate(one, now) for one in self._taken if one > weight}
        in_use = sum(one for one, rate in heavier.items() if rate > _UNUSED_PER_S)
        share = places_per_s * weight / (weight + in_use)
        return max(places_per_s - sum(heavier.values()), share)
