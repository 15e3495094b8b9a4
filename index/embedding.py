"""Text to unit vectors: the one module that loads a model into the node.

The model runs on ONNX Runtime, on one thread that does not spin; torch is not involved.

fp32 or int8? MiniLM, CPU ms a prompt on one AVX-512 core, measured together:

                    13 tokens    8 x 13    200 tokens    cosine to fp32    to itself in a batch
    fp32               3.2         2.7         38            1                   1.0000000
    int8 a token       2.0         1.5         26            0.997-0.999         1.0000000
    int8 a batch       1.8         1.3         22            0.989-0.996         0.956

`int8 a batch` is the common dynamic quantisation, and is not offered: vectors that depend on who
else asked make a cache that cannot be reasoned about. The default is fp32, because its vectors
are those the model was judged with, on every processor: the byte products of int8 saturate on
those without VNNI, and nodes of a fleet would disagree. int8 is there for who needs the CPU.

A text is read once: `read` gives its tokens and says whether meaning may be compared at all, and
`embed_tokens` turns several readings into vectors. `inspect` and `embed` are both in one step.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import numpy as np
from annotated_types import Gt, Len
from numpy.typing import NDArray
from tokenizers import Tokenizer

from index import model_files
from index.model_files import DEFAULT_MODEL, ModelError, ModelFiles, Pooling
from index.onnx_export import VERSION, Precision, exported

# It would tell its maker what runs here, by files in the home directory, from the import on.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime

__all__ = ["Embedder", "EmbeddingSettings", "Encoder", "ModelError", "Tokens", "load"]

TEXT_CHARS_MAX = 4096
"""Cut before the tokenizer, which is linear but slow: 1 MB of Chinese would take it seconds."""

BATCH_TEXTS_MAX = 8
BATCH_TOKENS_MAX = 256
"""Padding included. Short prompts gain a quarter from sharing a run, those of 200 tokens nothing,
while the memory ONNX Runtime keeps grows with the largest run: 8 x 200 tokens add 50 MB."""
BATCH_PADDING_MAX = 1.5
"""A run's tokens, padding included, against its tokens without."""

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class EmbeddingSettings:
    """Which model compares prompts by meaning."""

    model: str = DEFAULT_MODEL
    """Name of a sentence-transformers model."""

    path: Path | None = None
    """Directory with the model's files. Unset: an installed package, else the Hugging Face hub."""

    sha256: Annotated[str, Len(64, 64)] | None = None
    """SHA-256 the weights must have. Known for the default model, required for any other."""

    precision: Precision = "fp32"
    """`int8` (BERT models only) costs three fifths of the CPU and 30 MB less; its vectors differ
    a little from the model's own, and from those of nodes with another kind of processor."""

    threads: Annotated[int, Gt(0)] = 1
    """Threads of one inference. More than one shortens a lookup only while cores are idle."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """A text as the model reads it."""

    ids: tuple[int, ...]
    """Special tokens included; cut to the model's window."""
    reason: Literal["unknown-token", "too-long"] | None
    """Why the vector does not stand for the whole text; None when it does."""


class Embedder(Protocol):
    """What the rest of the node knows of a model."""

    @property
    def fingerprint(self) -> str:
        """Changes whenever the same text might get another vector."""

    @property
    def dimensions(self) -> int: ...

    def read(self, text: str) -> Tokens: ...

    def embed_tokens(self, tokens: Sequence[Tokens]) -> Vectors:
        """(n, dimensions), float32, unit length, in the order given."""

    def inspect(self, text: str) -> str | None:
        """The reason of `read`."""

    def embed(self, texts: Sequence[str]) -> Vectors: ...


def load(settings: EmbeddingSettings, cache_dir: Path) -> "Encoder":
    """The model of `settings`, exported into `cache_dir` unless it already is.

    Raises ModelError, with what to do, when files are missing, altered or not supported.
    """
    files = model_files.read(model_files.find(settings.model, settings.path))
    sha256 = model_files.verify(files, settings.model, settings.sha256)
    fingerprint = _fingerprint(files, sha256, settings.precision)
    name = f"{settings.model.replace('/', '--')}-{fingerprint}"
    graph = exported(files, settings.precision, name, cache_dir)
    return Encoder(files, graph, fingerprint, settings.threads)


