"""How many requests at a time get the most done, as the upstream's answers tell.

A server that queues lets first tokens wait, and one that refuses says so. A server that computes
everything it has at once does neither: with each request all of them become slower, until more at a
time are not more a second, or fewer. That is the knee of its throughput, and it is found by
measuring. An answer that took four times as long as it usually does, 12 at a time, tells that 12
get done there what 3 would who are not in each other's way; one that nobody waited for to its end
tells that nothing got done. So the numbers that were seen, each doubling of them a `Point`, make up
a curve, and the limit goes to where that is highest: down where twice as many are not worth a tenth
more, up again where more were worth more, and where nothing smaller was ever seen, there to look.
As long as there is room and people wait for their answers, it does nothing.

Slower answers may be the server's own and not the crowd's. Then the curve is wrong, but only until
it is measured anew: with fewer at a time less gets done, and what is known of more brings them
back. So every move is given time for some answers that began after it, and while people still wait
for their answers it goes no further down than half.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil, inf, log2
from typing import NamedTuple

from index.entry import Instant

ANSWERS_MIN, ROUND = 10, 0.25
"""Fewer tell nothing, nor does a smaller share of those that are there at a time: the first to come
to their ends are the fastest."""
SMOOTHING = 0.15
KNOWN_S = 3600.0
"""What was seen longer ago was another server, or might as well have been."""
APART = 1.35
"""Numbers that differ by less are not compared."""
LOSS, GAIN, GAIN_BACK = 0.85, 1.1, 1.25
"""Fewer are better if more get so little done, or twice as many no more than so much; and twice as
many are if they get so much more done. That the last is more than the one before keeps the limit
from going to and fro."""
TWICE = 1.8
LOOK_MIN = 4
"""Smaller numbers are not looked at without reason."""
LEAVING = 0.4
"""If so many answers are not waited for, it is high time."""
SLACK = 2
"""Numbers that differ by so many do so by chance."""
KEPT = 3
"""After a move, what was seen before counts as so many answers."""
STEP = 1.25
"""How the limit grows while it is reached and nothing is known of more."""
HOLD_S, HOLD_S_MAX = 10.0, 320.0
"""After it was lowered, the limit stays for so long before it grows, and twice as long each time
that it had to be lowered again since it had grown."""
_LONG_AGO, _NEVER = Instant(0.0), Instant(-inf)


class Since(NamedTuple):
    """When a request began, and how busy its upstream was."""

    at: Instant
    number: int
    """Requests there, itself included."""
    busy_s: float
    """The same, summed over all time before, in requests times seconds."""


@dataclass(slots=True)
class Point:
    """What was seen of late with about one number of requests at a time."""

    number: float = 0.0
    done: float = 0.0
    """How much gets done, in requests that nobody hinders."""
    left: float = 0.0
    """The share of answers that were not waited for."""
    answers: int = 0
    weight: int = 0
    """As of so many answers."""
    at: Instant = _LONG_AGO

    def observe(self, number: float, speed: float, now: Instant) -> None:
        self.answers += 1
        self.weight += 1
        share = max(SMOOTHING, 1 / self.weight)
        self.number += share * (number - self.number)
        self.done += share * (number * speed - self.done)
        self.left += share * ((speed == 0) - self.left)
        self.at = now

    def known(self, now: Instant) -> bool:
        return self.answers >= ANSWERS_MIN and now - self.at < KNOWN_S


@dataclass(slots=True)
class Knee:
    most: float = inf
    """How many requests at a time there should be; infinite: nothing speaks for fewer."""
    points: dict[int, Point] = field(default_factory=dict)
    """By the number's logarithm."""
    moved_at: Instant = _LONG_AGO
    answers: int = 0
    """Seen since then, of those that began after."""
    grown: bool = False
    """Since it was lowered."""
    hold_s: float = HOLD_S
    holds_until: Instant = _NEVER

    def observe(
        self, number: float, speed: float, began: Instant, now: Instant, *, full: bool
    ) -> None:
        """An answer that began then took `1 / speed` times as long as usual, or with 0 was not
        waited for. On average there were `number` at a time; `full`: as many as there may be."""
        if began < self.moved_at:
            return
        size = round(log2(max(number, 1.0)))
        point = self.points.get(size)
        if point is None or now - point.at >= KNOWN_S:
            point = self.points[size] = Point()
        point.observe(number, speed, now)
        self.answers += 1
        enough = max(ANSWERS_MIN, ROUND * number)
        if self.answers >= enough and point.answers >= ANSWERS_MIN:
            self._judge(point, now, full)

    def _judge(self, here: Point, now: Instant, full: bool) -> None:
        if not full and here.left < LEAVING:
            return  # nobody minds
        known = [one for one in self.points.values() if one.known(now)]
        more = _better_more(here, known) if full else None
        fewer = _better_fewer(here, known)
        if more is not None and more > self.most:
            self.hold_s, self.holds_until = HOLD_S, now
            self._move(more, now)
        elif fewer is not None:
            self._lower(fewer, now)
        elif full and now >= self.holds_until and here.number * APART >= self.most:
            self.grown = True
            self._move(ceil(self.most * STEP), now)

    def _lower(self, number: float, now: Instant) -> None:
        again = self.grown and now < self.holds_until + HOLD_S_MAX
        self.grown = False
        self.hold_s = min(2 * self.hold_s, HOLD_S_MAX) if again else HOLD_S
        self.holds_until = Instant(now + self.hold_s)
        self._move(number, now)

    def _move(self, most: float, now: Instant) -> None:
        self.most, self.moved_at, self.answers = max(1, round(most)), now, 0
        for point in self.points.values():
            point.weight = min(point.weight, KEPT)  # what is seen from now on tells more


def steady(before: int, after: int) -> bool:
    """Were there about as many at an answer's end as when it began? If they came or went meanwhile,
    it depends on the server whether they were in its way."""
    return max(before, after) <= APART * min(before, after) + SLACK


def _better_fewer(here: Point, known: Sequence[Point]) -> float | None:
    """A smaller number that gets as much done, or might."""
    fewer = [one for one in known if one.number * APART <= here.number]
    if not fewer:
        return here.number / 2 if here.number >= 2 * LOOK_MIN else None
    best = max(fewer, key=lambda one: one.done)
    enough = GAIN if here.number >= TWICE * best.number else LOSS
    if here.done >= enough * best.done:
        return None
    return best.number if here.left >= LEAVING else max(best.number, here.number / 2)


def _better_more(here: Point, known: Sequence[Point]) -> float | None:
    """The next larger number that gets more done."""
    more = [
        one.number
        for one in known
        if one.number >= APART * here.number
        and one.done > here.done * (GAIN_BACK if one.number >= TWICE * here.number else GAIN)
    ]
    return min(more, default=None)
