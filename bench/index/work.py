"""Vectors to keep and vectors to ask with, from real texts.

Kept are utterances of CLINC150 and BANKING77 (train and validation), sentences of PAWS-X and
prompts of Arena-Hard, and texts recombined from them: one to three words are replaced by words
that occur between the same two neighbours elsewhere. What is asked are the test utterances of
CLINC150 and BANKING77: other people's wordings of what is kept, themselves in no way kept.

Beyond the texts that are worth embedding (1.5 ms each), a vector is filled in: that of a text,
moved as another text was moved by its recombination. So its distance from its neighbours, and the
directions in which it has any, are those of real texts.
"""

import csv
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import faiss
import numpy as np
from numpy.typing import NDArray

from index.embedding import EmbeddingSettings, load

Vectors = NDArray[np.float32]
TEXT_CHARS_MAX = 300
FILES = (
    "clinc150/data_full.json",
    "banking77/train.csv",
    "banking77/test.csv",
    "pawsx/dev-en.tsv",
    "arena_hard/question_v2.0.jsonl",
)


@dataclass(frozen=True, slots=True)
class Texts:
    kept: list[str]
    derived: list[tuple[int, str]]
    """Of which kept text, and what became of it."""
    asked: list[str]


def missing(data: Path) -> list[str]:
    return [name for name in FILES if not (data / name).is_file()]


def texts(data: Path, embedded: int, asked: int) -> Texts:
    """`embedded` texts to keep, derived ones included, and `asked` to ask."""
    random = Random(1)
    clinc = json.loads((data / "clinc150/data_full.json").read_text())
    kept = [text for part in ("train", "val", "oos_train", "oos_val") for text, _ in clinc[part]]
    kept += _banking(data / "banking77/train.csv")
    kept += _sentences(data / "pawsx/dev-en.tsv")
    with (data / "arena_hard/question_v2.0.jsonl").open() as lines:
        kept += [json.loads(line)["prompt"] for line in lines]
    kept = sorted({text for text in kept if len(text) <= TEXT_CHARS_MAX})
    random.shuffle(kept)
    kept = kept[:embedded]
    tests = {text for text, _ in clinc["test"]} | set(_banking(data / "banking77/test.csv"))
    questions = sorted(tests - set(kept))
    random.shuffle(questions)
    derived: dict[str, int] = {}
    known = {*kept, *questions}
    for origin, text in _recombined(kept, random):
        if len(kept) + len(derived) >= embedded:
            break
        if text not in known:
            derived.setdefault(text, origin)
    return Texts(kept, [(origin, text) for text, origin in derived.items()], questions[:asked])


def _banking(path: Path) -> list[str]:
    with path.open(newline="") as lines:
        return [row["text"] for row in csv.DictReader(lines)]


def _sentences(path: Path) -> list[str]:
    with path.open(newline="") as lines:
        rows = list(csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [sentence for row in rows for sentence in row[-3:-1]]


def _recombined(kept: list[str], random: Random) -> Iterator[tuple[int, str]]:
    between: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    words = [["", *text.split(), ""] for text in kept]
    for text in words:
        for left, word, right in zip(text, text[1:], text[2:], strict=False):
            between[left, right].add(word)
    choices = {pair: sorted(found) for pair, found in between.items() if len(found) > 1}
    while choices:
        origin = random.randrange(len(words))
        text = list(words[origin])
        for _ in range(random.randint(1, 3)):
            at = random.randrange(1, len(text) - 1) if len(text) > 2 else 0
            if at and (found := choices.get((text[at - 1], text[at + 1]))):
                text[at] = random.choice(found)
        if text != words[origin]:
            yield origin, " ".join(text[1:-1])


def vectors(data: Path, cache: Path, embedded: int, asked: int) -> tuple[Vectors, Vectors, Vectors]:
    """Vectors of the texts kept, the moves of recombination, and the vectors asked."""
    chosen = texts(data, embedded, asked)
    kept = embed(chosen.kept, cache)
    derived = embed([text for _, text in chosen.derived], cache)
    moves = derived - kept[[origin for origin, _ in chosen.derived]]
    order = np.random.default_rng(1).permutation(len(kept) + len(derived))
    return np.concatenate((kept, derived))[order], moves, embed(chosen.asked, cache)


def embed(chosen: list[str], cache: Path) -> Vectors:
    digest = hashlib.sha256("\n".join(chosen).encode()).hexdigest()[:16]
    path = cache / f"{digest}.npy"
    if not path.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        encoder = load(EmbeddingSettings(precision="int8"), cache)
        # By length, so that batches carry no padding, and a part at a time.
        made: Vectors = np.empty((len(chosen), encoder.dimensions), np.float32)
        order = sorted(range(len(chosen)), key=lambda at: len(chosen[at]))
        for start in range(0, len(order), 2048):
            places = order[start : start + 2048]
            made[places] = encoder.embed([chosen[at] for at in places])
        np.save(path, made)
    loaded: Vectors = np.load(path)
    return loaded


def grow(path: Path, texts: Vectors, moves: Vectors, count: int) -> Vectors:
    """Write `count` vectors to `path`: those of texts, then filled in ones. Ten million are 15 GB,
    so they are made a slice at a time and never all in memory.
    """
    made: Vectors = np.lib.format.open_memmap(  # type: ignore[no-untyped-call]
        path, mode="w+", dtype=np.float32, shape=(count, texts.shape[1])
    )
    real = min(count, len(texts))
    made[:real] = texts[:real]
    rng = np.random.default_rng(2)
    for start in range(real, count, 16384):
        stop = min(count, start + 16384)
        near = texts[rng.integers(len(texts), size=stop - start)]
        near = near + moves[rng.integers(len(moves), size=stop - start)]
        made[start:stop] = near / np.linalg.norm(near, axis=1, keepdims=True)
    return made


def nearest(kept: Vectors, asked: Vectors, count: int) -> NDArray[np.int64]:
    """The true `count` nearest of each asked one, best first; a slice at a time as well."""
    faiss.omp_set_num_threads(1)
    heap = faiss.ResultHeap(len(asked), count, keep_max=True)
    for start in range(0, len(kept), 1 << 18):
        part = np.ascontiguousarray(kept[start : start + (1 << 18)])
        cosines, places = faiss.knn(asked, part, count, metric=faiss.METRIC_INNER_PRODUCT)
        heap.add_result(cosines, places + start)
    heap.finalize()
    truth: NDArray[np.int64] = heap.I
    return truth
