"""How busy the node is at each hour of the week, learned from its own weeks.

An hour's utilisation is the mean over its time, so a minute of crowd does not make it a busy hour.
When it ends it is folded into what is known of that hour of the week: the first weeks are averaged,
then the newest counts for three tenths and older ones fade. An hour in which the node was hardly
there says nothing. What was not seen for weeks is not known any more.

Until a week has passed most hours of it are unknown. Then the same hour of the other days is the
next best, and is told as that. Hours are those of UTC.
"""

from dataclasses import dataclass, field
from typing import Annotated

from annotated_types import Ge, Le, Len

from index.entry import Timestamp

HOUR_S = 3600.0
WEEK_HOURS, DAY_HOURS = 168, 24
NEWEST_SHARE = 0.3
"""How much the newest week counts, once there were a few."""
COVERED_MIN_S = 1800.0
"""An hour of which less was seen says nothing."""
GAP_S_MAX = 60.0
"""Two looks further apart say nothing of the time between: the machine slept, or the clock was
set."""
REMEMBERED_WEEKS = 8
UTILISATION_MAX = 2.0
"""More than twice as much as can be done is as good as twice: one such hour must not be the week's
whole average."""

Share = Annotated[float, Ge(0), Le(UTILISATION_MAX)]


@dataclass(slots=True)
class Slot:
    """One hour of the week."""

    utilisation: Share = 0.0
    weeks: Annotated[int, Ge(0)] = 0
    """How many of them it was learned from."""
    hour: Annotated[int, Ge(0)] = 0
    """The last of them, counted since the epoch."""


@dataclass(slots=True)
class Learned:
    """What outlives a restart."""

    slots: Annotated[list[Slot], Len(WEEK_HOURS, WEEK_HOURS)] = field(
        default_factory=lambda: [Slot() for _ in range(WEEK_HOURS)]
    )
    hour: Annotated[int, Ge(0)] = 0
    """The hour under way, counted since the epoch."""
    used_s: Annotated[float, Ge(0)] = 0.0
    """The integral of its utilisation so far."""
    covered_s: Annotated[float, Ge(0), Le(HOUR_S)] = 0.0
    """How much of it that is about."""


@dataclass(frozen=True, slots=True)
class Expected:
    """One hour to come, or the one under way."""

    begins: Timestamp
    utilisation: float | None
    """None: nobody knows."""
    weeks: int = 0
    """How many weeks' same hour say so; 0: none."""
    days: int = 0
    """Then, how many other days' same hour do."""

    @property
    def ends(self) -> Timestamp:
        return Timestamp(self.begins + HOUR_S)


class History:
    def __init__(self, learned: Learned | None = None) -> None:
        self.learned = learned or Learned()
        self._last: Timestamp | None = None

    def __repr__(self) -> str:
        known = sum(slot.weeks > 0 for slot in self.learned.slots)
        return f"<History {known} of {WEEK_HOURS} hours known>"

    def note(self, utilisation: float | None, now: Timestamp) -> None:
        """It has been that since the last note; None: that says nothing of usual times."""
        last, self._last = self._last, now
        if last is None or not 0 <= now - last <= GAP_S_MAX:
            last = now
        border = Timestamp(_hour(now) * HOUR_S)
        if last < border:
            self._add(utilisation, _hour(last), border - last)
        self._add(utilisation, _hour(now), now - max(last, border))

    def next(self, now: Timestamp, hours: int = DAY_HOURS) -> list[Expected]:
        """The hour under way and those that follow."""
        first = _hour(now)
        return [self._expected(hour) for hour in range(first, first + hours)]

    def _expected(self, hour: int) -> Expected:
        begins = Timestamp(hour * HOUR_S)
        slot = self._slot(hour)
        if _known(slot, hour):
            return Expected(begins, slot.utilisation, weeks=slot.weeks)
        days = [self._slot(hour + DAY_HOURS * day) for day in range(1, 7)]
        alike = [day.utilisation for day in days if _known(day, hour)]
        if not alike:
            return Expected(begins, None)
        return Expected(begins, sum(alike) / len(alike), days=len(alike))

    def _slot(self, hour: int) -> Slot:
        return self.learned.slots[hour % WEEK_HOURS]

    def _add(self, utilisation: float | None, hour: int, seconds: float) -> None:
        now = self.learned
        if hour != now.hour:
            self._fold()
            now.hour, now.used_s, now.covered_s = hour, 0.0, 0.0
        if utilisation is not None:
            seconds = min(seconds, HOUR_S - now.covered_s)  # a clock that was set back
            now.used_s += min(max(utilisation, 0.0), UTILISATION_MAX) * seconds
            now.covered_s += seconds

    def _fold(self) -> None:
        """The hour is over."""
        over, slot = self.learned, self._slot(self.learned.hour)
        if over.covered_s < COVERED_MIN_S or (slot.weeks and slot.hour == over.hour):
            return
        if not _known(slot, over.hour):
            slot.weeks = 0
        share = max(1 / (slot.weeks + 1), NEWEST_SHARE)
        mean = min(over.used_s / over.covered_s, UTILISATION_MAX)
        slot.utilisation += share * (mean - slot.utilisation)
        slot.weeks += 1
        slot.hour = over.hour


def _hour(moment: Timestamp) -> int:
    """Counted since the epoch."""
    return int(moment // HOUR_S)


def _known(slot: Slot, hour: int) -> bool:
    """Not from long ago, nor from a future that a wrong clock told of."""
    return slot.weeks > 0 and 0 <= hour - slot.hour <= REMEMBERED_WEEKS * WEEK_HOURS
