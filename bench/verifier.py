"""What a verifier gains: which pairs of questions it tells apart that cosine and guard do not.

    python -m bench.verifier --model DIR --data DIR [--cache DIR]

One cached question against one asked, from sets whose answer is known. None was trained on, but
CLINC150 and BANKING77 are of a kind with what was. `grey` is what a cache meets there: each test
utterance with its two nearest, where their cosines are between 0.60 and 0.95; the same intent
counts as the same answer.

Scores: cosine; the verifier; and either of them behind the guard, `all` of whose vetoes are final,
or only the `typed` ones, so that words that merely differ (content, detail) are left to the score.
The last row is how a node would use it: served without a veto, verified where words merely differ.
For each, the area under the ROC curve, and the share of the pairs with the same answer that is
served at the cut where at most 1 % of the others are. That cut is chosen on the set itself: it
compares scores, and promises nothing. The last columns are served at one cut for all sets, of right
and of wrong. Eligibility is left aside.
"""

import argparse
import csv
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from time import perf_counter, process_time
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.quality import sets
from bench.quality.encoding import Neighbours, Vault
from bench.quality.sets import MissingError
from index import embedding, verifier
from index.embedding import EmbeddingSettings
from index.guard import compare, read
from index.verifier import CrossEncoder, VerifierSettings

GREY = 0.60, 0.95
GREY_PAIRS_MAX = 1500
WRONG_MAX = 0.01
COSINE_MIN = 0.90
"""The cut that is usual for cosines, for the columns with one cut."""
VETOED = -2.0
"""Below every cosine and every probability."""
AGREED_MIN = 0.55
"""And the one for pairs without a veto, in the last row: there, only the others are verified."""
SOFT = ("content", "detail")
SEED = 7

Scores = NDArray[np.float64]
Mask = NDArray[np.bool_]

SAME_MIN = 0.9
"""The fixed cut of the last row; a node proves its own."""


class Pair(NamedTuple):
    cached: str
    asked: str
    same: bool


class Row(NamedTuple):
    name: str
    auc: float
    hits: float
    right: float
    wrong: float


def plain(found: sets.Pairs) -> list[Pair]:
    return [Pair(pair.cached.text, pair.asked.text, pair.same) for pair in found.pairs]


def clinc_test(data: Path) -> list[tuple[str, str]]:
    path = data / "clinc150" / "data_full.json"
    if not path.is_file():
        raise MissingError(f"no {path}")
    return [(text, intent) for text, intent in json.loads(path.read_text())["test"]]


def banking_test(data: Path) -> list[tuple[str, str]]:
    path = data / "banking77" / "test.csv"
    if not path.is_file():
        raise MissingError(f"no {path}")
    with path.open(newline="") as lines:
        return [(row["text"], row["category"]) for row in csv.DictReader(lines)]


def grey(rows: list[tuple[str, str]], vault: Vault) -> list[Pair]:
    texts = [text for text, _ in rows]
    near = Neighbours(vault.of(texts))
    pairs = [
        Pair(texts[place], text, rows[place][1] == intent)
        for at, (text, intent) in enumerate(rows)
        for place, cosine in zip(near.places[at][1:3], near.cosines[at][1:3], strict=True)
        if GREY[0] <= cosine <= GREY[1]
    ]
    return Random(SEED).sample(pairs, min(len(pairs), GREY_PAIRS_MAX))


def auc(scores: Scores, same: Mask) -> float:
    """P(a right pair scores above a wrong one), ties half."""
    wrong = np.sort(scores[~same])
    below = np.searchsorted(wrong, scores[same], "left")
    upto = np.searchsorted(wrong, scores[same], "right")
    return float((below + upto).mean() / 2 / len(wrong))


def hits(scores: Scores, same: Mask) -> float:
    """The most right pairs served by any cut that serves at most WRONG_MAX of the wrong ones."""
    allowed = int(WRONG_MAX * (~same).sum())
    cut = np.sort(scores[~same])[::-1][allowed]  # all that is above it serves few enough
    return float((scores[same] > max(cut, VETOED)).mean())


