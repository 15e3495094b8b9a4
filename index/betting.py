"""What labels that come one by one say about a rate of errors, valid whenever one looks.

Two instruments. The interval holds at all moments at once, the proof of a cut at each.

**Ladder** answers "may everything that scores at least this much be served?" for a handful of
cuts at once. For each cut a gambler bets against the claim that the share of errors above it is
`alpha` or more. Per label it wins `f alpha / (1 - alpha)` of its wealth when the pair was right and
loses `f` when it was wrong; if the claim is true, that is no better than a fair game, and its
wealth exceeds 1/d with probability d at most (Ville). So a wealth of 1/d is proof at level d.
Nobody knows the best fraction `f` beforehand (it is about 1 - error/alpha), hence several gamblers
with a fraction each, whose mean wealth counts. (Waudby-Smith and Ramdas, "Estimating means of
bounded random variables by betting", JRSS-B 2024.) To prove a cut of 1 % at 97.5 %
takes 600 labels without an error, 950 with 0.2 % of them wrong and 1,900 with 0.4 %.

Wealth is raised to a power just under one at each label, which forgets: by Jensen its expectation
stays at one at most, so that the proof holds at each moment (no more at a moment that is chosen for
what it shows), and what was true last month does not carry a cut for ever.

**Rate** answers "how many of the answers that were served were wrong?" from a sample of them, each
drawn with a probability known beforehand: the mean of `wrong / probability`, which is unbiased
however the probabilities change, and an interval, from the same kind of game. An answer that was
drawn with probability p and is wrong counts X = 1/p, every other one nothing; so X is worth on
average 1 if the answer is wrong, and 0 if not. Of a gambler who stakes a share `a` of his wealth
against X each time, E[1 - aX] <= exp(-a E[X]), so that his wealth, times exp(a errors), is no
better than a fair game; and of one who stakes on it, E[1 + aX] <= exp(a E[X]). Hence, of a number
of gamblers with different stakes, the mean of

    exp(a errors) * product of (1 - aX)    and of    exp(-a errors) * product of (1 + aX)

exceeds 1/d with probability d at most, ever; the numbers of errors at which it does not are the
interval. It supposes nothing about the stream: not that errors are alike, nor that they do not
drift, nor how the probabilities are chosen, as long as that is before the draw. A gambler who would
have staked more than all he has (aX > 1) is out, and is counted as having nothing. (Waudby-Smith
and Ramdas, as above; with bounds on the sum and not on a mean that stays, as errors drift.)
With 5,000 labels and 1 % of errors it is 1.1 % wide where one share is checked throughout, and
1.3 % where ever fewer are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, log
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

FRACTIONS: Final = np.array([0.25, 0.5, 0.75])
"""More of them come closer to the best, and cost more labels in the mean than that saves."""

STAKES: Final[NDArray[np.float64]] = 0.95 * 0.5 ** np.arange(16, dtype=np.float64)
"""Of the gamblers of a `Rate`. The best one loses about half of what he has at the heaviest error.
These serve for probabilities down to 1 in 30,000; where fewer are checked, no upper bound is known.
"""
_DOUBT_ABOVE: Final = 0.75
"""Of the doubt of an interval, what is spent on its upper bound: that one has to be narrow."""


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

    __slots__ = ("_heaviest", "_lost", "_served", "_sum", "_won", "labels", "wrong")

    def __init__(self) -> None:
        self._served = self.labels = self.wrong = 0
        self._sum = 0.0
        self._heaviest = 1.0
        self._lost = np.zeros(len(STAKES))  # log wealth of those who stake against errors
        self._won = np.zeros(len(STAKES))  # and of those who stake on them

    def state(self) -> list[float]:
        return [
            *(self._served, self.labels, self.wrong, self._sum, self._heaviest),
            *self._lost.tolist(),
            *self._won.tolist(),
        ]

    @classmethod
    def of(cls, state: Sequence[float]) -> Self:
        rate = cls()
        rate._served, rate.labels, rate.wrong = (int(number) for number in state[:3])
        rate._sum, rate._heaviest = state[3:5]
        rate._lost, rate._won = np.array(state[5:], np.float64).reshape(2, len(STAKES))
        return rate

    def unlabelled(self, probability: float) -> None:
        """An answer was served and not drawn, though with `probability` it would have been."""
        self._heaviest = max(self._heaviest, 1 / probability)
        self._served += 1

    def label(self, wrong: bool, probability: float) -> None:
        """An answer that was drawn with `probability` proved right, or wrong."""
        self.unlabelled(probability)
        self.labels += 1
        if wrong:
            self.wrong += 1
            self._sum += 1 / probability
            staked = STAKES / probability
            self._lost += np.log1p(-np.minimum(staked, 0.999))  # who has no more is out anyway
            self._won += np.log1p(staked)

    def interval(self, confidence: float = 0.95) -> Interval:
        """What is known now. Covers the share among all served so far, at all times at once."""
        if not self._served:
            return Interval(0.0, 0.0, 1.0, 0, 0)
        proof = log(len(STAKES) / (1 - confidence))
        playing = STAKES * self._heaviest < 1
        most = _errors(self._lost[playing], STAKES[playing], proof - log(_DOUBT_ABOVE))
        least = _errors(self._won, -STAKES, proof - log(1 - _DOUBT_ABOVE))
        return Interval(
            min(self._sum / self._served, 1.0),
            min(max(least / self._served, 0.0), 1.0),
            min(most / self._served, 1.0),
            self.labels,
            self._served,
        )


def _errors(log_wealth: NDArray[np.float64], stakes: NDArray[np.float64], proof: float) -> float:
    """The number of errors at which the sum of `exp(log_wealth + stakes * errors)` is exp(proof).

    By Newton's method, on the logarithm of the sum, which is convex: from where a single gambler
    has the proof it comes down to the solution and never beyond.
    """
    if not len(stakes):
        return inf
    alone = (proof - log_wealth) / stakes
    errors = alone.min() if stakes[0] > 0 else alone.max()
    for _ in range(50):
        each = log_wealth + stakes * errors
        peak = each.max()
        shares = np.exp(each - peak)
        over = peak + log(shares.sum()) - proof
        if over < 1e-9:
            break
        errors -= over * shares.sum() / (shares @ stakes)
    return float(errors)
