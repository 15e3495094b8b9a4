"""What remembering costs: writes, reads, restart and purge of a store with many entries.

    python -m bench.store [--entries 100000] [--body-bytes 2000] [--directory DIR]

Each entry has a question of some 60 characters and a vector of 384 dimensions, spread over a few
large partitions. Times are wall time on this machine, CPU is that of the whole process.
"""

import argparse
import platform
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random

import numpy as np

from index.answers import Answers
from index.decision import DecisionSettings
from index.entry import (
    CacheKey,
    Entry,
    NodeName,
    PartitionKey,
    Purge,
    Purged,
    Question,
    Scope,
    Timestamp,
    Version,
)
from index.memory import MemorySettings
from index.store import StoreSettings

DIMENSIONS = 384
PARTITIONS = 5
NOW = Timestamp(1.8e9)
SCOPE = Scope("shared")
WORDS = ["capital", "country", "river", "mountain", "author", "novel", "planet", "metal"]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--entries", type=int, default=100_000)
    options.add_argument("--body-bytes", type=int, default=2_000)
    options.add_argument("--directory", type=Path, help="on the disk to be measured")
    chosen = options.parse_args()
    print(f"{platform.platform()}, Python {platform.python_version()}, {chosen.entries} entries")
    with tempfile.TemporaryDirectory(dir=chosen.directory) as directory:
        fill(Path(directory), chosen.entries, chosen.body_bytes)
        reopen(Path(directory), chosen.entries)
    with tempfile.TemporaryDirectory(dir=chosen.directory) as directory:
        crowd(Path(directory), chosen.entries // 2, chosen.body_bytes)


def fill(directory: Path, count: int, body_bytes: int) -> None:
    answers = opened(directory)
    answers.similar.load("bench", DIMENSIONS)
    random, puts = Random(1), []
    vectors = np.random.default_rng(1).normal(size=(count, DIMENSIONS)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    began, cpu = time.perf_counter(), time.process_time()
    for n in range(count):
        entry = make(n, random.randbytes(body_bytes // 2).hex().encode())
        while True:
            at = time.perf_counter()
            if answers.put(entry, vectors[n]):
                break
            answers.flush()
        puts.append(time.perf_counter() - at)
    answers.flush()
    took, cpu = time.perf_counter() - began, time.process_time() - cpu
    print(f"write     {count / took:9,.0f} entries/s, {cpu / count * 1e6:.0f} us CPU each")
    print(f"put()     {quantiles(puts)}, on the caller's thread")
    report("lag       put() to committed and found by meaning", lag(answers, count))
    report("fetch     from disk", each(count, lambda key: answers.fetch(SCOPE, key, NOW)))
    recent = [CacheKey(b"%032d" % n) for n in range(count - 1000, count)]
    recalls = [timed(partial(answers.recall, SCOPE, key, NOW)) for key in recent]
    report("recall    from memory", recalls)
    print(f"file      {answers.stats.store.file_bytes / count:,.0f} bytes an entry")
    report("close     ", [timed(answers.close)])


def reopen(directory: Path, count: int) -> None:
    before = rss()
    began = time.perf_counter()
    answers = opened(directory)
    print(f"reopen    {time.perf_counter() - began:.3f} s until exact hits are served")
    assert answers.fetch(SCOPE, CacheKey(b"%032d" % 7), NOW) is not None
    report("preload   ", [timed(lambda: answers.warm_memory(NOW))])
    print(f"          {answers.stats.preloaded} entries, +{(rss() - before) >> 20} MiB")
    before = rss()
    report("vectors   ", [timed(lambda: answers.similar.load("bench", DIMENSIONS))])
    print(f"          {answers.stats.vectors} vectors, +{(rss() - before) >> 20} MiB")
    asked = make(count // 2, b"")
    assert asked.question is not None
    question, vector = asked.question, np.full(DIMENSIONS, DIMENSIONS**-0.5, np.float32)
    similar = [
        timed(lambda: answers.similar.find(SCOPE, question, vector, NOW, "all")) for _ in range(200)
    ]
    report(f"similar   among {count // PARTITIONS}", similar)
    everything = Purged(Purge(scope=SCOPE), NodeName("bench"), Version(1))
    report("purge     one scope, everything", [timed(lambda: answers.purge(everything))])
    answers.check()
    answers.close()


def crowd(directory: Path, count: int, body_bytes: int) -> None:
    """A file with room for a tenth, so that most writes evict; one of 20 tenants writes half."""
    answers = opened(directory, StoreSettings(max_bytes=count // 10 * (body_bytes + 1_300)))
    answers.similar.load("bench", DIMENSIONS)
    random = Random(1)
    vector = np.full(DIMENSIONS, DIMENSIONS**-0.5, np.float32)
    began, cpu = time.perf_counter(), time.process_time()
    for n in range(count):
        scope = Scope(f"tenant:{max(0, random.randrange(38) - 18)}")
        entry = replace(make(n, random.randbytes(body_bytes // 2).hex().encode()), scope=scope)
        while not answers.put(entry, vector):
            answers.flush()
    answers.flush()
    took, cpu = time.perf_counter() - began, time.process_time() - cpu
    print(
        f"crowded   {count / took:9,.0f} entries/s, {cpu / count * 1e6:.0f} us CPU each, ", end=""
    )
    print(f"{answers.stats.store.evicted} evicted")
    answers.check()
    answers.close()


def opened(directory: Path, settings: StoreSettings | None = None) -> Answers:
    return Answers.open(
        directory, settings or StoreSettings(), MemorySettings(), DecisionSettings()
    )


def make(n: int, body: bytes) -> Entry:
    subject = f"{WORDS[n % 8]} {WORDS[n // 8 % 8]} {n}"
    partition = PartitionKey(b"%032d" % (n % PARTITIONS))
    question = Question(partition, f"what can you tell me about the {subject}?")
    key = CacheKey(b"%032d" % n)
    tokens = 100 + len(body) // 4
    return Entry(SCOPE, key, "m", body, NOW, Timestamp(NOW + 1e9), question, tokens)


def each(count: int, work: Callable[[CacheKey], object]) -> list[float]:
    random = Random(2)
    keys = [CacheKey(b"%032d" % random.randrange(count // 2)) for _ in range(2_000)]
    return [timed(partial(work, key)) for key in keys]


def lag(answers: Answers, count: int) -> list[float]:
    """One entry at a time, as a quiet node stores them: includes the linger of the group."""
    lags = []
    vector = np.full(DIMENSIONS, DIMENSIONS**-0.5, np.float32)
    for n in range(count, count + 100):
        at = time.perf_counter()
        answers.put(make(n, b"x" * 2_000), vector)
        while answers.stats.store.written < n + 1:
            time.sleep(0.0002)
        lags.append(time.perf_counter() - at)
    return lags


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def report(what: str, times: list[float]) -> None:
    print(f"{what:10}{f' {times[0]:.3f} s' if len(times) == 1 else '  ' + quantiles(times)}")


def quantiles(times: list[float]) -> str:
    marks = statistics.quantiles(times, n=100)
    return " ".join(f"p{at} {marks[at - 1] * 1e6:,.0f} us" for at in (50, 99)) + (
        f" max {max(times) * 1e6:,.0f} us"
    )


def rss() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


if __name__ == "__main__":
    main()
