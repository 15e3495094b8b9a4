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
from typing import Literal

from index.model_files import ModelError, ModelFiles, digest

VERSION = 1
"""Raise it whenever an exporter would write another file for the same weights."""

EXPORT_S_MAX = 300.0
"""The built-in export takes a second or two; one by torch of a large model may take minutes."""

Precision = Literal["fp32", "int8"]


def exported(files: ModelFiles, precision: Precision, name: str, cache_dir: Path) -> Path:
    """The path of the ONNX graph for these files; `name` changes whenever its bytes would."""
    if precision != "fp32" and not files.bert:
        raise ModelError(f"embedding.precision: {precision} is for BERT models only")
    if files.graph is not None:
        return files.graph
    exporter = "onnx_bert.py" if files.bert else "onnx_torch.py"
    graph = cache_dir / f"{name}.onnx"
    if not intact(graph):
        if not files.bert and find_spec("sentence_transformers") is None:
            raise ModelError(
                f"{files.directory} is a {files.config.get('model_type')} model without an "
                "onnx/model.onnx: its export needs pip install 'promptedge[models]', "
                f"once, on any machine that shares {cache_dir}"
            )
        export(exporter, files.directory, precision, graph)
    return graph


def _sums(graph: Path) -> Path:
    return graph.with_name(graph.name + ".sha256")


def intact(graph: Path) -> bool:
    try:
        lines = _sums(graph).read_text("utf-8").splitlines()
        found = {file.name for file in graph.parent.iterdir() if file.name.startswith(graph.name)}
        expected = [line.split("  ", 1) for line in lines]
        return found == {_sums(graph).name, *(name for _, name in expected)} and all(
            digest(graph.with_name(name)) == sha256 for sha256, name in expected
        )
    except (OSError, ValueError):
        return False


def export(exporter: str, model: Path, precision: Precision, graph: Path) -> None:
    try:
        graph.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".export-", dir=graph.parent) as scratch:
            made = Path(scratch) / graph.name
            _run(exporter, str(model), str(made), precision)
            files = sorted(Path(scratch).iterdir())
            sums = "".join(f"{digest(file)}  {file.name}\n" for file in files)
            _sums(made).write_text(sums, "utf-8")
            _sums(graph).unlink(missing_ok=True)
            for file in (*files, _sums(made)):
                file.chmod(0o644)  # an image is built by one user and run by another
                os.replace(file, graph.with_name(file.name))
    except OSError as exc:
        raise ModelError(f"cannot write the exported model {graph}: {exc}") from exc


def _run(exporter: str, model: str, graph: str, precision: Precision) -> None:
    # -P: the script's own folder stays off the path, where our `store` or `memory` would be found
    # before a library's module of that name.
    script = str(Path(__file__).with_name(exporter))
    command = [sys.executable, "-P", script, model, graph, precision]
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=EXPORT_S_MAX
        )
    except subprocess.TimeoutExpired as exc:
        raise ModelError(f"export of {model} took over {EXPORT_S_MAX:.0f} s") from exc
    if done.returncode != 0:
        reason = done.stderr.strip().rpartition("\n")[2] or f"exit status {done.returncode}"
        raise ModelError(f"export of {model} failed: {reason}")
