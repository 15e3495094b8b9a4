"""Candidates and evidence in, serve or miss out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Le

from index.guard import Evidence, compare, read

COMPARED_MAX = 4
"""Candidates whose words are looked at. Reading one that was not read lately takes 0.1 ms, and what
stands for a question is rarely behind three that do not."""

Similarity = Annotated[float, Ge(0.0), Le(1.0)]


@dataclass(frozen=True, slots=True)
class DecisionSettings:
    """How similar two questions have to be, by how well their words agree.

    The guard carries the precision, not the cosine: see docs/semantic.md for what was measured.
    """

    similarity_min: Similarity = 0.55
    """When every content word of either question is accounted for by the other."""
    similarity_min_partial: Similarity = 0.85
    """When one side has an optional word more (*available*, which *city*)."""


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
    near = [c for c in candidates if c.similarity >= settings.similarity_min]  # no NaN passes
    asked = read(asked_text)
    reason = ""
    for candidate in sorted(near, key=lambda c: c.similarity, reverse=True)[:COMPARED_MAX]:
        evidence = compare(asked, read(candidate.text))
        if evidence.veto:
            reason = reason or f"veto:{evidence.veto}"
        elif candidate.similarity >= _floor(evidence, settings):
            return Serve(candidate.id, candidate.similarity)
    return Miss(reason or "below-threshold")


def _floor(evidence: Evidence, settings: DecisionSettings) -> float:
    return settings.similarity_min_partial if evidence.extra else settings.similarity_min
