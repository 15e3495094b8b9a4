"""May an upstream be asked at all? Closed: yes. Open: no, for a while. Half-open: by one request.

It opens after `FAILURES_TO_OPEN` failures in a row, or as many within some ten seconds that are
more than half of all. Once it has been open for a while, one request may probe, and its outcome
closes it or opens it for twice as long.

An upstream that said when to come again (`Retry-After`) rests until then. That looks the same from
outside, with one difference: that we think an upstream is down may be wrong, so it is asked all the
same when nobody else is left; that it does not want to be asked is not.

After either it is *recovering*: it is given a few requests at a time, twice as many each second.
"""

from dataclasses import dataclass, field
from math import inf
from typing import Literal

from edge.routing.recent import Recent
from index.entry import Instant

FAILURES_TO_OPEN = 5
WINDOW_S = 10.0
OPEN_S_FIRST = 5.0
OPEN_S_MAX = 15.0
REST_S_FIRST = 1.0
REST_S_MAX = 30.0
"""For one that refuses for its rate limit and does not say until when: doubled each time. A guess,
as being open is."""
RECOVERY_S = 10.0
_LONG_AGO = Instant(0.0)

State = Literal["closed", "open", "half-open"]
STATES: tuple[State, ...] = ("closed", "half-open", "open")


@dataclass(slots=True)
class Breaker:
    failures: int = 0
    """In a row."""
    recent: Recent = field(default_factory=lambda: Recent(WINDOW_S))
    since: Instant = _LONG_AGO
    """When it was last shut. What was under way then says nothing of what would come now."""
    open_until: Instant = _LONG_AGO
    open_s: float = 0.0
    """How long it was opened for; 0 while it is closed."""
    rests_until: Instant = _LONG_AGO
    rest_s: float = 0.0
    """How long it rests after refusals in a row; 0 while it does not refuse."""
    probing: bool = False
    failed_at: Instant = _LONG_AGO
    recovered_at: Instant | None = None

    @property
    def closed(self) -> bool:
        return not (self.open_s or self.rest_s)

    def state(self, now: Instant) -> State:
        if self.closed:
            return "closed"
        return "open" if now < self.shut_until else "half-open"

    @property
    def shut_until(self) -> Instant:
        return max(self.open_until, self.rests_until)

    def lets(self, now: Instant) -> bool:
        state = self.state(now)
        return state == "closed" or (state == "half-open" and not self.probing)

    def asked(self) -> None:
        """A request is on its way: unless the breaker is closed it is the only one."""
        self.probing = not self.closed

    # What became of a request that began then.

    def answers(self, began: Instant, now: Instant) -> None:
        """The first token is here: it lives. Whether it lives to the end is another question, so
        failures in a row go on counting until `succeeded`."""
        self.recent.note(now, good=True)
        if began < self.since:
            return
        if not self.closed:
            self.recovered_at = now
            self.recent = Recent(WINDOW_S)
        self.open_s, self.rest_s, self.probing = 0.0, 0.0, False

    def succeeded(self, began: Instant) -> None:
        if began >= self.failed_at:
            self.failures = 0

    def failed(self, began: Instant, now: Instant) -> None:
        self.recent.note(now, good=False)
        if began < self.since:
            return
        self.failures += 1
        self.failed_at = now
        self.probing = False
        if self.open_s or self.failures >= FAILURES_TO_OPEN or self._mostly_bad(now):
            self.open_s = min(2 * self.open_s or OPEN_S_FIRST, OPEN_S_MAX)
            self.open_until = Instant(now + self.open_s)
            self.since = now

    def refused(self, began: Instant, now: Instant, wait_s: float | None) -> None:
        """Its limit is reached; `wait_s` is what it said, if it did. Its health is not in doubt."""
        if began >= self.since:
            self.probing = False
            self.rest_s = min(2 * self.rest_s or REST_S_FIRST, REST_S_MAX)
            self.since = now
            if wait_s is None:
                self.open_until = Instant(now + self.rest_s)
        if wait_s is not None:
            self.rests_until = max(self.rests_until, Instant(now + wait_s))

    def abandoned(self) -> None:
        """The client left before there was an outcome."""
        self.probing = False

    def recovered_for(self, now: Instant) -> float:
        """How long ago it recovered, in seconds; infinitely when that no longer matters."""
        if self.recovered_at is None or now - self.recovered_at >= RECOVERY_S:
            return inf
        return max(0.0, now - self.recovered_at)

    def _mostly_bad(self, now: Instant) -> bool:
        good, bad = self.recent.counts(now)
        return bad > FAILURES_TO_OPEN - 0.5 and bad > good  # they fade, if little
