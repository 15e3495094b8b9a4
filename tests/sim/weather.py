"""What carries messages between simulated nodes: in order, late, and then perhaps not at all."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from tests.sim.node import Node

NOTICED_S = 6.0
"""A dead link is noticed at the latest after three heartbeats."""
REDIALLED_S = 0.3


@dataclass(slots=True)
class Weather:
    """How bad it is; drawn for each run."""

    delay_s: float
    jitter_s: float
    breaks_per_message: float


class Carrier:
    def __init__(
        self,
        random: Random,
        weather: Weather,
        later: Callable[[float, Callable[[], None]], None],
        time: Callable[[], float],
        touched: Callable[[Node], None],
    ) -> None:
        self.weather = weather
        self._random = random
        self._later = later
        self.time = time
        self.touched = touched
        """To be called when something came to a node."""

    def breaks(self) -> bool:
        """Does what carries a message break by it?"""
        return self._random.random() < self.weather.breaks_per_message

    def carry(self, arrivals: dict[str, float], way: str, arrive: Callable[[], None]) -> None:
        """Late, and after what went the same way before, which arrives when `arrivals` says."""
        delay_s = self.weather.delay_s + self._random.random() * self.weather.jitter_s
        due = max(self.time() + delay_s, arrivals.get(way, 0.0))
        arrivals[way] = due
        self._later(due - self.time(), arrive)

    def noticed(self, notice: Callable[[], None]) -> None:
        """Nothing arrives any more; whoever is at an end notices in its own time."""
        self._later(self._random.random() * NOTICED_S, notice)

    def again(self, dial: Callable[[], None]) -> None:
        self._later(REDIALLED_S * (1 + self._random.random()), dial)
