"""A budget that requests pay into and extra work is paid from.

A retry is a second request. When everything fails, unbounded retries double the load on what is
left and make an outage out of a hiccup; as a share of the requests they cannot.
"""

from dataclasses import dataclass

from index.entry import Instant

BALANCE_MAX = 20.0
"""What is not spent is kept up to here, as a rule: bursts are answered, an idle night saves up
nothing."""


@dataclass(slots=True)
class Budget:
    share: float
    """What each request pays in."""
    per_s: float = 0.0
    """What each second pays in."""
    balance: float = 0.0
    at: Instant | None = None
    most: float = BALANCE_MAX

    def earn(self, now: Instant) -> None:
        """A request came."""
        self._pass(now)
        self.balance = min(self.balance + self.share, self.most)

    def spend(self, now: Instant) -> bool:
        """Is there enough for one more? Then it is spent."""
        self._pass(now)
        if self.balance < 1:
            return False
        self.balance -= 1
        return True

    def _pass(self, now: Instant) -> None:
        since_s = 0.0 if self.at is None else max(0.0, now - self.at)
        self.balance = min(self.balance + self.per_s * since_s, self.most)
        self.at = now
