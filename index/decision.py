"""Candidates and evidence in, serve or miss out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Le

from index.guard import Evidence, compare, read

Similarity = Annotated[float, Ge(0.0), Le(1.0)]


@dataclass(frozen=True, slots=True)
class DecisionSettings:
    """How similar two questions have to be, by how well their words agree."""

    similarity_min: Similarity = 0.65
    """When every content word is the same, in its place."""
    similarity_min_related: Similarity = 0.65
    """When a word is matched by a synonym, a phrase stands elsewhere, or the question is put in
    another way."""
    similarity_min_partial: Similarity = 0.85
    """When one side has an optional word more."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A cached question near the asked one."""

    id: int
    text: str
    similarity: float


@dataclass(frozen=True, slots=True)
class Serve:
    id: int
    similarity: float


@dataclass(frozen=True, slots=True)
class Miss:
    reason: str
    """no-candidate, below-threshold, or veto:NAME of the best candidate that was near enough."""


def decide(
    asked_text: str, candidates: Sequence[Candidate], settings: DecisionSettings
) -> Serve | Miss:
    """The first candidate, best first, whose answer may be served; else the most telling reason."""
    if not candidates:
        return Miss("no-candidate")
    asked = read(asked_text)
    reason = ""
    for candidate in sorted(candidates, key=lambda c: c.similarity, reverse=True):
        if not candidate.similarity >= settings.similarity_min:  # also refuses NaN
            break
        evidence = compare(asked, read(candidate.text))
        if evidence.veto:
            reason = reason or f"veto:{evidence.veto}"
        elif candidate.similarity >= _floor(evidence, settings):
            return Serve(candidate.id, candidate.similarity)
    return Miss(reason or "below-threshold")


def _floor(evidence: Evidence, settings: DecisionSettings) -> float:
    if evidence.extra:
        return settings.similarity_min_partial
    if evidence.related or evidence.moved or evidence.rephrased:
        return settings.similarity_min_related
    return settings.similarity_min
