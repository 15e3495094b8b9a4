"""One contender on one number of vectors, in this process alone."""

import gc
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event, Lock, Thread
from typing import NamedTuple

import faiss
import numpy as np
from numpy.typing import NDArray

from bench.index.contenders import (
    BATCH,
    CONTENDERS,
    DIMENSIONS,
    NEAREST,
    Contender,
    Floats,
    Started,
)
from index.vectors import Vectors

ROUNDS = 5
"""Passes over all questions, so that a question finds nothing of its former turn in a cache."""


class Figures(NamedTuple):
    p50_ms: float
    p99_ms: float
    wall_p99_ms: float
    """The first two are CPU of the searching thread, and say what a core to itself would take."""
    recall: float
    bytes_each: float
    add_us: float
    train_s: float
    effort: int


def contender(name: str, kept: Floats, asked: Floats, truth: NDArray[np.int64]) -> Figures:
    faiss.omp_set_num_threads(1)
    if name == "brute force":  # 0.1 s each at a million, and all alike
        asked, truth = asked[:64], truth[:64]
    index = CONTENDERS[name]()
    sample = np.ascontiguousarray(kept[: 1 << 16])
    before, began = anonymous_bytes(), time.process_time()
    index.train(sample, len(kept))
    train_s, began = time.process_time() - began, time.process_time()
    for first in range(0, len(kept), BATCH):
        index.add(first, np.ascontiguousarray(kept[first : first + BATCH]))
    if isinstance(index, Started):
        index.settle()
    add_us = (time.process_time() - began) / len(kept) * 1e6
    gc.collect()
    bytes_each = (anonymous_bytes() - before) / len(kept)
    effort = _effort(index, asked, truth)
    recall = _recall(index, asked, truth, effort)
    times = _timed(lambda one: index.search(one, effort), asked)
    return Figures(*times, recall, bytes_each, add_us, train_s, effort)


def _effort(index: Contender, asked: Floats, truth: NDArray[np.int64]) -> int:
    for effort in index.efforts[:-1]:
        if _recall(index, asked, truth, effort) >= 0.98:
            return effort
    return index.efforts[-1]


def _recall(index: Contender, asked: Floats, truth: NDArray[np.int64], effort: int) -> float:
    found = [set(index.search(one, effort)) for one in asked]
    pairs = zip(found, truth.tolist(), strict=True)
    return sum(len(near & set(true)) for near, true in pairs) / truth.size


def _timed(work: Callable[[Floats], object], asked: Floats) -> tuple[float, float, float]:
    """CPU p50 and p99 of the questions, each at its best, and wall p99 of all rounds; ms."""
    cpu, wall = np.empty((ROUNDS, len(asked))), np.empty((ROUNDS, len(asked)))
    for turn in np.ndindex(cpu.shape):
        at, spent = time.perf_counter(), time.thread_time()
        work(asked[turn[1]])
        cpu[turn], wall[turn] = time.thread_time() - spent, time.perf_counter() - at
    p50, p99 = np.quantile(cpu.min(axis=0), (0.5, 0.99)) * 1e3
    return float(p50), float(p99), float(np.quantile(wall, 0.99)) * 1e3


class Held:
    """A lock that knows for how much CPU it was held, in ms."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self._lock = Lock()

    def __enter__(self) -> None:
        self._lock.acquire()
        self._began = time.thread_time()

    def __exit__(self, *_: object) -> None:
        self.times.append((time.thread_time() - self._began) * 1e3)
        self._lock.release()


def changes(kept: Floats, asked: Floats) -> None:
    """What a change costs where a million are kept, and what a search sees of it."""
    vectors, count = Vectors(DIMENSIONS), len(kept) * 4 // 5
    held = Held()
    vectors._lock = held  # type: ignore[assignment]
    began, spent = time.perf_counter(), time.process_time()
    for first in range(0, count, BATCH):
        part = kept[first : min(first + BATCH, count)]
        vectors.add(b"", range(first, first + len(part)), part)
    took, spent = time.perf_counter() - began, time.process_time() - spent
    print(f"  rebuild of {count:,}: {spent:.1f} s of CPU, {took:.1f} s")
    marks = np.quantile(held.times, (0.5, 0.99, 0.999, 1))
    print("  lock held: p50 {:.2f}, p99 {:.2f}, p99.9 {:.2f}, longest {:.1f} ms".format(*marks))
    alone = _timed(lambda one: vectors.search(b"", one, NEAREST), asked)
    ended, worst = Event(), []

    def write() -> None:
        for id in range(count, len(kept), 8):
            at = time.thread_time()
            vectors.add(b"", range(id, id + 8), kept[id : id + 8])
            worst.append((time.thread_time() - at) * 1e3)
            if ended.is_set():
                return

    writer = Thread(target=write)
    writer.start()
    beside = _timed(lambda one: vectors.search(b"", one, NEAREST), asked)
    ended.set()
    writer.join()
    print(f"  search, wall: p99 {alone[2]:.2f} ms, beside a thread that adds {beside[2]:.2f} ms")
    single = _each(lambda id: vectors.add(b"", [id], kept[id : id + 1]), count - 2000, 2000)
    gone = _each(lambda id: vectors.remove([id]), 0, 2000)
    print(
        f"  add of eight: {np.mean(worst) / 8 * 1e3:.0f} us each, the longest {max(worst):.0f} ms"
    )
    print(f"  add of one that replaces one: {single:.0f} us, remove: {gone:.0f} us")


def _each(work: Callable[[int], object], first: int, count: int) -> float:
    began = time.thread_time()
    for id in range(first, first + count):
        work(id)
    return (time.thread_time() - began) / count * 1e6


def partitions(kept: Floats, asked: Floats, count: int) -> None:
    """As many partitions as a node may have, of ten vectors each."""
    before, vectors = anonymous_bytes(), Vectors(DIMENSIONS)
    for first in range(0, 10 * count, 10):
        rows = np.arange(first, first + 10) % len(kept)
        vectors.add(first.to_bytes(32), range(first, first + 10), kept[rows])
    each = (anonymous_bytes() - before) / len(vectors)
    key = (10 * count // 2 // 10 * 10).to_bytes(32)
    p50, p99, _ = _timed(lambda one: vectors.search(key, one, NEAREST), asked)
    print(f"  {count:,} partitions of 10: {each:.0f} B each, search {p50:.3f}, p99 {p99:.3f} ms")


def anonymous_bytes() -> int:
    """Resident, less what is mapped from files: the vectors that are kept come from one."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    raise OSError("the kernel does not tell RssAnon")