def _fingerprint(files: ModelFiles, weights_sha256: str, precision: Precision) -> str:
    parts = [
        weights_sha256,
        model_files.digest(files.tokenizer),
        model_files.digest(files.directory / "config.json"),
        files.pooling,
        str(files.tokens_max),
        str(TEXT_CHARS_MAX),
        f"exporter {VERSION}",
        precision,
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


class Encoder:
    """A sentence-transformers model on ONNX Runtime. Safe to call from several threads."""

    def __init__(self, files: ModelFiles, graph: Path, fingerprint: str, threads: int = 1) -> None:
        self.fingerprint = fingerprint
        self._model = graph.stem
        self._pooling = files.pooling
        self._padding = int(files.config.get("pad_token_id") or 0)
        self._tokenizer = Tokenizer.from_file(str(files.tokenizer))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(files.tokens_max)
        # "[SEP]" typed by a user is five characters, not the end of the prompt.
        self._tokenizer.encode_special_tokens = True
        self._unknown = files.unknown and self._tokenizer.token_to_id(files.unknown)
        self._session = session(graph, threads)
        self._inputs = [node.name for node in self._session.get_inputs()]
        self.dimensions = int(self._run([self.read("ready").ids]).shape[1])

    def __repr__(self) -> str:
        return f"<Encoder {self._model} {self.dimensions} dimensions>"

    def read(self, text: str) -> Tokens:
        encoding = self._tokenizer.encode(text[:TEXT_CHARS_MAX])
        ids = tuple(encoding.ids)
        if len(text) > TEXT_CHARS_MAX or encoding.overflowing:
            return Tokens(ids, "too-long")
        return Tokens(ids, "unknown-token" if self._unknown in ids else None)

    def inspect(self, text: str) -> str | None:
        return self.read(text).reason

    def embed(self, texts: Sequence[str]) -> Vectors:
        return self.embed_tokens([self.read(text) for text in texts])

    def embed_tokens(self, tokens: Sequence[Tokens]) -> Vectors:
        vectors: Vectors = np.empty((len(tokens), self.dimensions), np.float32)
        for places in runs([len(one.ids) for one in tokens]):
            vectors[places] = self._run([tokens[place].ids for place in places])
        return vectors

    def _run(self, batch: Sequence[tuple[int, ...]]) -> Vectors:
        shape = len(batch), max(map(len, batch))
        ids, mask = np.full(shape, self._padding, np.int64), np.zeros(shape, np.int64)
        for row, one in enumerate(batch):
            ids[row, : len(one)] = one
            mask[row, : len(one)] = 1
        known: dict[str, NDArray[np.int64]] = {"input_ids": ids, "attention_mask": mask}
        feed = {name: known.get(name, np.zeros_like(ids)) for name in self._inputs}
        output: Vectors = self._session.run(None, feed)[0]
        return unit(output if output.ndim == 2 else pool(output, mask, self._pooling))


def runs(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Places of texts to run together: of like length, within the limits of a batch.

    A short prompt that shares a run with a long one is padded to it, and costs as much.
    """
    run: list[int] = []
    tokens = 0
    for place in sorted(range(len(lengths)), key=lengths.__getitem__):
        padded = (len(run) + 1) * lengths[place]
        fits = (
            len(run) < BATCH_TEXTS_MAX
            and padded <= BATCH_TOKENS_MAX
            and padded <= BATCH_PADDING_MAX * (tokens + lengths[place])
        )
        if run and not fits:
            yield run
            run, tokens = [], 0
        run.append(place)
        tokens += lengths[place]
    if run:
        yield run


def pool(tokens: Vectors, mask: NDArray[np.int64], pooling: Pooling) -> Vectors:
    """One vector a text from one vector a token: (n, tokens, d), (n, tokens) -> (n, d)."""
    if pooling == "cls":
        first: Vectors = tokens[:, 0]
        return first
    if pooling == "max":
        tokens = np.where(mask[:, :, None] == 1, tokens, np.float32(-np.inf))
        most: Vectors = tokens.max(axis=1)
        return most
    weights = mask.astype(np.float32)
    weights /= weights.sum(axis=1, keepdims=True)
    pooled: Vectors = np.matmul(weights[:, None, :], tokens)[:, 0]
    return pooled


def unit(vectors: Vectors) -> Vectors:
    scaled: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return scaled


def session(graph: Path, threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    except Exception as exc:  # its classes are made at run time and share no base
        raise ModelError(f"ONNX Runtime cannot load {graph}: {exc}") from exc
