"""What a decision by meaning costs beyond the vector, in CPU time, among many stored questions.

    python -m bench.decision --data DIR [--cache DIR] [--entries 100000]

The stored ones are the texts of `bench.index`, all in one partition of a real `Answers`; asked are
1,000 wordings of other people, each counted at the best of three rounds, as others may be at work
on the machine. A decision is all from the vector on: search, texts, readings, what is on record of
them, weighing, and of a hit its entry. CPU is that of the process.
"""

import argparse
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from time import process_time

import numpy as np

from bench.http.machine import describe
from bench.index import work
from bench.index.__main__ import ASKED, EMBEDDED
from index.answers import Answers
from index.decision import DecisionSettings, Match
from index.entry import CacheKey, Entry, PartitionKey, Question, Scope, Timestamp
from index.memory import MemorySettings
from index.reading import packed, read, recall
from index.store import StoreSettings

ROUNDS = 3
_NOW = Timestamp(1.8e9)
_SCOPE = Scope("shared")
_PARTITION = PartitionKey(b"p" * 32)
_BODY = b"x" * 500


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.decision", description=__doc__)
    parser.add_argument("--data", type=Path, metavar="DIR", help="with the texts")
    parser.add_argument("--cache", type=Path, metavar="DIR", default=Path(".bench-index"))
    parser.add_argument("--entries", type=int, default=100_000)
    chosen = parser.parse_args()
    if chosen.data is None or (missing := work.missing(chosen.data)):
        print("skipped: no --data" + (f" with {', '.join(missing)}" if chosen.data else ""))
        return
    print(describe())
    found = work.texts(chosen.data, EMBEDDED, ASKED)  # so that the vectors are those of bench.index
    derived = [text for _, text in found.derived]
    vectors = np.concatenate([work.embed(part, chosen.cache) for part in (found.kept, derived)])
    stored, vectors = [*found.kept, *derived][: chosen.entries], vectors[: chosen.entries]
    asked = work.embed(found.asked, chosen.cache)
    readings(stored[: 10 * ASKED])
    print(f"\na decision among {len(stored):,}, CPU us of {len(asked):,} asked")
    with tempfile.TemporaryDirectory() as directory:
        fill(Path(directory), stored, vectors)
        answers = opened(Path(directory))
        try:
            decisions(answers, found.asked, asked)
        finally:
            answers.close()


def readings(texts: Sequence[str]) -> None:
    """What recalling saves."""
    made = {text: packed(text) for text in texts}
    steps: dict[str, Callable[[str], object]] = {
        "made": read,
        "recalled": lambda text: recall(text, made[text]),
    }
    print(f"\na reading, CPU us, mean of {len(made):,} texts")
    for name, step in steps.items():
        read.cache_clear()
        took = timed(lambda step=step: [step(text) for text in made])  # type: ignore[misc]
        print(f"  {name:<42}{took / len(made):6.1f}")
    print(f"  packed, bytes{np.mean([len(one) for one in made.values()]):35.0f}")


def opened(directory: Path) -> Answers:
    answers = Answers.open(directory, StoreSettings(), MemorySettings(), DecisionSettings())
    answers.similar.load("bench", 384)
    return answers


def fill(directory: Path, texts: Sequence[str], vectors: work.Vectors) -> None:
    answers = opened(directory)
    for number, (text, vector) in enumerate(zip(texts, vectors, strict=True)):
        key, expires_at = CacheKey(b"%032d" % number), Timestamp(_NOW + 1e6)
        question = Question(_PARTITION, text)
        entry = Entry(_SCOPE, key, "m", _BODY, _NOW, expires_at, question, len(_BODY) // 4)
        while not answers.put(entry, vector):
            answers.flush()
    answers.flush()
    assert answers.stats.vectors == len(texts)
    answers.close()


def decisions(answers: Answers, texts: Sequence[str], vectors: work.Vectors) -> None:
    questions = answers.similar.questions
    assert questions is not None
    steps = {
        "candidates in the file, which is in memory": (True, True),
        "candidates in memory": (False, True),
        "candidates just read": (False, False),
    }
    took = {name: np.full(len(texts), np.inf) for name in steps}
    hits = 0
    for at, text in [*enumerate(texts)] * ROUNDS:
        decide = partial(
            answers.similar.find, _SCOPE, Question(_PARTITION, text), vectors[at], _NOW, "semantic"
        )
        for name, (forgotten, unread) in steps.items():
            if forgotten:
                questions._texts.clear()
                questions._texts_bytes = 0
            if unread:
                read.cache_clear()
            read(text)  # which the gate did
            took[name][at] = min(took[name][at], timed(decide))
        hits += isinstance(decide(), Match)
    for name, times in took.items():
        p50, p99 = np.quantile(times, (0.5, 0.99))
        print(f"  {name:<44}p50 {p50:5.0f}  p99 {p99:5.0f}")
    print(f"  {hits // ROUNDS} of {len(texts)} hit")


def timed(work: Callable[[], object]) -> float:
    began = process_time()
    work()
    return (process_time() - began) * 1e6


if __name__ == "__main__":
    main()
