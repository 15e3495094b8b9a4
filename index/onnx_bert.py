"""Writes a BERT encoder as an ONNX file, from its safetensors weights, without torch.

The graph is BERT as published (Devlin et al., 2018), said in ONNX Runtime's own fused operators
(`com.microsoft`): one Attention, two SkipLayerNormalization and one BiasGelu a layer. Written
this way it needs no fusion pass at load, and its vectors equal those of sentence-transformers
to a cosine of 0.99999 or better (tests/index/test_embedding.py).

The weights go to a second file beside the graph, which ONNX Runtime maps instead of reading:
against one file that holds both, the process is 40-60 MB smaller, since only the rows of the
vocabulary that were ever asked for become resident, and loads in half the CPU (0.07 s for 0.15).

int8 keeps the weights of each output as bytes with one scale, and so the activations of each
token, as they are met. The usual dynamic quantisation takes one scale for a whole batch, and then
the same text has another vector in other company (cosine 0.956 at worst); with a scale a token it
has not (equal to 1e-7), and comes closer to fp32 too. Embeddings, norms and softmax stay fp32.

Always run as a child process (`python -P onnx_bert.py MODEL_DIR GRAPH PRECISION`), so that neither
the ~250 MB which building takes at its peak nor the onnx package ever belong to the node.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

_GELU = {"gelu": "BiasGelu", "gelu_new": "FastGelu", "gelu_pytorch_tanh": "FastGelu"}
FUSED = "com.microsoft"

Weights = Mapping[str, NDArray[Any]]


class Graph:
    """Nodes and weights in the making. Methods return the name of what they made."""

    def __init__(self, config: Mapping[str, Any], weights: Weights, int8: bool) -> None:
        self.config = config
        self.source = {n.removeprefix("bert."): w.astype(np.float32) for n, w in weights.items()}
        self.int8 = int8
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def constant(self, name: str, value: Any) -> str:
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def weight(self, name: str) -> str:
        return self.constant(name, self.source[name])

    def standard(self, operator: str, *inputs: str, **attributes: Any) -> str:
        return self._node(operator, inputs, 1, "", attributes)[0]

    def fused(self, operator: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        return self._node(operator, inputs, outputs, FUSED, attributes)[0]

    def thirds(self, x: str) -> list[str]:
        return self._node("Split", [x], 3, "", {"axis": -1})

    def _node(
        self, operator: str, inputs: Any, outputs: int, domain: str, attributes: dict[str, Any]
    ) -> list[str]:
        name = f"{operator}.{len(self.nodes)}"
        made = [f"{name}.{number}" for number in range(outputs)]
        self.nodes.append(
            helper.make_node(operator, inputs, made, name=name, domain=domain, **attributes)
        )
        return made

    def product(self, x: str, name: str, weight: NDArray[Any]) -> str:
        """`x @ weight.T`: a torch Linear keeps (out, in), MatMul wants (in, out)."""
        if not self.int8:
            return self.standard("MatMul", x, self.constant(name, weight.T))
        scales = np.abs(weight).max(axis=1, keepdims=True) / 127
        codes = np.rint(weight / scales).astype(np.int8)
        largest = self.standard("ReduceMax", self.standard("Abs", x), axes=[-1])
        steps = self.standard("Div", "127", largest)
        # Unsigned around 128, as the processors' byte products want one side; the cast rounds
        # towards zero, hence the half.
        shifted = self.standard("Add", self.standard("Mul", x, steps), "128.5")
        tokens = self.standard("Cast", shifted, to=TensorProto.UINT8)
        whole = self.standard("MatMulInteger", tokens, self.constant(name, codes.T), "128")
        scaled = self.standard("Div", self.standard("Cast", whole, to=TensorProto.FLOAT), steps)
        return self.standard("Mul", scaled, self.constant(name + ".scales", scales[:, 0]))

    def dense(self, x: str, name: str) -> str:
        return self.product(x, name, self.source[name + ".weight"])

    def add_and_normalise(self, x: str, skip: str, name: str) -> str:
        """LayerNorm(x + the bias of the Linear it came from + skip)."""
        norm = [self.weight(f"{name}.LayerNorm.{part}") for part in ("weight", "bias")]
        bias = self.weight(f"{name}.dense.bias")
        epsilon = self.config["layer_norm_eps"]
        return self.fused("SkipLayerNormalization", x, skip, *norm, bias, epsilon=epsilon)

    def embeddings(self, ids: str) -> str:
        # A prompt is one segment: type 0 for every token, so its row is part of each position.
        segment = self.source["embeddings.token_type_embeddings.weight"][0]
        positions = self.source["embeddings.position_embeddings.weight"] + segment
        return self.fused(
            "EmbedLayerNormalization",
            *(ids, "", self.weight("embeddings.word_embeddings.weight")),
            *(self.constant("positions", positions), ""),
            *(self.weight(f"embeddings.LayerNorm.{part}") for part in ("weight", "bias")),
            outputs=2,
            epsilon=self.config["layer_norm_eps"],
        )

    def attention(self, x: str, mask: str, name: str) -> str:
        parts = [f"{name}.{part}" for part in ("query", "key", "value")]
        weight = np.concatenate([self.source[part + ".weight"] for part in parts])
        bias = np.concatenate([self.source[part + ".bias"] for part in parts])
        rest = [self.constant(name + ".bias", bias), mask]
        heads = self.config["num_attention_heads"]
        if not self.int8:
            projection = self.constant(name, weight.T)
            return self.fused("Attention", x, projection, *rest, num_heads=heads)
        projected = self.thirds(self.product(x, name, weight))
        return self.fused("MultiHeadAttention", *projected, *rest, num_heads=heads)

    def layer(self, x: str, mask: str, name: str) -> str:
        attended = self.attention(x, mask, name + ".attention.self")
        projected = self.dense(attended, name + ".attention.output.dense")
        x = self.add_and_normalise(projected, x, name + ".attention.output")
        wide = self.dense(x, name + ".intermediate.dense")
        bias = self.weight(name + ".intermediate.dense.bias")
        wide = self.fused(_GELU[self.config["hidden_act"]], wide, bias)
        return self.add_and_normalise(self.dense(wide, name + ".output.dense"), x, name + ".output")


def build(config: Mapping[str, Any], weights: Weights, precision: str) -> onnx.ModelProto:
    """(batch, tokens) `input_ids` and `attention_mask` -> (.., .., d) `token_embeddings`."""
    graph = Graph(config, weights, precision == "int8")
    if graph.int8:
        graph.constant("127", np.float32(127))
        graph.constant("128", np.uint8(128))
        graph.constant("128.5", np.float32(128.5))
    x = graph.embeddings(graph.standard("Cast", "input_ids", to=TensorProto.INT32))
    mask = graph.standard("Cast", "attention_mask", to=TensorProto.INT32)
    for number in range(config["num_hidden_layers"]):
        x = graph.layer(x, mask, f"encoder.layer.{number}")
    graph.nodes[-1].output[0] = "token_embeddings"
    shape: list[Any] = ["batch", "tokens"]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, shape)
        for name in ("input_ids", "attention_mask")
    ]
    output = helper.make_tensor_value_info(
        "token_embeddings", TensorProto.FLOAT, [*shape, config["hidden_size"]]
    )
    return helper.make_model(
        helper.make_graph(graph.nodes, "bert", inputs, [output], graph.weights),
        opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid(FUSED, 1)],
        ir_version=9,
    )


def export(model: Path, graph: Path, precision: str) -> None:
    """Write `graph` and, beside it, its weights as `graph` + ".data"."""
    config = json.loads((model / "config.json").read_bytes())
    onnx.save(
        build(config, load_file(model / "model.safetensors"), precision),
        str(graph),
        save_as_external_data=True,
        location=graph.name + ".data",
        size_threshold=1024,
    )


if __name__ == "__main__":
    export(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
