"""Which answers are served by meaning, and which of them wrongly: the peers' rules and ours.

python -m bench.quality [--data DIR] [--cache DIR] [--heldout FILE] [--only SET ...]
                        [--orders N]

DIR holds clinc150/, banking77/, pawsx/, nearmiss/ and arena_hard/ as their publishers lay them
out; the package fow-cache brings its own. FILE is pairs that nobody who wrote rules has read, in
the format of tests/vectors/adversarial.json. What is missing is skipped, and named.

In a pair set one question is stored and the other asked, and nothing else is known. A stream starts
with an empty cache and is asked once; in N seeded orders, whose figures are put together. All
methods see the same vectors.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from bench.http.machine import describe
from bench.quality import drift, run, sets, tables
from bench.quality.encoding import Neighbours, Vault
from bench.quality.methods import Method, static
from bench.quality.sets import MissingError, Pairs, Stream, Turn
from bench.quality.vcache import per_entry
from index.embedding import EmbeddingSettings, load


def pair_sets(data: Path, heldout: Path | None) -> dict[str, Callable[[], Pairs]]:
    ours = sets.ROOT / "tests" / "vectors" / "adversarial.json"
    found: dict[str, Callable[[], Pairs]] = {
        "fow-odd": lambda: sets.fow_single(True),
        "fow-even": lambda: sets.fow_single(False),
        "conv-parts": lambda: sets.fow_conversations("conv-parts"),
        "conv-long": lambda: sets.fow_conversations("conv-long"),
        "pawsx": lambda: sets.pawsx(data),
        "nearmiss": lambda: sets.nearmiss(data),
        "adversarial": lambda: sets.adversarial(ours, "adversarial, repository's half"),
    }
    if heldout:
        found["heldout"] = lambda: sets.adversarial(heldout, "adversarial, held out")
    return found


def stream_sets(data: Path) -> dict[str, Callable[[int], list[Stream]]]:
    """By name, in the order of a seed; streams in one list are of the same texts."""
    return {
        "clinc": lambda seed: [sets.clinc(data, seed)],
        "banking": lambda seed: [sets.banking(data, seed)],
        "drift": lambda seed: list(drift.streams(sets.clinc(data, seed), seed)),
        "arena-hard": lambda _: [sets.arena_hard(data)],
    }


def methods(seed: int) -> list[Method]:
    """Anew for each set: some of them learn."""
    return [*static(), *per_entry(seed)]


def pair_methods() -> list[Method]:
    """Of one pair nothing is ever stored, and one insertion rule stands for both."""
    return [method for method in methods(0) if not method.name.endswith("always")]


def score_pairs(make: Callable[[], Pairs], vault: Vault) -> Iterator[str]:
    found = make()
    cached = vault.of([pair.cached.text for pair in found.pairs])
    asked = vault.of([pair.asked.text for pair in found.pairs])
    cosines = run.cosines(cached, asked)
    scores = [(method, run.pairs(found.pairs, cosines, method)) for method in pair_methods()]
    yield from tables.pairs(found, scores)
    if any(pair.asked.history for pair in found.pairs):
        yield from whole_conversations(found, vault)


def whole_conversations(found: Pairs, vault: Vault) -> Iterator[str]:
    """The peers again, keyed on all turns as one text, as LiteLLM does: what the window holds."""
    flat = [(flattened(pair.cached), flattened(pair.asked)) for pair in found.pairs]
    cosines = run.cosines(vault.of([one for one, _ in flat]), vault.of([one for _, one in flat]))
    scores = [(method, run.pairs(found.pairs, cosines, method)) for method in static()]
    yield from tables.pairs(Pairs(f"{found.name}, all turns as one text", found.pairs), scores)


def flattened(turn: Turn) -> str:
    return "\n".join([message["content"] for message in turn.history] + [turn.text])


def score_streams(make: Callable[[int], list[Stream]], orders: int, vault: Vault) -> Iterator[str]:
    by_seed = [make(seed) for seed in range(orders)]
    texts = [asked.turn.text for asked in by_seed[0][0].asked]
    neighbours = Neighbours(vault.of(texts))
    place = {text: at for at, text in enumerate(texts)}
    for variants in zip(*by_seed, strict=True):
        places = [[place[asked.turn.text] for asked in stream.asked] for stream in variants]
        yield from tables.stream_head(variants[0], orders)
        for alike in zip(*map(methods, range(orders)), strict=True):
            scores = [
                run.stream(stream, neighbours, at, method)
                for stream, at, method in zip(variants, places, alike, strict=True)
            ]
            yield tables.stream_row(alike[0], scores, variants[0].labelled)


def report(asked: argparse.Namespace, scratch: Path) -> Iterator[str]:
    data = asked.data or Path("DIR")
    embedder = load(EmbeddingSettings(), asked.cache or scratch)
    vault = Vault(embedder, asked.cache or scratch)
    yield f"encoder {embedder.fingerprint}"
    yield from tables.LEGEND
    scored: dict[str, Callable[[], Iterator[str]]] = {}
    for name, pairs in pair_sets(data, asked.heldout).items():
        scored[name] = partial(score_pairs, pairs, vault)
    for name, streams in stream_sets(data).items():
        scored[name] = partial(score_streams, streams, asked.orders, vault)
    for name, lines in scored.items():
        if not asked.only or name in asked.only:
            try:
                yield from lines()
            except MissingError as missing:
                yield f"\n== {name}\n  skipped: {missing}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="directory with the public sets")
    parser.add_argument("--cache", type=Path, help="where the encoder and the vectors are kept")
    parser.add_argument("--heldout", type=Path, help="pairs for the final score")
    parser.add_argument("--orders", type=int, default=1, help="of each stream")
    parser.add_argument(
        "--only",
        nargs="+",
        metavar="SET",
        help="of " + ", ".join([*pair_sets(Path(), Path()), *stream_sets(Path())]),
    )
    asked = parser.parse_args()
    print(describe())
    with tempfile.TemporaryDirectory() as scratch:
        for line in report(asked, Path(scratch)):
            print(line, flush=True)


if __name__ == "__main__":
    main()
