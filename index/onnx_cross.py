"""Writes a BERT cross-encoder as an ONNX file, from its safetensors weights, without torch.

`onnx_bert`'s graph for two segments, and on the first token the head that transformers'
`BertForSequenceClassification` has: a dense layer, tanh, and a dense layer to one label. Run as its
siblings are: `python -P onnx_cross.py MODEL_DIR GRAPH PRECISION`.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper
from safetensors.numpy import load_file

from index.onnx_bert import FUSED, Graph, Weights

INPUTS = ("input_ids", "token_type_ids", "attention_mask")


class _PairGraph(Graph):
    def embeddings_of(self, ids: str, segments: str) -> str:
        tables = ("word", "position", "token_type")
        return self.fused(
            "EmbedLayerNormalization",
            *(ids, segments),
            *(self.weight(f"embeddings.{table}_embeddings.weight") for table in tables),
            *(self.weight(f"embeddings.LayerNorm.{part}") for part in ("weight", "bias")),
            outputs=2,
            epsilon=self.config["layer_norm_eps"],
        )

    def head(self, x: str) -> str:
        first = self.standard("Gather", x, self.constant("first", np.zeros(1, np.int64)), axis=1)
        flat = self.standard("Flatten", first, axis=1)
        pooled = self.standard("Tanh", self.linear(flat, "pooler.dense"))
        return self.linear(pooled, "classifier")

    def linear(self, x: str, name: str) -> str:
        return self.standard(
            "Gemm", x, self.weight(f"{name}.weight"), self.weight(f"{name}.bias"), transB=1
        )


def build(config: Mapping[str, Any], weights: Weights) -> onnx.ModelProto:
    """(batch, tokens) `input_ids`, `token_type_ids`, `attention_mask` -> (batch, 1) `logits`."""
    graph = _PairGraph(config, weights, int8=False)
    ids, segments, mask = (graph.standard("Cast", name, to=TensorProto.INT32) for name in INPUTS)
    x = graph.embeddings_of(ids, segments)
    for number in range(config["num_hidden_layers"]):
        x = graph.layer(x, mask, f"encoder.layer.{number}")
    graph.head(x)
    graph.nodes[-1].output[0] = "logits"
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"])
        for name in INPUTS
    ]
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 1])
    return helper.make_model(
        helper.make_graph(graph.nodes, "cross", inputs, [output], graph.weights),
        opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid(FUSED, 1)],
        ir_version=9,
    )


def export(model: Path, graph: Path) -> None:
    """Write `graph` and, beside it, its weights as `graph` + ".data"."""
    config = json.loads((model / "config.json").read_bytes())
    onnx.save(
        build(config, load_file(model / "model.safetensors")),
        str(graph),
        save_as_external_data=True,
        location=graph.name + ".data",
        size_threshold=1024,
    )


if __name__ == "__main__":
    export(Path(sys.argv[1]), Path(sys.argv[2]))
