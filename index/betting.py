"""What labels that come one by one say about a rate of errors, valid whenever one looks.

Two instruments. The interval holds at all moments at once, the proof of a cut at each.

**Ladder** answers "may everything that scores at least this much be served?" for a handful of
cuts at once. For each cut a gambler bets against the claim that the share of errors above it is
`alpha` or more. Per label it wins `f alpha / (1 - alpha)` of its wealth when the pair was right and
loses `f` when it was wrong; if the claim is true, that is no better than a fair game, and its
wealth exceeds 1/d with probability d at most (Ville). So a wealth of 1/d is proof at level d.
Nobody knows the best fraction `f` beforehand (it is about 1 - error/alpha), hence several gamblers
with a fraction each, whose mean wealth counts. (Waudby-Smith and Ramdas, "Estimating means of
bounded random variables by betting", JRSS-B 2024.) With no error among them, some log(40)/alpha
labels prove a cut at 5 %: 400 at 1 %.

Wealth is raised to a power just under one at each label, which forgets: by Jensen its expectation
stays at one at most, so that the proof holds at each moment (no more at a moment that is chosen for
what it shows), and what was true last month does not carry a cut for ever.

**Rate** answers "how many of the answers that were served were wrong?" from a sample of them, each
drawn with a probability known beforehand: the mean of `wrong / probability`, which is unbiased
however the probabilities change, and an interval of the empirical-Bernstein kind, stitched over
time (Howard, Ramdas, McAuliffe, Sekhon, "Time-uniform, nonparametric, nonasymptotic confidence
sequences", Annals of Statistics 2021, theorem 4 and equation 10). It supposes nothing about the
stream: not that errors are alike, nor that they do not drift. With 5,000 labels and 1 % of errors
it is 1.5 % wide where one share is checked throughout, and 2.0 % where ever fewer are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, log, sqrt
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

FRACTIONS: Final = np.array([0.05, 0.15, 0.35, 0.6, 0.8, 0.95])

_STITCH_S: Final = 1.4
_ZETA_S: Final = 3.10554728
"""The Riemann zeta function at 1.4."""
_K1: Final = (2**0.25 + 2**-0.25) / sqrt(2)
_K2: Final = (sqrt(2) + 1) / 2


class Ladder:
    """Wealth against "the error above this cut is alpha or more", for each of `rungs`."""

    __slots__ = ("_log_wealth", "_rungs", "labels", "wrong")

    def __init__(self, rungs: NDArray[np.float64]) -> None:
        self._rungs = rungs
        self._log_wealth = np.zeros((len(rungs), len(FRACTIONS)))
        self.labels = self.wrong = 0.0

    def bet(self, score: float, wrong: bool, *, alpha: float, stake: float, memory: float) -> None:
        """One label. `stake`: its weight beside the heaviest that may come, in (0, 1].

        `memory`: how many labels of stake 1 back the past counts for 1/e.
        """
        gains = np.log1p(-FRACTIONS * stake) if wrong else _won(alpha, stake)
        told = self._rungs <= score  # what a label says nothing of is not forgotten for it
        self._log_wealth[told] *= 1 - stake / memory
        self._log_wealth[told] += gains
        self.labels += 1
        self.wrong += wrong

    def believe(
        self,
        right: NDArray[np.float64],
        wrong: NDArray[np.float64],
        *,
        alpha: float,
        loss_max: float = inf,
    ) -> None:
        """Begin with what was counted elsewhere: labels above each rung, right and wrong ones.

        At no rung is more lost than `loss_max`: whoever begins with less than nothing is on the
        safe side by any amount, and is to be able to come back.
        """
        lost = np.log1p(-FRACTIONS)
        wealth = right[:, None] * _won(alpha, 1.0) + wrong[:, None] * lost
        self._log_wealth += np.maximum(wealth, -loss_max)

    def heed(self, elder: "Ladder", share: float) -> None:
        """Begin with a share of what another has lost: it is no proof, but it is a warning."""
        losing = elder.proof() < 0
        self._log_wealth[losing] += share * elder._log_wealth[losing]

    def shrink(self, share: float) -> None:
        """Keep this share of the evidence only, for and against."""
        self._log_wealth *= share

    def state(self) -> dict[str, Any]:
        return {
            "wealth": self._log_wealth.tobytes(),
            "labels": self.labels,
            "wrong": self.wrong,
        }

    @classmethod
    def of(cls, rungs: NDArray[np.float64], state: Mapping[str, Any]) -> Self:
        ladder = cls(rungs)
        wealth = np.frombuffer(state["wealth"]).reshape(len(rungs), len(FRACTIONS))
        ladder._log_wealth = wealth.copy()
        ladder.labels, ladder.wrong = state["labels"], state["wrong"]
        return ladder

    def proof(self) -> NDArray[np.float64]:
        """Log of the mean wealth, for each rung."""
        peak = self._log_wealth.max(axis=1)
        mean = np.exp(self._log_wealth - peak[:, None]).mean(axis=1)
        found: NDArray[np.float64] = peak + np.log(mean)
        return found


def _won(alpha: float, stake: float) -> NDArray[np.float64]:
    gains: NDArray[np.float64] = np.log1p(FRACTIONS * stake * alpha / (1 - alpha))
    return gains


@dataclass(frozen=True, slots=True)
class Interval:
    """A share with its bounds, from `labels` labels on `served` answers."""

    estimate: float
    low: float
    high: float
    labels: int
    served: int


class Rate:
    """The share of served answers that were wrong, from a sample of them."""

    __slots__ = ("_heaviest", "_served", "_squares", "_sum", "labels", "wrong")

    def __init__(self) -> None:
        self._served = self.labels = self.wrong = 0
        self._sum = self._squares = 0.0
        self._heaviest = 1.0

    def state(self) -> list[float]:
        return [
            self._served, self.labels, self.wrong, self._sum, self._squares, self._heaviest,
        ]  # fmt: skip

    @classmethod
    def of(cls, state: Sequence[float]) -> Self:
        rate = cls()
        rate._served, rate.labels, rate.wrong = (int(number) for number in state[:3])
        rate._sum, rate._squares, rate._heaviest = state[3:]
        return rate

    def unlabelled(self, probability: float) -> None:
        """An answer was served and not drawn, though with `probability` it would have been."""
        self._add(0.0, probability)

    def label(self, wrong: bool, probability: float) -> None:
        """An answer that was drawn with `probability` proved right, or wrong."""
        self.labels += 1
        self.wrong += wrong
        self._add(wrong / probability, probability)

    def _add(self, value: float, probability: float) -> None:
        expected = self._sum / self._served if self._served else 0.0
        self._heaviest = max(self._heaviest, 1 / probability)
        self._squares += (value - min(expected, 1.0)) ** 2
        self._sum += value
        self._served += 1

    def interval(self, confidence: float = 0.95) -> Interval:
        """What is known now. Covers the share among all served so far, at all times at once."""
        if not self._served:
            return Interval(0.0, 0.0, 1.0, 0, 0)
        scale = self._heaviest
        reach = scale * _boundary(self._squares / scale**2, (1 - confidence) / 2) / self._served
        mean = self._sum / self._served
        return Interval(
            min(mean, 1.0),
            max(mean - reach, 0.0),
            min(mean + reach, 1.0),
            self.labels,
            self._served,
        )


def _boundary(variance: float, level: float) -> float:
    """Howard et al., equation 10, with eta 2, m 1, scale 1."""
    v = max(variance, 1.0)
    length = _STITCH_S * log(log(2 * v)) + log(_ZETA_S / (level * log(2) ** _STITCH_S))
    return _K1 * sqrt(v * length) + _K2 * length
