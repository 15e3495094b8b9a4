"""How much of late went well and how much went wrong."""

from dataclasses import dataclass, field
from math import exp

from index.entry import Instant

RECORD_REQUESTS = 50
RECORD_S = 30.0
_LONG_AGO = Instant(0.0)


@dataclass(slots=True)
class Recent:
    """Counts that fade: what is `tau_s` old counts for a third. Equal weight to equal times,
    however many requests there are."""

    tau_s: float
    good: float = 0.0
    bad: float = 0.0
    at: Instant = _LONG_AGO

    def note(self, now: Instant, *, good: bool) -> None:
        self.good, self.bad = self.counts(now)
        self.at = max(now, self.at)
        if good:
            self.good += 1
        else:
            self.bad += 1

    def counts(self, now: Instant) -> tuple[float, float]:
        """Good and bad ones, as of now."""
        left = exp(min(0.0, self.at - now) / self.tau_s)
        return self.good * left, self.bad * left

    def share_bad(self, now: Instant) -> float:
        """Counting one imagined good one, so that a single failure after a pause is not all."""
        good, bad = self.counts(now)
        return bad / (1 + good + bad)


@dataclass(slots=True)
class Record:
    """What share of the last few dozen requests failed, however long ago they were; and how many
    there were lately, which says whether that can be compared with another's."""

    share_bad: float = 0.0
    lately: Recent = field(default_factory=lambda: Recent(RECORD_S))

    def note(self, now: Instant, *, good: bool) -> None:
        self.share_bad += ((not good) - self.share_bad) / RECORD_REQUESTS
        self.lately.note(now, good=good)

    def requests(self, now: Instant) -> float:
        return sum(self.lately.counts(now))
