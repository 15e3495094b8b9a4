"""The decisions of late, by the name of their request: to be explained, or complained of.

A bounded memory, nothing of it is written down: the newest push out the oldest.
"""

from dataclasses import dataclass, replace
from typing import Any

from index.control import ClassReport
from index.decision import Judged, Match, Miss, Serve
from index.entry import CacheKey, Question, Scope

DECISIONS_MAX = 10_000
"""Of those that meaning was asked about, and of the others: some 400 bytes each, and up to six
candidates with their questions."""


@dataclass(frozen=True, slots=True)
class Decided:
    """What one request was answered with, and why. Holds no answer."""

    request_id: str
    scope: Scope
    key: CacheKey
    kind: str = ""
    """The class of prompts whose record the decision rested on; "" if meaning was not asked."""
    question: Question | None = None
    reason: str = ""
    """Why it is a miss by meaning."""
    chosen: Judged | None = None
    """The candidate that was served."""
    judged: tuple[Judged, ...] = ()
    exact: bool = False
    """Whether memory had the answer to this very request."""
    shared_key: CacheKey | None = None
    """Where that answer lay, if in the pool of all tenants."""
    complained: tuple[str, str] | None = None
    """What was quarantined when somebody called the answer wrong, and how far that holds."""

    def about(self, kind: str, question: Question) -> "Decided":
        return replace(self, kind=kind, question=question)

    def now(self, found: Serve | Miss) -> "Decided":
        """What would be decided."""
        if isinstance(found, Miss):
            return self.missed(found)
        return replace(self, chosen=found.chosen, judged=found.judged)

    def served(self, match: Match) -> "Decided":
        assert match.decision is not None
        return self.now(match.decision)

    def missed(self, miss: Miss) -> "Decided":
        return replace(self, reason=miss.reason, judged=miss.judged)


class Decisions:
    """The latest; exact hits, which are many, do not push out what was decided by meaning."""

    def __init__(self) -> None:
        self._by_meaning: dict[str, Decided] = {}
        self._others: dict[str, Decided] = {}

    def __len__(self) -> int:
        return len(self._by_meaning) + len(self._others)

    def note(self, decided: Decided) -> None:
        ring = self._by_meaning if decided.kind else self._others
        ring[decided.request_id] = decided
        if len(ring) > DECISIONS_MAX:
            del ring[next(iter(ring))]

    def of(self, request_id: str) -> Decided | None:
        return self._by_meaning.get(request_id) or self._others.get(request_id)


def explained(decided: Decided, report: ClassReport | None, *, owner: bool) -> dict[str, Any]:
    """A decision as JSON. Texts and how near they are are for the owner of the scope alone."""
    document: dict[str, Any] = {
        "request_id": decided.request_id,
        "served": _served(decided),
        "reason": decided.reason or None,
        "class": decided.kind or None,
        "bound": None if report is None else bound(report),
    }
    if not owner:
        document["candidates"] = [{"stratum": one.stratum} for one in decided.judged]
        return document
    document["asked"] = decided.question.text if decided.question else None
    document["candidates"] = [candidate(one) for one in decided.judged]
    return document


def _served(decided: Decided) -> str | None:
    """What was served from memory: exact, or the stratum of the pair; None: nothing was."""
    if decided.exact:
        return "exact"
    return None if decided.chosen is None else decided.chosen.stratum


def candidate(one: Judged) -> dict[str, Any]:
    """A candidate as it was weighed."""
    evidence = one.evidence
    return {
        "question": one.candidate.text,
        "similarity": round(one.candidate.similarity, 4),
        "veto": evidence.veto,
        "stratum": one.stratum,
        "probability": round(one.probability, 5),
        "score": round(one.score, 3),
        "cut": finite(one.cut),
        "passes": one.passes,
        "words": {"matched": evidence.matched, "asked": evidence.left, "cached": evidence.right},
        "related": evidence.related,
        "moved": evidence.moved,
        "rephrased": evidence.rephrased,
        "answer": one.candidate.answer or None,
        "record": {"right": one.candidate.right, "wrong": one.candidate.wrong},
        "refuted": one.candidate.refuted,
    }


def bound(report: ClassReport) -> dict[str, Any]:
    """How well the bound is kept in a class, as JSON."""
    error = report.error
    return {
        "class": report.name,
        "max_error": report.max_error,
        "estimate": round(error.estimate, 6),
        "low": round(error.low, 6),
        "high": round(error.high, 6),
        "labels": error.labels,
        "semantic_hits": error.served,
        "wrong_share_of_lookups": round(report.error_of_requests, 6),
        "cuts": dict(report.cuts),
        "labels_by_stratum": dict(report.labels),
        "muted": report.muted,
        "upstream_disagrees_with_itself": {
            "estimate": round(report.noise.estimate, 6),
            "low": round(report.noise.low, 6),
            "high": round(report.noise.high, 6),
            "twins": report.noise.labels,
        },
        "unwatched_hits": report.unwatched,
        "shadow_rate": round(report.shadow_rate, 4),
        "alarms": report.alarms,
    }


def class_gauges(report: ClassReport) -> dict[str, float]:
    """The numbers of `edge.metrics.CLASS_GAUGES`."""
    error = report.error
    return {
        "max_error": report.max_error,
        "error_estimate": error.estimate,
        "error_low": error.low,
        "error_high": error.high,
        "error_labels": error.labels,
        "error_hits": error.served,
        "error_of_requests": report.error_of_requests,
        "noise": report.noise.estimate,
        "unwatched": report.unwatched,
        "shadow_rate": report.shadow_rate,
        "alarms": report.alarms,
        "muted": len(report.muted),
    }


def finite(cut: float) -> float | None:
    """A cut as JSON can say it: null where nothing is served."""
    return None if cut == float("inf") else cut
