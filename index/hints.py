"""Vectors of other nodes: found by at once, believed once they were compared.

An answer from elsewhere comes with the vector that its node's encoder made of its question, so that
taking it in costs no inference. But a vector that lies would have any answer found for any question
(the guard reads the texts, and is not all there is to read). So before the first answer by meaning
that rests on it, the question is embedded here; where the two agree ours takes its place, and where
they do not the answer goes and its node is named.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from index.codes import Codes, encoded, unit
from index.decision import Candidate
from index.entry import Hint
from index.rows import rounded

COSINE_MIN = 0.98
"""Bytes for floats, and other processors' arithmetic, cost less than 0.001."""


def hint(encoder: str, vector: NDArray[np.float32]) -> Hint:
    """What others are told of a unit vector (d,)."""
    return Hint(encoder, encoded(unit(vector[None]))[0].tobytes())


def hinted(hint: Hint, dimensions: int) -> NDArray[np.float32] | None:
    """The unit vector that is meant; None when it cannot be one."""
    codes: Codes = np.frombuffer(hint.codes, np.int8)
    if codes.shape != (dimensions,):
        return None
    # As `codes.units` does it for many, in half the time for one: the event loop waits for it.
    vector = codes.astype(np.float32)
    square = float(vector @ vector)
    return vector / np.float32(sqrt(square)) if square else None


def agree(one: NDArray[np.float32], other: NDArray[np.float32]) -> bool:
    return float(one @ other) >= COSINE_MIN


def judged_by(
    ours: NDArray[np.float32] | None,
    asked: NDArray[np.float32],
    chosen: Candidate,
    near: Sequence[Candidate],
) -> list[Candidate]:
    """The candidates with one judged by our vector of it, or left out if there is none."""
    others = [one for one in near if one.id != chosen.id]
    if ours is None:
        return others
    cosine = float(rounded(ours) @ rounded(asked))
    judged = replace(chosen, similarity=cosine, codes=encoded(rounded(ours)[None])[0])
    return sorted([judged, *others], key=lambda one: one.similarity, reverse=True)
