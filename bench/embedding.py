"""What a vector costs: our encoder in both precisions, beside sentence-transformers on torch.

    python -m bench.embedding [--cache DIR] [--python PYTHON ...]

Each row is a process of its own, one thread. CPU is the process's own, per prompt: the best and
(in brackets) the middle of nine rounds, so that a busy machine disturbs little. Cold start is from
the start of the process to its first vector, with the export already made. sentence-transformers
is measured when it is installed, here or for one of the other interpreters named.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any, Literal

from index import model_files

QUESTION = "what is the capital of france and how many people live"  # 13 tokens
PROMPTS = {"13 tokens": QUESTION, "200 tokens": " ".join([QUESTION] * 18)}
ROUNDS = 9
ROWS = {"fp32": "promptedge fp32", "int8": "promptedge int8", "torch": "sentence-transformers"}


def encoder(row: str, model: Path, cache: Path) -> Callable[[list[str]], Any]:
    if row == "torch":
        from sentence_transformers import SentenceTransformer

        torch_model = SentenceTransformer(str(model), device="cpu")
        return lambda texts: torch_model.encode(texts, batch_size=8, show_progress_bar=False)
    from index.embedding import EmbeddingSettings, load

    precision: Literal["fp32", "int8"] = "int8" if row == "int8" else "fp32"
    return load(EmbeddingSettings(path=model, precision=precision), cache).embed


def resident_mib() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() // 2**20


def measure(row: str, model: Path, cache: Path) -> dict[str, Any]:
    embed = encoder(row, model, cache)
    embed([QUESTION])
    found: dict[str, Any] = {"cold": f"{process_time():.2f}", "ready": resident_mib()}
    for name, prompt in PROMPTS.items():
        text = " ".join(prompt.split()[:198])
        for batch in (1, 8):
            found[f"{batch} x {name}"] = cpu_ms(embed, [text] * batch)
    found["after"] = resident_mib()
    return found


def cpu_ms(embed: Callable[[list[str]], Any], texts: list[str]) -> str:
    embed(texts)
    spent = []
    for _ in range(ROUNDS):
        runs, start = 0, process_time()
        while runs == 0 or process_time() - start < 0.1:
            embed(texts)
            runs += 1
        spent.append((process_time() - start) * 1e3 / runs / len(texts))
    return f"{min(spent):.1f} ({median(spent):.1f})"


def child(python: str, row: str, cache: Path) -> dict[str, Any] | None:
    """The row as measured by another process; None when that Python lacks what it needs."""
    threads = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    model = model_files.find(model_files.DEFAULT_MODEL, None)
    options = ["--row", row, "--model", str(model), "--cache", str(cache)]
    command = [python, "-m", "bench.embedding", *options]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, env=os.environ | threads
    )
    if "No module named 'sentence_transformers'" in done.stderr:
        return None
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured


def table(pythons: Sequence[str], cache: Path) -> None:
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print("CPU ms a prompt; cold start in CPU s; resident MiB\n")
    columns = [f"{batch} x {name}" for name in PROMPTS for batch in (1, 8)]
    head = ["", "cold", *columns, "ready", "after"]
    print(line(head))
    for row, name in ROWS.items():
        if row != "torch":
            child(sys.executable, row, cache)  # makes the export
        tried = pythons if row == "torch" else [sys.executable]
        found = (child(python, row, cache) for python in tried)
        measured = next((one for one in found if one is not None), None)
        if measured is None:
            print(f"{name:<22} skipped: not installed")
            continue
        print(line([name, *(str(measured[column]) for column in head[1:])]))


def line(cells: Sequence[str]) -> str:
    return f"{cells[0]:<22}" + "".join(f"{cell:>16}" for cell in cells[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cache", type=Path, help="where exports are kept (default: nowhere)")
    parser.add_argument("--python", action="append", default=[], help="has sentence-transformers")
    parser.add_argument("--row", choices=ROWS, help=argparse.SUPPRESS)
    parser.add_argument("--model", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        cache = asked.cache or Path(scratch)
        if asked.row:
            print(json.dumps(measure(asked.row, asked.model, cache)))
        else:
            table([sys.executable, *asked.python], cache)


if __name__ == "__main__":
    main()
