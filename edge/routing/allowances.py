"""What is left of an upstream's rate limits, between one answer that told and the next.

Providers refill steadily (a token bucket), so what was left grows to the whole by the reset. While
less than a tenth is left, requests are spread in proportion: at a twentieth every second one goes
elsewhere, if there is an elsewhere. So a limit is approached and not run into.
"""

from dataclasses import dataclass, field
from random import Random

from edge.routing.headers import Allowance
from index.entry import Instant

SCARCE_SHARE = 0.1


@dataclass(slots=True)
class _Left:
    told: Allowance
    at: Instant
    most: float
    """The limit, or the most that was ever left."""

    def share(self, now: Instant) -> float:
        resets_in_s = self.told.resets_in_s
        passed = 1.0 if not resets_in_s else min(1.0, (now - self.at) / resets_in_s)
        return (self.told.remaining + (self.most - self.told.remaining) * passed) / self.most


@dataclass(slots=True)
class Allowances:
    left: dict[str, _Left] = field(default_factory=dict)
    """By kind, of which there are few."""

    def heard(self, told: tuple[Allowance, ...], now: Instant) -> None:
        for one in told:
            before = self.left.get(one.kind)
            most = max(one.remaining, before.most if before else 1.0)
            self.left[one.kind] = _Left(one, now, one.limit or most)

    def share(self, now: Instant) -> float:
        """What is left of the scarcest, from 0 to 1."""
        return min((left.share(now) for left in self.left.values()), default=1.0)

    def spares(self, now: Instant, chance: Random) -> bool:
        """Is this one of the requests that it can take?"""
        share = self.share(now)
        return share >= SCARCE_SHARE or chance.random() * SCARCE_SHARE < share

    def empty_for(self, now: Instant) -> float:
        """Seconds until there is anything of what has run out; 0 if nothing has."""
        return max(
            (
                left.at + left.told.resets_in_s - now
                for left in self.left.values()
                if left.told.remaining == 0
            ),
            default=0.0,
        )
