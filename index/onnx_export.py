"""The ONNX form of a model, made once into the cache directory and checked at every start.

An export is three files: NAME.onnx, NAME.onnx.data (the weights) and NAME.onnx.sha256, in the
form of `sha256sum`, written last. Whatever a crash, a full disk or a stray hand left behind does
not agree with its digests, and is made again.
"""

import os
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from index import onnx_bert, onnx_torch
from index.model_files import ModelError, ModelFiles, digest

EXPORT_S_MAX = 300.0
"""The built-in export takes a second or two; one by torch of a large model may take minutes."""


def exported(files: ModelFiles, name: str, cache_dir: Path) -> Path:
    """The path of the ONNX graph for these files; `name` changes whenever its bytes would."""
    own = files.plain and onnx_bert.supports(files.config) and _has_safetensors(files)
    if not own and files.graph is not None and files.plain:
        return files.graph
    graph = cache_dir / f"{name}.onnx"
    if not _intact(graph):
        _export(files.directory, onnx_bert.__file__ if own else _torch_exporter(files), graph)
    return graph


def _has_safetensors(files: ModelFiles) -> bool:
    return files.weights.suffix == ".safetensors"


def _torch_exporter(files: ModelFiles) -> str:
    if find_spec("sentence_transformers") is None:
        raise ModelError(
            f"{files.directory} is a {files.config.get('model_type')} model without an "
            "onnx/model.onnx: its export needs pip install 'promptedge[models]' (on this machine, "
            "once; the running node does not use torch)"
        )
    return onnx_torch.__file__


def _sums(graph: Path) -> Path:
    return graph.with_name(graph.name + ".sha256")


def _intact(graph: Path) -> bool:
    try:
        lines = _sums(graph).read_text("utf-8").splitlines()
        sums = [line.split("  ", 1) for line in lines]
        return len(sums) > 0 and all(digest(graph.with_name(name)) == sha for sha, name in sums)
    except (OSError, ValueError):
        return False


def _export(model: Path, exporter: str, graph: Path) -> None:
    try:
        graph.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".export-", dir=graph.parent) as scratch:
            made = Path(scratch) / graph.name
            _run(exporter, model, made)
            files = sorted(Path(scratch).iterdir())
            sums = "".join(f"{digest(file)}  {file.name}\n" for file in files)
            _sums(made).write_text(sums, "utf-8")
            _sums(graph).unlink(missing_ok=True)
            for file in (*files, _sums(made)):
                file.chmod(0o644)  # an image is built by one user and run by another
                os.replace(file, graph.with_name(file.name))
    except OSError as exc:
        raise ModelError(f"cannot write the exported model {graph}: {exc}") from exc


def _run(exporter: str, model: Path, graph: Path) -> None:
    # -P: the script's own folder stays off the path, where our `store` or `memory` would be found
    # before a library's module of that name.
    command = [sys.executable, "-P", exporter, str(model), str(graph)]
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=EXPORT_S_MAX
        )
    except subprocess.TimeoutExpired as exc:
        raise ModelError(f"export of {model} took over {EXPORT_S_MAX:.0f} s") from exc
    if done.returncode != 0 or not graph.is_file():
        reason = done.stderr.strip().rpartition("\n")[2] or f"exit status {done.returncode}"
        raise ModelError(f"export of {model} failed: {reason}")
