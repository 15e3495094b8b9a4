"""What the semantic cache would serve, right and wrong, beside a bare cosine threshold.

    python bench/semantic.py [--data DIR] [--cache DIR]

Each row is a set of labelled question pairs: one is cached, the other asked, nothing else is in the
cache. `same` counts the pairs with one answer, `other` those with two. `eligible`: both texts may
be matched by meaning; `served`: and the decision serves. Beside it, what a threshold on the same
cosines would serve with neither gate nor guard. Below, why the rest were not served.

DIR holds nearmiss/pairs.jsonl and pawsx/dev-en.tsv; the package fow-cache brings its own pairs, of
which the odd ids were read when the rules were written and the even ids were not. The pairs in
tests/vectors/questions.json are ours. What is missing is skipped, and named.
"""

import argparse
import csv
import json
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # as a file, it is not run from the package's root

from index.decision import Candidate, DecisionSettings, Serve, decide  # noqa: E402
from index.eligibility import ineligible  # noqa: E402
from index.embedding import Embedder, EmbeddingSettings, load  # noqa: E402
from index.guard import compare, read  # noqa: E402

CUTS = (0.80, 0.90, 0.95)


class Pair(NamedTuple):
    cached: str
    asked: str
    same: bool


def nearmiss(data: Path | None) -> list[Pair] | str:
    path = (data or Path("DIR")) / "nearmiss" / "pairs.jsonl"
    if not path.is_file():
        return f"no {path}"
    rows = [json.loads(line) for line in path.read_text().splitlines() if line]
    return [Pair(row["text_a"], row["text_b"], row["label"] == 1) for row in rows]


def pawsx(data: Path | None) -> list[Pair] | str:
    path = (data or Path("DIR")) / "pawsx" / "dev-en.tsv"
    if not path.is_file():
        return f"no {path}"
    with path.open(newline="") as lines:
        rows = list(csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [Pair(row[-3], row[-2], row[-1] == "1") for row in rows if row[-1] in ("0", "1")]


def fow(odd: bool) -> list[Pair] | str:
    spec = find_spec("fow_cache")
    if spec is None or not spec.submodule_search_locations:
        return "the package fow-cache is not installed"
    path = Path(spec.submodule_search_locations[0]) / "data" / "pairs.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines() if line]
    chosen = [row for row in rows if int(re.findall(r"\d+", row["id"])[-1]) % 2 == odd]
    return [Pair(row["a"], row["b"], row["same_answer"]) for row in chosen]


def ours(sets: str) -> list[Pair]:
    found = json.loads((ROOT / "tests" / "vectors" / "questions.json").read_text())
    apart = [Pair(a, b, False) for part, _, a, b in found["apart"] if part in sets]
    return apart + [Pair(a, b, True) for part, a, b in found["alike"] if part in sets]


def similarities(pairs: list[Pair], embedder: Embedder) -> list[float]:
    found: list[float] = []
    for pair in pairs:
        cached, asked = embedder.embed([pair.cached, pair.asked])
        found.append(float(cached @ asked))
    return found


def outcome(pair: Pair, similarity: float, embedder: Embedder) -> str:
    for text in (pair.asked, pair.cached):
        reason = ineligible(text) or embedder.inspect(text)
        if reason:
            return f"ineligible:{reason}"
    found = decide(pair.asked, [Candidate(1, pair.cached, similarity)], DecisionSettings())
    return "served" if isinstance(found, Serve) else found.reason


def share(part: int, whole: int) -> str:
    return f"{part}/{whole} {100 * part / whole:4.1f}%" if whole else "-"


def report(name: str, pairs: list[Pair], embedder: Embedder) -> None:
    cosines = similarities(pairs, embedder)
    outcomes = [outcome(*one, embedder) for one in zip(pairs, cosines, strict=True)]
    print(f"\n{name}")
    for same in (True, False):
        chosen = [i for i, pair in enumerate(pairs) if pair.same == same]
        found = Counter(outcomes[i] for i in chosen)
        barred = sum(n for reason, n in found.items() if reason.startswith("ineligible"))
        served, eligible = found.pop("served", 0), len(chosen) - barred
        cells = [
            f"eligible {share(eligible, len(chosen))}",
            f"served {share(served, len(chosen))}",
            f"of eligible {share(served, eligible)}",
            *(f">{cut:.2f} {share(_above(cosines, chosen, cut), len(chosen))}" for cut in CUTS),
        ]
        print(f"  {'same ' if same else 'other'}  " + "  ".join(f"{cell:<24}" for cell in cells))
        print("         " + ", ".join(f"{reason} {n}" for reason, n in found.most_common(12)))


def _above(cosines: list[float], chosen: list[int], cut: float) -> int:
    return sum(cosines[i] >= cut for i in chosen)


def timings(pairs: list[Pair]) -> Iterator[str]:
    texts = [text for pair in pairs for text in (pair.cached, pair.asked)]
    for text in texts:
        read(text)
        ineligible(text)
    for name, call in (("gate", ineligible.__wrapped__), ("reading", read.__wrapped__)):
        started = perf_counter()
        for text in texts:
            call(text)
        yield f"{name} {(perf_counter() - started) / len(texts) * 1e6:.0f} us a text"
    readings: list[Any] = [(read(pair.asked), read(pair.cached)) for pair in pairs]
    started = perf_counter()
    for asked, cached in readings:
        compare(asked, cached)
    yield f"guard {(perf_counter() - started) / len(pairs) * 1e6:.0f} us a pair, both sides read"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="directory with nearmiss/ and pawsx/")
    parser.add_argument("--cache", type=Path, help="where the exported encoder is kept")
    asked = parser.parse_args()
    sets: dict[str, list[Pair] | str] = {
        "nearmiss": nearmiss(asked.data),
        "fow-cache odd ids (rules were written with them)": fow(True),
        "fow-cache even ids (never read)": fow(False),
        "PAWS-X English dev": pawsx(asked.data),
        "ours, written with the rules (a)": ours("a"),
        "ours, written after (b, c, d; rules have changed since)": ours("bcd"),
    }
    with tempfile.TemporaryDirectory() as scratch:
        embedder = load(EmbeddingSettings(), asked.cache or Path(scratch))
        print(f"encoder {embedder.fingerprint[:16]}, {DecisionSettings()}")
        for name, pairs in sets.items():
            if isinstance(pairs, str):
                print(f"\n{name}\n  skipped: {pairs}")
            else:
                report(name, pairs, embedder)
    print("\n" + "\n".join(timings(ours("abcd"))))


if __name__ == "__main__":
    main()
