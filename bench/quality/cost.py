"""What a decision by meaning costs beyond the vector, in CPU time, among many stored questions.

The stored ones are the texts of `bench.index`, all in one partition of a real `Answers`; asked are
other people's wordings of some. CPU is that of the process (`time.process_time`).
"""

import json
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from time import process_time
from typing import TypeVar

import numpy as np

from bench.index import work
from bench.quality import sets
from bench.quality.encoding import Vault, Vectors
from bench.quality.sets import MissingError
from index.answers import Answers
from index.decision import DecisionSettings, Match
from index.eligibility import ineligible, reasons
from index.embedding import Embedder
from index.entry import CacheKey, Entry, PartitionKey, Question, Scope, Timestamp
from index.guard import compare, read
from index.memory import MemorySettings
from index.prompt import Prompt, route
from index.store import StoreSettings

T = TypeVar("T")

STORED, ASKED = 100_000, 1_000
ROUNDS = 3
"""Each question counts with the best of so many, as others may be at work on the machine."""
_STEPS = (
    "embedding",
    "gate, which reads the prompt",
    "decision, candidates not read before",
    "decision, candidates read before",
)
_NOW = Timestamp(1.8e9)
_SCOPE = Scope("shared")
_PARTITION = PartitionKey(b"p" * 32)
_BODY = b"x" * 500


def report(data: Path, embedder: Embedder, vault: Vault) -> Iterator[str]:
    if missing := work.missing(data):
        raise MissingError(f"no {', '.join(missing)} in {data}")
    chosen = work.texts(data, STORED, ASKED)
    stored = [*chosen.kept, *(text for _, text in chosen.derived)]
    yield f"\n== a decision among {len(stored)} questions, CPU us of {len(chosen.asked)} asked"
    with tempfile.TemporaryDirectory() as directory:
        answers = _filled(Path(directory), stored, vault.of(stored), embedder)
        try:
            yield from _decisions(answers, chosen.asked, embedder)
        finally:
            answers.close()


def _filled(directory: Path, texts: list[str], vectors: Vectors, embedder: Embedder) -> Answers:
    answers = Answers.open(directory, StoreSettings(), MemorySettings(), DecisionSettings())
    answers.similar.load(embedder.fingerprint, embedder.dimensions)
    for number, (text, vector) in enumerate(zip(texts, vectors, strict=True)):
        question = Question(_PARTITION, text)
        key = CacheKey(b"%032d" % number)
        expires_at = Timestamp(_NOW + 1e6)
        entry = Entry(_SCOPE, key, "m", _BODY, _NOW, expires_at, question, len(_BODY) // 4)
        while not answers.put(entry, vector):
            answers.flush()
    answers.flush()
    assert answers.stats.vectors == len(texts)
    return answers


def _decisions(answers: Answers, asked: list[str], embedder: Embedder) -> Iterator[str]:
    took = {name: [np.inf] * len(asked) for name in _STEPS}
    hits = 0
    for at, text in [*enumerate(asked)] * ROUNDS:
        steps: list[float] = []
        vector = _timed(steps, partial(embedder.embed, [text]))[0]
        question = Question(_PARTITION, text)
        decide = partial(answers.similar.find, _SCOPE, question, vector, _NOW, "semantic")
        read.cache_clear()
        reasons.cache_clear()
        _timed(steps, partial(_routed, text))
        hits += isinstance(_timed(steps, decide), Match)
        _timed(steps, decide)
        for name, us in zip(_STEPS, steps, strict=True):
            took[name][at] = min(took[name][at], us)
    base = float(np.median(took[_STEPS[0]]))
    for name in _STEPS:
        p50, p99 = np.quantile(took[name], (0.5, 0.99))
        yield f"  {name:<40}p50 {p50:6.0f}  p99 {p99:6.0f}  of embedding {p50 / base:6.1%}"
    yield (
        "  a decision: search, texts, what is on record of them, weighing, and of a hit its entry; "
        f"{hits // ROUNDS} of {len(asked)} hit"
    )


def _routed(text: str) -> None:
    canonical = json.dumps({"messages": [{"role": "user", "content": text}], "model": "m"})
    route(Prompt("chat", "m", canonical.encode()), _SCOPE, b"bench")


def _timed(took_us: list[float], work: Callable[[], T]) -> T:
    began = process_time()
    done = work()
    took_us.append((process_time() - began) * 1e6)
    return done


def rules() -> Iterator[str]:
    """What the rules cost that read English, on the pairs of tests/vectors/questions.json."""
    pairs = [(pair.cached.text, pair.asked.text) for pair in sets.questions("abcd").pairs]
    texts = [text for pair in pairs for text in pair]
    yield f"\n== rules, CPU us, mean of {len(texts)} texts"
    for text in texts:  # what is loaded on first use
        ineligible(text)
    for name, call in (("gate", reasons.__wrapped__), ("reading", read.__wrapped__)):
        began = process_time()
        for text in texts:
            call(text)
        yield f"  {name:<10}{(process_time() - began) / len(texts) * 1e6:6.0f} a text"
    readings = [(read(asked), read(cached)) for cached, asked in pairs]
    began = process_time()
    for asked, cached in readings:
        compare(asked, cached)
    yield f"  guard     {(process_time() - began) / len(pairs) * 1e6:6.0f} a pair, both sides read"
