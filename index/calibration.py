"""How likely two questions have the same answer: evidence in, a calibrated score out.

A logistic model of some numbers, fitted by `scripts/fit_calibration` and kept as data in
`calibration.json` with its recipe. It orders candidates; whether one is good enough to be served is
not for it to say, but for `index.control`, which watches what becomes of such pairs. The file also
holds what was counted of each *stratum* while fitting: where a new node begins.

A **stratum** is what the guard says of a pair: `agree`, `words` or `voted`, or its typed veto.
Pairs of one stratum err alike, those of two do not: to each its own cut.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from math import exp, log1p
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from index.guard import Evidence

AGREE: Final = "agree"
WORDS: Final = "words"
"""Stratum of pairs in which words differ, one for another or one more, and nothing that has a
name. The other strata are called as the typed veto that the guard gives."""
VOTED: Final = "voted"
"""The same, where other neighbours of the question are known to have the candidate's answer."""
_MERE_WORDS: Final = frozenset(("content", "detail"))

FEATURES: Final = (
    "nearness",
    "margin",
    "rivals",
    "votes",
    "unanimity",
    "unopposed",
    "nearness_voted",
    "margin_voted",
    "belonging",
    "belonging_unopposed",
    "overlap",
    "unmatched",
    "related",
    "moved",
    "rephrased",
    "typed",
)
RUNGS: Final = np.arange(-4.0, 8.0, 0.25)
"""Scores at which a cut may lie: odds of 1:55 to 2,300:1 that the answers are the same. Of pairs
whose words agree nearly all are right whatever their score: another near question with another
answer speaks against a guess, and not against words."""
SHIPPED: Final = (AGREE, VOTED)
"""Strata of which a new node believes what was counted while fitting. To be of the second, a pair
needs answers that were compared: by then the node is no longer new to that traffic."""

_MARGIN_MAX: Final = 0.3
_BELONGING_MAX: Final = 0.3
_RIVALS_MAX: Final = 15
_UNMATCHED_MAX: Final = 6


@dataclass(frozen=True, slots=True)
class Company:
    """What stands around a candidate: neighbours of the question whose answers are known."""

    margin: float
    """Its cosine less that of the nearest with another answer; at most 0.3, which is also none."""
    votes: int
    """Neighbours known to have the same answer."""
    rivals: int
    """Neighbours with other answers."""
    belonging: float = 0.0
    """How near the question is to those that have this answer, less how near these are to one
    another, in mean cosines: a local outlier is near to some group and yet outside of it."""


def stratum(company: Company, evidence: Evidence) -> str:
    if evidence.veto is None:
        return AGREE
    if evidence.veto not in _MERE_WORDS:
        return evidence.veto
    return VOTED if company.votes else WORDS


def features(similarity: float, company: Company, evidence: Evidence) -> tuple[float, ...]:
    """The numbers of `FEATURES`, in that order."""
    words = evidence.matched + (evidence.left + evidence.right) / 2
    # Cosine is crowded near one: between 0.98 and 0.99 lies as much as between 0.8 and 0.9.
    nearness = -log1p(20 * (1 - min(similarity, 1.0)))
    lead = max(min(company.margin, _MARGIN_MAX), -_MARGIN_MAX)
    belonging = max(min(company.belonging, _BELONGING_MAX), -_BELONGING_MAX)
    unanimity = company.votes / (company.votes + company.rivals) if company.votes else 0.0
    return (
        nearness,
        lead,
        min(company.rivals, _RIVALS_MAX) / _RIVALS_MAX,
        log1p(company.votes),
        unanimity,
        float(unanimity == 1.0),
        nearness * unanimity,
        lead * unanimity,
        belonging,
        belonging * (unanimity == 1.0),
        evidence.matched / words if words else 0.0,
        min(evidence.left + evidence.right, _UNMATCHED_MAX),
        min(evidence.related, 3),
        float(evidence.moved),
        float(evidence.rephrased),
        float(evidence.veto is not None and evidence.veto not in _MERE_WORDS),
    )


def margin(similarity: float, rival: float | None) -> float:
    return _MARGIN_MAX if rival is None else min(similarity - rival, _MARGIN_MAX)


@dataclass(frozen=True, slots=True)
class Seen:
    """Pairs counted while fitting, right and wrong, whose score is at least each of `RUNGS`."""

    right: NDArray[np.float64]
    wrong: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Calibration:
    version: str
    intercept: float
    weights: tuple[float, ...]
    seen: dict[str, Seen]
    """By stratum; one that is not here begins without evidence, and so closed."""

    @classmethod
    def load(cls) -> Self:
        return cls.read((files("index") / "calibration.json").read_text("utf-8"))

    @classmethod
    def read(cls, text: str) -> Self:
        """Raises ValueError, KeyError for what `scripts/fit_calibration` does not write."""
        data = json.loads(text)
        if tuple(data["weights"]) != FEATURES or data["rungs"] != RUNGS.tolist():
            raise ValueError("the calibration was fitted to other features: fit it again")
        return cls(
            data["version"],
            data["intercept"],
            tuple(data["weights"].values()),
            {
                name: Seen(np.array(counts["right"], float), np.array(counts["wrong"], float))
                for name, counts in data["seen"].items()
            },
        )

    def score(self, numbers: Sequence[float]) -> float:
        """Log odds that the two have the same answer."""
        products = zip(self.weights, numbers, strict=True)
        return self.intercept + sum(weight * number for weight, number in products)


def probability(score: float) -> float:
    return 1 / (1 + exp(-score)) if score > -700 else 0.0
