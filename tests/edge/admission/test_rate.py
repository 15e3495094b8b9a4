"""A meter never grants more than its limit and its rate allow, whatever is given back."""

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from edge.admission.rate import Limit, Meter, Taken
from index.entry import Instant

UNITS, WINDOW_S = 60, 30.0
RATE = UNITS / WINDOW_S


@dataclass
class Arrival:
    at: float
    units: float


@dataclass
class Model:
    """All that was used, with its time: what a leaky bucket would hold is worked out anew."""

    arrivals: list[Arrival] = field(default_factory=list)

    def in_use(self, now: float) -> float:
        level, at = 0.0, 0.0
        for one in self.arrivals:
            level = max(level - (one.at - at) * RATE, 0.0) + one.units
            at = one.at
        return max(level - (now - at) * RATE, 0.0)

    def bursts(self) -> list[tuple[float, float]]:
        """Seconds, and units in them, of each stretch that begins and ends with an arrival."""
        found = []
        for at, first in enumerate(self.arrivals):
            units = 0.0
            for last in self.arrivals[at:]:
                units += last.units
                found.append((last.at - first.at, units))
        return found


class MeterMachine(RuleBasedStateMachine):
    taken: Bundle[tuple[Taken, Arrival]] = Bundle("taken")

    def __init__(self) -> None:
        super().__init__()
        self.meter = Meter(Limit(UNITS, WINDOW_S))
        self.model = Model()
        self.now = Instant(0.0)

    @rule(seconds=st.floats(0, 2 * WINDOW_S))
    def pass_time(self, seconds: float) -> None:
        self.now = Instant(self.now + seconds)

    @rule(target=taken, units=st.integers(1, UNITS))
    def take(self, units: int) -> tuple[Taken, Arrival]:
        if wait_s := self.meter.wait_s(units, self.now):
            self.now = Instant(self.now + wait_s)
            assert self.meter.wait_s(units, self.now) == 0  # it was told the truth
        arrival = Arrival(self.now, units)
        self.model.arrivals.append(arrival)
        return self.meter.take(units, self.now), arrival

    @rule(one=consumes(taken), share=st.floats(0, 1))
    def settle(self, one: tuple[Taken, Arrival], share: float) -> None:
        taken, arrival = one
        arrival.units = taken.units * share
        self.meter.settle(taken, arrival.units, self.now)
        self.meter.settle(taken, 0.0, self.now)  # a second time changes nothing

    @invariant()
    def no_more_in_use_than_it_thinks(self) -> None:
        assert self.model.in_use(self.now) <= self.meter._in_use(self.now) + 1e-3

    @invariant()
    def never_more_than_the_limit_and_the_rate(self) -> None:
        for seconds, units in self.model.bursts():
            assert units <= UNITS + RATE * seconds + 1e-3


TestMeter = MeterMachine.TestCase


def test_what_is_given_back_late_is_not_given_twice() -> None:
    meter = Meter(Limit(60, 60.0))
    taken = meter.take(60, Instant(0.0))
    assert meter.left(Instant(120.0)) == 60
    meter.take(60, Instant(120.0))
    meter.settle(taken, 0, Instant(120.0))
    assert meter.left(Instant(120.0)) == 0


def test_what_is_given_back_in_time_is_all_there() -> None:
    meter = Meter(Limit(60, 60.0))
    taken = meter.take(60, Instant(0.0))
    assert meter.wait_s(30, Instant(10.0)) == 20.0
    meter.settle(taken, 0, Instant(10.0))
    assert meter.left(Instant(10.0)) == 60
    assert meter.wait_s(61, Instant(10.0)) == float("inf")


@given(st.lists(st.integers(1, 60), max_size=50))
def test_whoever_waits_as_told_gets_the_whole_rate(costs: list[int]) -> None:
    meter, now = Meter(Limit(60, 60.0)), Instant(0.0)
    for units in costs:
        now = Instant(now + meter.wait_s(units, now))
        meter.spend(units, now)
    assert now <= max(sum(costs) - 60, 0) + 1e-3