def rows(pairs: list[Pair], vault: Vault, judge: CrossEncoder, cut: float) -> Iterator[Row]:
    same = np.array([pair.same for pair in pairs])
    one = vault.of([pair.cached for pair in pairs])
    other = vault.of([pair.asked for pair in pairs])
    cosine = np.einsum("ij,ij->i", one, other).astype(np.float64)
    probability = np.array([judge.score(pair.asked, [pair.cached])[0] for pair in pairs])
    vetoes = [compare(read(pair.asked), read(pair.cached)).veto for pair in pairs]
    final = np.array([veto is not None for veto in vetoes])
    typed = np.array([veto is not None and veto not in SOFT for veto in vetoes])
    for guard, vetoed in (("", np.zeros_like(final)), ("all ", final), ("typed ", typed)):
        for name, scores, least in (("cosine", cosine, COSINE_MIN), ("verifier", probability, cut)):
            guarded = np.where(vetoed, VETOED, scores)
            yield row(f"{guard and guard + 'vetoes, '}{name}", guarded, guarded >= least, same)
    asked = np.where(typed, VETOED, np.where(final, probability, 1 + cosine))
    served = np.where(final, ~typed & (probability >= cut), cosine >= AGREED_MIN)
    yield row("no veto, or verifier", asked, served, same)


def row(name: str, scores: Scores, served: Mask, same: Mask) -> Row:
    right, wrong = float(served[same].mean()), float(served[~same].mean())
    return Row(name, auc(scores, same), hits(scores, same), right, wrong)


def timing(judge: CrossEncoder, pairs: list[Pair]) -> Iterator[str]:
    chosen = [pair for pair in pairs if len(pair.asked) < 80][:200]
    for count in (1, 2):
        wall, cpu = perf_counter(), process_time()
        for pair in chosen:
            judge.score(pair.asked, [pair.cached] * count)
        wall, cpu = perf_counter() - wall, process_time() - cpu
        spent = f"{1e3 * cpu / len(chosen):.1f} ms CPU, {1e3 * wall / len(chosen):.1f} ms wall"
        yield f"{count} candidate(s), both orders: {spent}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", required=True, help="directory of a CrossEncoder")
    parser.add_argument("--data", type=Path, required=True, help="with pawsx/, nearmiss/ and so on")
    parser.add_argument("--cache", type=Path, help="where exported models and vectors are kept")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        cache = asked.cache or Path(scratch)
        settings = VerifierSettings(model=asked.model)
        judge = verifier.load(settings, cache)
        if judge is None:
            sys.exit(f"{asked.model} has no weights; scripts/train_verifier.py makes some")
        vault = Vault(embedding.load(EmbeddingSettings(), cache), cache)
        report(asked.data, vault, judge, SAME_MIN)


def report(data: Path, vault: Vault, judge: CrossEncoder, cut: float) -> None:
    corpus = sets.ROOT / "tests" / "vectors" / "adversarial.json"
    found: dict[str, Callable[[], list[Pair]]] = {
        "nearmiss": lambda: plain(sets.nearmiss(data)),
        "fow-cache single, odd ids": lambda: plain(sets.fow_single(True)),
        "fow-cache single, even ids": lambda: plain(sets.fow_single(False)),
        "adversarial": lambda: plain(sets.adversarial(corpus, "adversarial")),
        "PAWS-X English dev": lambda: plain(sets.pawsx(data)),
        "CLINC150 test, grey": lambda: grey(clinc_test(data), vault),
        "BANKING77 test, grey": lambda: grey(banking_test(data), vault),
    }
    print(f"{judge}, one cut: cosine {COSINE_MIN}, verifier {cut}")
    for name, pairs_of in found.items():
        try:
            pairs = pairs_of()
        except MissingError as missing:
            print(f"\n{name}: skipped, {missing}")
            continue
        same = sum(pair.same for pair in pairs)
        print(f"\n{name}: {same} same, {len(pairs) - same} other")
        print(f"  {'':26}{'AUC':>6}{'hits at 1 %':>14}{'one cut: right':>18}{'wrong':>8}")
        for row in rows(pairs, vault, judge, cut):
            cells = f"{row.auc:6.3f}{row.hits:13.1%}{row.right:17.1%}{row.wrong:9.1%}"
            print(f"  {row.name:26}{cells}", flush=True)
    print()
    for line in timing(judge, plain(sets.adversarial(corpus, "adversarial"))):
        print(line)


if __name__ == "__main__":
    main()
