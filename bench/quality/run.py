"""A pair or a stream through one rule, and what came of it.

Definitions: a hit is a request that was served from the cache; wrong is a hit whose stored answer
was not right for the request at that moment. The upstream's own disagreement makes no hit wrong: it
only deceives the labels. Upstream calls are misses, shadow samples and second questions.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from random import Random

import numpy as np
from numpy.typing import NDArray

from bench.quality.encoding import Neighbours, Vectors
from bench.quality.methods import Method, Near
from bench.quality.sets import Pair, Stream

SLICE_HITS = 2_000


@dataclass
class PairScore:
    """Hits of pairs with one answer and with two, out of how many; by kind, the wrong ones."""

    right: int = 0
    same: int = 0
    wrong: int = 0
    other: int = 0
    wrong_kinds: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    """Why pairs with one answer were not served."""
    refusals: Counter[str] = field(default_factory=Counter)
    """Why those with two were not."""


def pairs(found: Sequence[Pair], cosines: Sequence[float], method: Method) -> PairScore:
    """Each pair alone: one is all that is stored, the other is asked."""
    score = PairScore()
    for place, (pair, cosine) in enumerate(zip(found, cosines, strict=True)):
        decision = method.decide(pair.asked, [Near(place, pair.cached, cosine)])
        hit = decision.serve is not None
        score.same += pair.same
        score.other += not pair.same
        score.right += hit and pair.same
        score.wrong += hit and not pair.same
        if hit and not pair.same:
            score.wrong_kinds[pair.kind] += 1
        if not hit and decision.reason:
            (score.reasons if pair.same else score.refusals)[decision.reason] += 1
    return score


@dataclass
class StreamScore:
    requests: int = 0
    wrong_hits: list[bool] = field(default_factory=list)
    """One for each hit, in order."""
    upstream: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    """Of misses."""
    hit_kinds: Counter[str] = field(default_factory=Counter)
    wrong_kinds: Counter[str] = field(default_factory=Counter)

    @property
    def hits(self) -> int:
        return len(self.wrong_hits)

    @property
    def wrong(self) -> int:
        return sum(self.wrong_hits)

    def slices(self) -> Iterator[float]:
        """Wrong ÷ hits of each SLICE_HITS hits in a row; of all that there are, if fewer."""
        if 0 < self.hits < SLICE_HITS:
            yield self.wrong / self.hits
        for start in range(0, self.hits - SLICE_HITS + 1, SLICE_HITS):
            yield sum(self.wrong_hits[start : start + SLICE_HITS]) / SLICE_HITS


class _Upstream:
    """Answers, and now and then in a way that agrees with no other answer."""

    def __init__(self, disagreement: float, random: Random) -> None:
        self._disagreement = disagreement
        self._random = random
        self.calls = 0

    def ask(self, answer: str) -> str:
        self.calls += 1
        odd = self._random.random() < self._disagreement
        return f"{answer} (odd {self.calls})" if odd else answer


@dataclass
class _Fresh:
    upstream: _Upstream
    right: str
    said: str
    stored: dict[int, str]

    def agrees(self, id: int) -> bool:
        return self.stored[id] == self.said

    def again(self) -> bool:
        return self.upstream.ask(self.right) == self.said


def stream(
    found: Stream, neighbours: Neighbours, places: Sequence[int], method: Method
) -> StreamScore:
    """One pass from an empty cache. `places[i]` is where request i's text is in `neighbours`.

    No text comes twice, so that a place also names the request that stored it.
    """
    score = StreamScore(len(found.asked))
    upstream = _Upstream(found.disagreement, Random(1))
    is_stored: NDArray[np.bool_] = np.zeros(len(neighbours.places), bool)
    said: dict[int, str] = {}
    request_at = {place: found.asked[number] for number, place in enumerate(places)}
    for place, (turn, answer) in zip(places, found.asked, strict=True):
        nearest = neighbours.stored(place, is_stored, said, method.nearest)
        near = [
            Near(id_, request_at[id_].turn, cosine, neighbours.codes[id_])
            for id_, cosine in nearest
        ]
        decision = method.decide(turn, near)
        served = decision.serve
        if served:
            wrong = request_at[served.id].answer != answer
            score.wrong_hits.append(wrong)
            score.hit_kinds[decision.reason] += 1
            score.wrong_kinds[decision.reason] += wrong
        else:
            score.reasons[decision.reason] += 1
        if not served or decision.shadow:
            fresh = _Fresh(upstream, answer, upstream.ask(answer), said)
            if method.after(turn, near, served, fresh):
                is_stored[place], said[place] = True, fresh.said
    score.upstream = upstream.calls
    return score


def cosines(cached: Vectors, asked: Vectors) -> list[float]:
    found: list[float] = np.einsum("nd,nd->n", cached, asked).tolist()
    return found
