"""Writes a BERT encoder as an ONNX file, from its safetensors weights, without torch.

The graph is BERT as published (Devlin et al., 2018), said in ONNX Runtime's own fused operators
(`com.microsoft`): one Attention, two SkipLayerNormalization and one BiasGelu a layer. Written
this way it needs no fusion pass at load, and its vectors equal those of sentence-transformers
to a cosine of 0.99999 or better (tests/index/test_embedding.py).

The weights go to a second file beside the graph, which ONNX Runtime maps instead of reading:
against one file that holds both, the process is 40-60 MB smaller, since only the rows of the
vocabulary that were ever asked for become resident, and loads in half the CPU (0.07 s for 0.15).

Run as a child process (`python -P onnx_bert.py MODEL_DIR GRAPH`), so that the ~250 MB which
building takes at its peak, and the onnx package, never belong to the node.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

VERSION = 1
"""Raise it whenever the same weights would give another file: old exports are then not reused."""

_GELU = {"gelu": "BiasGelu", "gelu_new": "FastGelu", "gelu_pytorch_tanh": "FastGelu"}
_FUSED = "com.microsoft"

Weights = Mapping[str, NDArray[Any]]


def supports(config: Mapping[str, Any]) -> bool:
    """Whether this graph is the model that `config` (a model's config.json) describes."""
    return (
        config.get("model_type") == "bert"
        and config.get("position_embedding_type", "absolute") == "absolute"
        and config.get("hidden_act") in _GELU
        and not config.get("is_decoder", False)
    )


class _Graph:
    """Nodes and weights in the making. Every method returns the name of what it made."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def weight(self, name: str, value: NDArray[Any]) -> str:
        from onnx import numpy_helper

        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(self, operator: str, inputs: list[str], /, **attributes: Any) -> str:
        from onnx import helper

        made = f"{operator}_{len(self.nodes)}"
        domain = attributes.pop("domain", _FUSED)
        outputs = [made, *attributes.pop("more_outputs", [])]
        self.nodes.append(
            helper.make_node(operator, inputs, outputs, name=made, domain=domain, **attributes)
        )
        return made


def _embeddings(graph: _Graph, weights: Weights, ids: str, epsilon: float) -> str:
    part = "embeddings."
    # A prompt is one segment: type 0 for every token, so its row is part of each position.
    positions = (
        weights[part + "position_embeddings.weight"]
        + weights[part + "token_type_embeddings.weight"][0]
    )
    return graph.node(
        "EmbedLayerNormalization",
        [
            ids,
            "",
            graph.weight("words", weights[part + "word_embeddings.weight"]),
            graph.weight("positions", positions),
            "",
            graph.weight("embeddings.norm", weights[part + "LayerNorm.weight"]),
            graph.weight("embeddings.bias", weights[part + "LayerNorm.bias"]),
        ],
        epsilon=epsilon,
        more_outputs=["mask_index"],
    )


def _layer(
    graph: _Graph, weights: Weights, part: str, x: str, mask: str, config: Mapping[str, Any]
) -> str:
    def project(x: str, name: str) -> str:
        # A torch Linear keeps (out, in); MatMul wants (in, out).
        weight = graph.weight(part + name, weights[f"{part}{name}.weight"].T)
        return graph.node("MatMul", [x, weight], domain="")

    def bias(name: str) -> str:
        return graph.weight(f"{part}{name}.bias", weights[f"{part}{name}.bias"])

    def add_and_normalise(x: str, skip: str, name: str) -> str:
        norm = f"{part}{name}.LayerNorm"
        scale = graph.weight(norm, weights[norm + ".weight"])
        return graph.node(
            "SkipLayerNormalization",
            [x, skip, scale, bias(f"{name}.LayerNorm"), bias(f"{name}.dense")],
            epsilon=config["layer_norm_eps"],
        )

    own = part + "attention.self."
    heads = ("query", "key", "value")
    attended = graph.node(
        "Attention",
        [
            x,
            graph.weight(own, np.concatenate([weights[f"{own}{h}.weight"].T for h in heads], 1)),
            graph.weight(own + "bias", np.concatenate([weights[f"{own}{h}.bias"] for h in heads])),
            mask,
        ],
        num_heads=config["num_attention_heads"],
    )
    x = add_and_normalise(project(attended, "attention.output.dense"), x, "attention.output")
    wide = project(x, "intermediate.dense")
    wide = graph.node(_GELU[config["hidden_act"]], [wide, bias("intermediate.dense")])
    return add_and_normalise(project(wide, "output.dense"), x, "output")


def build(config: Mapping[str, Any], weights: Weights) -> Any:
    """An onnx ModelProto: (batch, tokens) `input_ids`, `attention_mask` -> `token_embeddings`."""
    from onnx import TensorProto, helper

    weights = {n.removeprefix("bert."): w.astype(np.float32) for n, w in weights.items()}
    graph = _Graph()
    ids = graph.node("Cast", ["input_ids"], domain="", to=TensorProto.INT32)
    mask = graph.node("Cast", ["attention_mask"], domain="", to=TensorProto.INT32)
    x = _embeddings(graph, weights, ids, config["layer_norm_eps"])
    for number in range(config["num_hidden_layers"]):
        x = _layer(graph, weights, f"encoder.layer.{number}.", x, mask, config)
    graph.nodes[-1].output[0] = "token_embeddings"
    tokens = ["batch", "tokens"]
    return helper.make_model(
        helper.make_graph(
            graph.nodes,
            "bert",
            [
                helper.make_tensor_value_info(name, TensorProto.INT64, tokens)
                for name in ("input_ids", "attention_mask")
            ],
            [
                helper.make_tensor_value_info(
                    "token_embeddings", TensorProto.FLOAT, [*tokens, config["hidden_size"]]
                )
            ],
            graph.weights,
        ),
        opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid(_FUSED, 1)],
        ir_version=9,
    )


def export(model: Path, graph: Path) -> None:
    """Write `graph` and, beside it, its weights as `graph` + ".data"."""
    import onnx
    from safetensors.numpy import load_file

    config = json.loads((model / "config.json").read_bytes())
    onnx.save(
        build(config, load_file(model / "model.safetensors")),
        str(graph),
        save_as_external_data=True,
        location=graph.name + ".data",
        size_threshold=64 * 1024,
    )


if __name__ == "__main__":
    export(Path(sys.argv[1]), Path(sys.argv[2]))
