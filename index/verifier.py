"""Do two questions have the same answer? Asked of a cross-encoder, which reads both at once.

An encoder gives each text a vector before it knows what it will be compared with. A cross-encoder
sees *which word* differs, at the price of a run for every pair; so it is asked only about the few
candidates that are neither clear hits nor clear misses. Its weights are an option of the operator's
(`scripts/train_verifier.py` makes some): without them there is no verifier, and without a verifier
those candidates are misses. What it is worth: bench/results/verifier.txt.

A directory as `CrossEncoder` of sentence-transformers saves it, with one label: its logit is that
of *same*. BERT models are exported once, as the encoder is; others run from the `onnx/model.onnx`
in their directory, if they have one.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Protocol

import numpy as np
from annotated_types import Ge, Gt, Le, Len
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from index import model_files
from index.embedding import TEXT_CHARS_MAX, runs, session
from index.model_files import ModelError, ModelFiles
from index.onnx_export import export, intact

VERSION = 1
"""Raise it whenever `onnx_cross` would write another file for the same weights."""

Probability = Annotated[float, Ge(0.0), Le(1.0)]


@dataclass(frozen=True, slots=True)
class VerifierSettings:
    """A second opinion on questions that are neither clearly the same nor clearly not."""

    model: str = ""
    """Directory of a sentence-transformers `CrossEncoder` with one label. Unset: no verifier."""

    sha256: Annotated[str, Len(64, 64)] | None = None
    """SHA-256 the weights must have. Unset: those that lie there."""

    deadline_s: Annotated[float, Gt(0)] = 0.05
    """What it may add to a request; a verifier that is late says no. A candidate of a dozen words
    costs 12 ms, both orders together."""


class Verifier(Protocol):
    """What the rest of the node knows of a verifier. Safe to call from several threads."""

    @property
    def fingerprint(self) -> str:
        """Changes whenever the same pair might get another score."""

    def score(self, asked: str, cached: Sequence[str]) -> list[float]:
        """P(same answer) for each of `cached`, in order: 0 to 1, the same either way round.

        Blocks for a few milliseconds a pair, without the GIL: the caller minds the deadline.
        """


def load(settings: VerifierSettings, cache_dir: Path) -> "CrossEncoder | None":
    """The verifier of `settings`, exported into `cache_dir` unless it already is.

    None when none is set, or where it is set there are no weights: worth a line in the log. Raises
    ModelError, with what to do, when what is there is broken or not supported.
    """
    directory = Path(settings.model)
    weights_in = ("model.safetensors", "onnx/model.onnx")
    if not settings.model or not any((directory / name).exists() for name in weights_in):
        return None
    files = model_files.read(directory)
    _check(files)
    weights = model_files.digest(_weights(files))
    if settings.sha256 not in (None, weights):
        raise ModelError(
            f"verifier.sha256: {_weights(files)} is not the pinned file: "
            f"expected {settings.sha256}, found {weights}"
        )
    parts = [
        weights,
        model_files.digest(files.tokenizer),
        model_files.digest(directory / "config.json"),
        str(files.tokens_max),
        f"exporter {VERSION}",
    ]
    fingerprint = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    return CrossEncoder(files, _graph(files, fingerprint, cache_dir), fingerprint)


def _check(files: ModelFiles) -> None:
    labels = files.config.get("id2label", {0: ""})
    if len(labels) != 1:
        raise ModelError(
            f"{files.directory} tells {len(labels)} labels apart; a verifier has one: same answer"
        )
    if not _bert(files) and not _shipped(files).is_file():
        raise ModelError(
            f"{files.directory} is a {files.config.get('model_type')} model: a verifier is a BERT "
            "model with a model.safetensors, or has an onnx/model.onnx"
        )


def _bert(files: ModelFiles) -> bool:
    return (
        files.config.get("model_type") == "bert"
        and (files.directory / "model.safetensors").is_file()
    )


def _shipped(files: ModelFiles) -> Path:
    return files.directory / "onnx" / "model.onnx"


def _weights(files: ModelFiles) -> Path:
    return files.directory / "model.safetensors" if _bert(files) else _shipped(files)


def _graph(files: ModelFiles, fingerprint: str, cache_dir: Path) -> Path:
    if not _bert(files):
        return _shipped(files)
    graph = cache_dir / f"verifier-{fingerprint}.onnx"
    if not intact(graph):
        export("onnx_cross.py", files.directory, "fp32", graph)
    return graph


class CrossEncoder:
    """A cross-encoder on ONNX Runtime, on one thread that does not spin."""

    def __init__(self, files: ModelFiles, graph: Path, fingerprint: str) -> None:
        self.fingerprint = fingerprint
        self._padding = int(files.config.get("pad_token_id") or 0)
        self._tokenizer = _tokenizer(files)
        self._unknown = files.unknown and self._tokenizer.token_to_id(files.unknown)
        self._session = session(graph, 1)
        self._inputs = {node.name for node in self._session.get_inputs()}
        if not {"input_ids", "attention_mask"} <= self._inputs <= set(_FEATURES):
            raise ModelError(f"{graph} wants {sorted(self._inputs)}, which is no cross-encoder's")
        try:
            logits = self._run([self._tokenizer.encode("ready", "ready")])
        except Exception as exc:  # ONNX Runtime's are made at run time and share no base
            raise ModelError(f"{graph} does not run: {exc}") from exc
        if logits.shape != (1, 1) or not np.isfinite(logits).all():
            raise ModelError(f"{graph} gives {logits.tolist()} for a pair instead of one number")

    def __repr__(self) -> str:
        return f"<CrossEncoder {self.fingerprint}>"

    def score(self, asked: str, cached: Sequence[str]) -> list[float]:
        """See Verifier. 0 for a pair that the model cannot read, or not to the end."""
        pairs = [pair for text in cached for pair in ((asked, text), (text, asked))]
        read = [self._read(*pair) for pair in pairs]
        known = [place for place, one in enumerate(read) if one is not None]
        probabilities = np.zeros(len(pairs))
        encodings = [one for one in read if one is not None]
        for places in runs([len(one.ids) for one in encodings]):
            logits = self._run([encodings[place] for place in places])[:, 0]
            probabilities[[known[place] for place in places]] = (1 + np.tanh(logits / 2)) / 2
        means: list[float] = probabilities.reshape(-1, 2).mean(axis=1).tolist()
        return means

    def _read(self, one: str, other: str) -> Encoding | None:
        if max(len(one), len(other)) > TEXT_CHARS_MAX:
            return None
        encoding = self._tokenizer.encode(one, other)
        return None if encoding.overflowing or self._unknown in encoding.ids else encoding

    def _run(self, batch: Sequence[Encoding]) -> NDArray[np.float32]:
        shape = len(batch), max(len(one.ids) for one in batch)
        feed = {name: np.zeros(shape, np.int64) for name in self._inputs}
        feed["input_ids"][:] = self._padding
        for row, one in enumerate(batch):
            for name in self._inputs:
                feed[name][row, : len(one.ids)] = getattr(one, _FEATURES[name])
        logits: NDArray[np.float32] = self._session.run(None, feed)[0]
        return logits


def _tokenizer(files: ModelFiles) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_file(str(files.tokenizer))
    except Exception as exc:  # tokenizers raises nothing more telling
        raise ModelError(f"{files.tokenizer} is not a tokenizer: {exc}") from exc
    tokenizer.no_padding()
    tokenizer.enable_truncation(files.tokens_max)
    # "[SEP]" typed by a user is five characters, not the end of the question.
    tokenizer.encode_special_tokens = True
    return tokenizer


_FEATURES = {"input_ids": "ids", "token_type_ids": "type_ids", "attention_mask": "attention_mask"}
