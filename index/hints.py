"""Vectors of other nodes: found by at once, believed once they were compared.

An answer from elsewhere comes with the vector that its node's encoder made of its question, so that
taking it in costs no inference. But a vector that lies would have any answer found for any question
(the guard reads the texts, and is not all there is to read). So before the first answer by meaning
that rests on it, the question is embedded here; where the two agree ours takes its place, and where
they do not the answer goes and its node is named.
"""

import numpy as np
from numpy.typing import NDArray

from index.codes import Codes, encoded, unit, units
from index.entry import Hint

COSINE_MIN = 0.98
"""Bytes for floats, and other processors' arithmetic, cost less than 0.001."""


def hint(encoder: str, vector: NDArray[np.float32]) -> Hint:
    """What others are told of a unit vector (d,)."""
    return Hint(encoder, encoded(unit(vector[None]))[0].tobytes())


def hinted(hint: Hint, dimensions: int) -> NDArray[np.float32] | None:
    """The unit vector that is meant; None when it cannot be one."""
    codes: Codes = np.frombuffer(hint.codes, np.int8)
    if codes.shape != (dimensions,) or not codes.any():
        return None
    vector: NDArray[np.float32] = units(codes[None])[0]
    return vector


def agree(one: NDArray[np.float32], other: NDArray[np.float32]) -> bool:
    return float(one @ other) >= COSINE_MIN
