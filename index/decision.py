"""Candidates and evidence in, serve or miss out.

Each of the nearest is weighed: the guard names its stratum, the calibrated model gives its score,
and the best one whose score reaches the cut of its stratum is served. Cuts are somebody else's
business (`index.control`): here they are a function.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import log
from typing import Annotated, Final, Literal

import numpy as np
from annotated_types import Ge, Gt, Le

from index.calibration import (
    AGREE,
    VOTED,
    WORDS,
    Calibration,
    Company,
    features,
    margin,
    probability,
    stratum,
)
from index.codes import Codes, Floats, likeness
from index.entry import Entry
from index.guard import Evidence, compare, read

REFUTED: Final = "refuted"
"""Stratum of a pair that was proven wrong: never served again, whatever the evidence."""

VERIFIED: Final = "verified"
"""Stratum of pairs that a cross-encoder was asked about; its score is the cross-encoder's."""
_DOUBTFUL: Final = (WORDS, VOTED)

COMPARED_MAX: Final = 6
"""Candidates whose words are looked at, the nearest; the others only vote. To read a question that
was not read lately takes 0.2 ms, and what is served is rarely behind six that are not."""

_ENTRY_PRIOR: Final = 20.0
"""An entry's own record weighs as much as what is known of all, once it has so many labels."""


@dataclass(frozen=True, slots=True)
class DecisionSettings:
    """How many answers by meaning may be wrong, and what finding that out may cost."""

    max_error: Annotated[float, Gt(0.0), Le(0.2)] = 0.01
    """The share of semantic hits that may be wrong. Cuts are set so that this holds, and what
    became of it is shown with an interval."""
    confidence: Annotated[float, Gt(0.5), Le(0.9999)] = 0.95
    """How sure a cut must be of that before it serves, and of what interval is shown."""
    memory_labels: Annotated[int, Gt(100)] = 10_000
    """After so many labels what was learned counts for a third: the world changes."""
    shadow_min: Annotated[float, Ge(0.0), Le(1.0)] = 0.005
    """Of the answers served by meaning, the share that is also asked of the upstream after
    delivery, and compared. A new class of prompts begins with `shadow_max`; the more is known of
    it the fewer are checked, down to this."""
    shadow_max: Annotated[float, Ge(0.0), Le(1.0)] = 0.5
    """The same where nothing is known yet, and after an alarm. 0: nothing is ever checked."""
    shadow_tokens_per_day: Annotated[int, Ge(0)] = 1_000_000
    """Tokens that such checks may cost in a day; once spent, none until the next."""
    judge_model: str = ""
    """A model that the upstreams have, asked whether two answers say the same where nothing cheaper
    can tell, never while a client waits. Unset: such a pair is no label."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A cached question near the asked one."""

    id: int
    text: str
    similarity: float
    answer: int = 0
    """Candidates with the same number are known to have the same answer. 0: its own."""
    right: int = 0
    """How often it proved right when served for another question, or when it would have been."""
    wrong: int = 0
    refuted: bool = False
    """Whether it was proven wrong for this very question."""
    codes: Codes | None = field(default=None, compare=False, repr=False)
    """Its vector: how close are neighbours to one another? Not kept once it was weighed."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A candidate, weighed."""

    candidate: Candidate
    evidence: Evidence
    stratum: str
    score: float
    """Log odds that its answer is right."""
    cut: float
    """What the score had to reach; infinite where nothing is served."""

    @property
    def probability(self) -> float:
        return probability(self.score)

    @property
    def passes(self) -> bool:
        return self.score >= self.cut


@dataclass(frozen=True, slots=True)
class Serve:
    chosen: Judged
    judged: tuple[Judged, ...]


@dataclass(frozen=True, slots=True)
class Match:
    """An entry found for a prompt, and how."""

    entry: Entry
    kind: Literal["exact", "semantic", "redis", "stale"]
    decision: Serve | None = None
    """What a semantic match rests on."""

    @property
    def similarity(self) -> float:
        """Cosine of the two questions; 1.0 for an exact match."""
        return self.decision.chosen.candidate.similarity if self.decision else 1.0


@dataclass(frozen=True, slots=True)
class Miss:
    reason: str
    """no-candidate, below-cut, veto:NAME of the best candidate; or of whoever did not even ask."""
    judged: tuple[Judged, ...] = ()
    """Best first."""


