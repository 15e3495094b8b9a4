"""How many requests at a time an upstream takes before it refuses, as its refusals tell.

A crowd of 32 comes to a server that takes 8. It refuses 24, one after another, and with each of
them fewer are left; what is left after the last is what it takes. So a ceiling falls with every
refusal of what was under way to the number that remain. If none remain, it was not for their
number: a rate limit is reached, and of that the breaker and the allowances know more.

Ceilings are tried again, as servers grow and neighbours leave: after `HOLD_S` it rises, twofold in
`DOUBLES_S`. Refused again at about the same number, it holds twice as long.
"""

from dataclasses import dataclass
from math import exp2, inf

from index.entry import Instant

HOLD_S = 10.0
HOLD_S_MAX = 320.0
DOUBLES_S = 30.0
ALIKE = 1.5
"""A refusal at up to so many times what was taken before says the same again."""
_LONG_AGO = Instant(0.0)


@dataclass(slots=True)
class Ceiling:
    taken: float = inf
    """So many remained when it refused."""
    since: Instant = _LONG_AGO
    """When it refused something that began after it had refused before."""
    hold_s: float = HOLD_S

    def now(self, now: Instant) -> float:
        """How many it takes; infinite while it has not refused."""
        risen = exp2(min(64.0, max(0.0, now - self.since - self.hold_s) / DOUBLES_S))
        return self.taken * risen

    def refused(self, left: int, began: Instant, now: Instant) -> bool:
        """It refused a request that began then, and `left` others are with it still. Is it that
        they are too many?"""
        if began >= self.since:
            alike = left <= ALIKE * self.taken < inf
            self.hold_s = min(2 * self.hold_s, HOLD_S_MAX) if alike else HOLD_S
            self.since, self.taken = now, inf
        self.taken = min(self.taken, left) or inf
        return left > 0
