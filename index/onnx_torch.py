"""Writes any sentence-transformers model as an ONNX file, by way of torch.

For models whose architecture `onnx_bert` does not know. Always run as a child process
(`python -P onnx_torch.py MODEL_DIR GRAPH PRECISION`): the node itself never imports torch.
The graph is the whole model, every module of it, and gives `sentence_embedding`.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer


class _Whole(torch.nn.Module):  # type: ignore[misc,unused-ignore]
    def __init__(self, model: Path) -> None:
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


def export(model: Path, graph: Path) -> None:
    names = ["input_ids", "attention_mask"]
    example = torch.ones(2, 8, dtype=torch.long)
    torch.onnx.export(
        _Whole(model).eval(),
        (example, example),
        str(graph),
        input_names=names,
        output_names=["sentence_embedding"],
        dynamic_axes={name: {0: "batch", 1: "tokens"} for name in names},
        opset_version=17,
        dynamo=False,
    )


if __name__ == "__main__":
    export(Path(sys.argv[1]), Path(sys.argv[2]))
