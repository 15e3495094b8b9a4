"""The weights of a BERT of 16 dimensions and one layer, for tests of files and not of meaning."""

import numpy as np
from numpy.typing import NDArray

LAYER = "bert.encoder.layer.0."
LINEAR = {
    LAYER + "attention.self.query": (16, 16),
    LAYER + "attention.self.key": (16, 16),
    LAYER + "attention.self.value": (16, 16),
    LAYER + "attention.output.dense": (16, 16),
    LAYER + "intermediate.dense": (32, 16),
    LAYER + "output.dense": (16, 32),
}
NORMS = ("bert.embeddings", LAYER + "attention.output", LAYER + "output")


def bert_weights(
    words: int, positions: int, heads: dict[str, tuple[int, int]] | None = None
) -> dict[str, NDArray[np.float32]]:
    """Always the same; `heads` are linear layers on top of it."""
    linear = {**LINEAR, **(heads or {})}
    tables = {"word": words, "position": positions, "token_type": 2}
    shapes: dict[str, tuple[int, ...]] = {
        **{f"{name}.weight": shape for name, shape in linear.items()},
        **{f"{name}.bias": shape[:1] for name, shape in linear.items()},
        **{f"bert.embeddings.{name}_embeddings.weight": (n, 16) for name, n in tables.items()},
        **{f"{name}.LayerNorm.{part}": (16,) for name in NORMS for part in ("weight", "bias")},
    }
    rng = np.random.default_rng(7)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