def decide(
    asked_text: str,
    candidates: Sequence[Candidate],
    calibration: Calibration,
    cut: Callable[[str], float],
) -> Serve | Miss:
    """The best candidate that may be served, or why none may."""
    return verdict(weigh(asked_text, candidates, calibration, cut))


def verdict(judged: tuple[Judged, ...]) -> Serve | Miss:
    """What follows from candidates that were weighed."""
    if not judged:
        return Miss("no-candidate")
    for one in judged:
        if one.passes:
            return Serve(one, judged)
    best = judged[0]
    reason = "below-cut" if best.evidence.veto is None else f"veto:{best.evidence.veto}"
    return Miss("refuted" if best.candidate.refuted else reason, judged)


def doubtful(miss: Miss, most: int) -> list[Judged]:
    """The candidates of a miss that a second opinion may yet make a hit, best first."""
    return [one for one in miss.judged if one.stratum in _DOUBTFUL][:most]


def reconsidered(
    miss: Miss,
    doubted: Sequence[Judged],
    opinions: Sequence[float],
    cut: Callable[[str], float],
) -> Serve | Miss:
    """The decision once a second opinion is there: a probability for each that was doubted."""
    limit = cut(VERIFIED)
    again = tuple(
        replace(one, stratum=VERIFIED, score=_log_odds(opinion), cut=limit)
        for one, opinion in zip(doubted, opinions, strict=True)
    )
    judged = (*sorted(again, key=lambda one: -one.score), *miss.judged)
    if judged[0].passes:
        return Serve(judged[0], judged)
    return replace(miss, judged=judged)


def _log_odds(probability: float) -> float:
    kept = min(max(probability, 1e-6), 1 - 1e-6)
    return log(kept / (1 - kept))


def weigh(
    asked_text: str,
    candidates: Sequence[Candidate],
    calibration: Calibration,
    cut: Callable[[str], float],
) -> tuple[Judged, ...]:
    """The nearest candidates, weighed; those that agree and the likeliest first. All vote."""
    asked = read(asked_text)
    found = []
    nearest = sorted(candidates, key=lambda one: -one.similarity)
    alike = closeness(nearest)
    for place, candidate in enumerate(nearest[:COMPARED_MAX]):
        evidence = compare(asked, read(candidate.text))
        around = company(place, nearest, alike)
        score = calibration.score(features(candidate.similarity, around, evidence))
        score += _own_record(candidate)
        name = REFUTED if candidate.refuted else stratum(around, evidence)
        limit = float("inf") if candidate.refuted else cut(name)
        found.append(Judged(replace(candidate, codes=None), evidence, name, score, limit))
    return tuple(sorted(found, key=lambda one: (one.stratum != AGREE, -one.score)))


def closeness(candidates: Sequence[Candidate]) -> Floats | None:
    """Of each with each; None where a vector is not known."""
    codes = [one.codes for one in candidates if one.codes is not None]
    return likeness(np.stack(codes)) if codes and len(codes) == len(candidates) else None


def company(place: int, candidates: Sequence[Candidate], alike: Floats | None) -> Company:
    """Neighbours vote with the answers that they are known to have."""
    own = candidates[place]
    same = [
        at
        for at, one in enumerate(candidates)
        if at == place or (own.answer and one.answer == own.answer)
    ]
    rivals = [one.similarity for at, one in enumerate(candidates) if at not in same]
    belonging = 0.0
    if alike is not None and len(same) > 1:
        near = sum(candidates[at].similarity for at in same) / len(same)
        belonging = near - _cohesion(alike, same)
    lead = margin(own.similarity, max(rivals, default=None))
    return Company(lead, len(same) - 1, len(rivals), belonging)


def _cohesion(alike: Floats, members: list[int]) -> float:
    """The mean cosine of two of them."""
    chosen = np.zeros(len(alike), np.float32)
    chosen[members] = 1.0
    count = len(members)
    return (float(chosen @ alike @ chosen) - count) / (count * (count - 1))


def _own_record(candidate: Candidate) -> float:
    """What an entry's own labels add to its score; its error shrinks towards everybody's."""
    if not candidate.right and not candidate.wrong:
        return 0.0
    usual = 0.01
    error = (candidate.wrong + _ENTRY_PRIOR * usual) / (
        candidate.right + candidate.wrong + _ENTRY_PRIOR
    )
    return log((1 - error) / error) - log((1 - usual) / usual)
