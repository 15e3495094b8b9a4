"""Writes any sentence-transformers model as an ONNX file, by way of torch.

For models whose architecture `onnx_bert` does not know. Always run as a child process
(`python -P onnx_torch.py MODEL_DIR GRAPH`): the node itself never imports torch.
The graph is the whole model, every module of it, and gives `sentence_embedding`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

VERSION = 1
"""Raise it whenever the same weights would give another file: old exports are then not reused."""


def export(model: Path, graph: Path) -> None:
    import torch
    from sentence_transformers import SentenceTransformer

    class Whole(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.inner = SentenceTransformer(
                str(model),
                device="cpu",
                trust_remote_code=False,
                local_files_only=True,
                model_kwargs={"use_safetensors": True, "attn_implementation": "eager"},
            )

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            features = {"input_ids": input_ids, "attention_mask": attention_mask}
            return self.inner(features)["sentence_embedding"]

    names = ["input_ids", "attention_mask"]
    torch.onnx.export(
        Whole().eval(),
        (torch.ones(2, 8, dtype=torch.long), torch.ones(2, 8, dtype=torch.long)),
        str(graph),
        input_names=names,
        output_names=["sentence_embedding"],
        dynamic_axes={name: {0: "batch", 1: "tokens"} for name in names},
        opset_version=17,
        dynamo=False,
    )


if __name__ == "__main__":
    export(Path(sys.argv[1]), Path(sys.argv[2]))
