"""A threshold of its own for each entry, learned from what it would have served.

Written from the paper (Schroeder et al., vCache: Verified Semantic Prompt Caching, arXiv
2502.03771), from none of its code. Each entry keeps its observations (s, c): somebody asked at
cosine s, the upstream was asked as well, and c says whether the entry's answer was right. They are
modelled as P(c | s) = sigmoid(gamma (s - t)). With probability tau a request explores (goes
upstream and is an observation), else the entry is served. The promise, at most `delta` wrong of all
*requests*, holds if

    tau >= 1 - delta / (1 - alpha),    alpha = (1 - epsilon) sigmoid(gamma' (s - t'))

where t' bounds the boundary from above with confidence 1 - epsilon; the best epsilon of a grid is
taken. Each entry starts with two observations that nobody made, (0, wrong) and (1, right).

Where this is our own: t' comes from the profile likelihood (Wilks) on a grid of (t, gamma). For
many observations that is the delta method; for few, and for those that one cut separates perfectly,
where the delta method has no variance to offer, it needs no table. The epsilons are spaced by
their logarithm, since none above delta helps: linear spacing would serve less.

What the paper promises is a share of all requests; of the hits it may be many times that. The rows
`per hit` hold the same rule to the share that an operator sees: they explore whenever tau is not
zero, so that only what is right with 1 - delta is served.

A request that explored is stored `always`, or only if its neighbour was wrong; without neighbours,
always. Only misses are observations: what is served is never looked at again.
"""

from collections.abc import Sequence
from random import Random
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from bench.quality.methods import MISS, Decision, Fresh, Near
from bench.quality.sets import Turn

BOUNDS = (0.005, 0.01, 0.02, 0.05)

_BOUNDARIES = np.linspace(0.0, 1.0, 101)
_SLOPES = np.geomspace(2.0, 256.0, 15)
_EPSILONS = np.geomspace(1e-4, 0.5, 50)
_DROPS = np.array([NormalDist().inv_cdf(1 - epsilon) ** 2 / 2 for epsilon in _EPSILONS])
"""How far below the best the likelihood of t' may be, in nats, for each epsilon (one-sided)."""

_Grid = NDArray[np.float64]
"""(101 boundaries, 15 slopes)"""


def log_likelihood(cosine: float, right: bool) -> _Grid:
    """Of one observation, for every boundary and slope."""
    logits = _SLOPES * (cosine - _BOUNDARIES[:, None])
    return -np.logaddexp(0.0, -logits if right else logits)


_PRIOR = log_likelihood(0.0, False) + log_likelihood(1.0, True)


def explore_probability(grid: _Grid, cosine: float, bound: float) -> float:
    """tau for a request at `cosine` of an entry with the log likelihoods `grid`."""
    profile = grid.max(axis=1)
    plausible = profile >= profile.max() - _DROPS[:, None]
    highest = len(_BOUNDARIES) - 1 - plausible[:, ::-1].argmax(axis=1)
    slopes = _SLOPES[grid.argmax(axis=1)[highest]]
    right = (1 - _EPSILONS) / (1 + np.exp(-slopes * (cosine - _BOUNDARIES[highest])))
    return max(0.0, float((1 - bound / (1 - right)).min()))


class PerEntry:
    nearest = 1

    def __init__(self, bound: float, *, per_hit: bool, always: bool, random: Random) -> None:
        self.rule = ("per hit, " if per_hit else "") + ("always" if always else "on wrong")
        self.name = f"vCache-style {bound:.1%} {self.rule}"
        self.bound: float | None = bound
        self._delta = bound
        self._per_hit = per_hit
        self._always = always
        self._random = random
        self._grids: dict[int, _Grid] = {}

    def decide(self, asked: Turn, near: Sequence[Near]) -> Decision:
        if not near:
            return MISS
        grid = self._grids.get(near[0].id, _PRIOR)
        explore = explore_probability(grid, near[0].cosine, self._delta)
        if explore > (0.0 if self._per_hit else self._random.random()):
            return MISS
        return Decision(near[0])

    def after(self, asked: Turn, near: Sequence[Near], served: Near | None, fresh: Fresh) -> bool:
        if not near:
            return True
        id_, cosine = near[0].id, near[0].cosine
        right = fresh.agrees(id_)
        self._grids[id_] = self._grids.get(id_, _PRIOR) + log_likelihood(cosine, right)
        return self._always or not right


def per_entry(seed: int) -> list[PerEntry]:
    return [
        PerEntry(bound, per_hit=per_hit, always=always, random=Random(seed))
        for per_hit in (False, True)
        for always in (False, True)
        for bound in BOUNDS
    ]
