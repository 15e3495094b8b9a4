"""The nearest vectors at scale: ours beside what FAISS has, with real questions.

    python -m bench.index --data DIR [--cache DIR] [--sizes 10000 100000 1000000] [--only ROW ...]

DIR holds clinc150, banking77, pawsx and arena_hard (bench/index/work.py says what is made of them);
without it nothing is measured. 200,000 texts are embedded once, some five minutes of CPU, and kept
in the cache. The questions are held-out wordings of what is stored.

Each row is a process of its own, on one thread. Times of a search are CPU ms, p50 and p99 of the
questions, each at its best of five rounds; wall p99 is of all rounds, and shows how busy the
machine was; recall is the share of the true eight (exact, fp32) that was found; bytes are the
growth of the process's anonymous resident memory, all included; adding is in batches of 512. A row
with steps of effort (lists or ef) is shown at the first that finds 0.98 of them, and the step is
its last column.
"""

import argparse
import os
import platform
import subprocess
import sys
from pathlib import Path

import faiss
import numpy as np

from bench.index import measure, restart, work
from bench.index.contenders import CONTENDERS, NEAREST

EMBEDDED, ASKED = 200_000, 1_000
HNSW_MAX, RESTART_MAX = 100_000, 2_000_000
HEAD = f"{'vectors':>10} {'':14}{'p50':>8}{'p99':>8}{'wall p99':>10}{'recall':>8}{'bytes':>7}"


def main() -> None:
    chosen = _parser().parse_args()
    if chosen.row:
        return _row(chosen.row, chosen.cache, chosen.sizes[0])
    if chosen.data is None or (missing := work.missing(chosen.data)):
        print(
            "skipped, all of it: no --data" + (f" with {', '.join(missing)}" if chosen.data else "")
        )
        return None
    print(f"python -m bench.index --data DIR --sizes {' '.join(map(str, chosen.sizes))}")
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python "
        f"{platform.python_version()}, faiss-cpu {faiss.__version__}, load {os.getloadavg()[0]:.1f}"
    )
    texts, moves, asked = work.vectors(chosen.data, chosen.cache, EMBEDDED, ASKED)
    np.save(chosen.cache / "asked.npy", asked)
    print(f"\n{HEAD}{'add us':>8}{'train s':>9}{'effort':>8}")
    for size in chosen.sizes:
        _prepare(chosen.cache, size, texts, moves, asked)
        for name in chosen.only:
            if name == "HNSW16 int8" and size > chosen.hnsw_max:
                print(f"{size:>10,} {name:14} skipped: an hour; --hnsw-max {size} runs it")
                continue
            _run(name, chosen.cache, size)
    for size in chosen.sizes[-1:]:
        print(f"\npromptedge, up to {size:,} vectors", flush=True)
        _run("changes", chosen.cache, size)
        _run("partitions", chosen.cache, size)
        if size <= RESTART_MAX:
            _run("restart", chosen.cache, size)
    return None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.index", description=__doc__)
    add = parser.add_argument
    add("--data", type=Path, metavar="DIR", help="with the texts")
    add("--cache", type=Path, metavar="DIR", default=Path(".bench-index"), help="for vectors")
    add("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000], metavar="N")
    add("--only", nargs="+", choices=CONTENDERS, default=list(CONTENDERS), metavar="ROW")
    add("--hnsw-max", type=int, default=HNSW_MAX, metavar="N", help=f"({HNSW_MAX})")
    add("--row", help=argparse.SUPPRESS)
    return parser


def _prepare(
    cache: Path, size: int, texts: work.Vectors, moves: work.Vectors, asked: work.Vectors
) -> None:
    """Write what the rows read: the vectors kept, and the true eight of each question."""
    kept, truth = cache / f"kept-{size}.npy", cache / f"truth-{size}.npy"
    if truth.is_file():
        return
    np.save(truth, work.nearest(work.grow(kept, texts, moves, size), asked, NEAREST))


def _run(name: str, cache: Path, size: int) -> None:
    command = [sys.executable, "-m", "bench.index", "--row", name, "--cache", str(cache)]
    output = subprocess.run([*command, "--sizes", str(size)], check=True, capture_output=True)
    print(output.stdout.decode(), end="", flush=True)


def _row(name: str, cache: Path, size: int) -> None:
    kept = np.load(cache / f"kept-{size}.npy", mmap_mode="r")
    asked = np.load(cache / "asked.npy")
    if name == "changes":
        return measure.changes(kept, asked)
    if name == "partitions":
        return measure.partitions(kept, asked, 100_000)
    if name == "restart":
        return restart.restart(kept)
    found = measure.contender(name, kept, asked, np.load(cache / f"truth-{size}.npy"))
    times = f"{found.p50_ms:8.3f}{found.p99_ms:8.3f}{found.wall_p99_ms:10.3f}"
    costs = f"{found.bytes_each:7.0f}{found.add_us:8.1f}{found.train_s:9.1f}"
    effort = f"{found.effort:8}" if found.effort else ""
    print(f"{size:>10,} {name:14}{times}{found.recall:8.3f}{costs}{effort}")
    return None


if __name__ == "__main__":
    main()
