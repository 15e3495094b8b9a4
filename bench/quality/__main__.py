"""Which answers are served by meaning, and which of them wrongly: the peers' rules and ours.

python -m bench.quality [--data DIR] [--cache DIR] [--heldout FILE] [--only SET ...]
                        [--orders N] [--cross]

DIR holds clinc150/, banking77/, pawsx/, nearmiss/ and arena_hard/ as their publishers lay them
out; the package fow-cache brings its own. FILE is pairs that nobody who wrote rules has read, in
the format of tests/vectors/adversarial.json. What is missing is skipped, and named.

In a pair set one question is stored and the other asked, and nothing else is known. A stream starts
with an empty cache and is asked once; in N seeded orders, whose figures are put together. All
methods see the same vectors. With --cross, which takes scikit-learn, a stream is also asked of a
calibration that was fitted to the other set alone.
"""

import argparse
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

from bench.http.machine import describe
from bench.quality import cost, coverage, cross, drift, run, sets, tables
from bench.quality.encoding import Neighbours, Vault
from bench.quality.methods import Method, static
from bench.quality.ours import DEFAULTS, OPEN, PERSONAL, Gate, Ours, compared_once, ours
from bench.quality.run import SLICE_HITS, StreamScore
from bench.quality.sets import MissingError, Pairs, Stream, Turn
from bench.quality.vcache import per_entry
from index.calibration import Calibration
from index.embedding import Embedder, EmbeddingSettings, load


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
        "questions-a": lambda: sets.questions("a"),
        "questions-bcd": lambda: sets.questions("bcd"),
    }
    if heldout:
        found["heldout"] = lambda: sets.adversarial(heldout, "adversarial, held out")
    return found


def stream_sets(data: Path) -> dict[str, Callable[[int], list[Stream]]]:
    """By name, in the order of a seed; streams in one list are of the same texts."""
    return {
        "clinc": lambda seed: [sets.clinc(data, seed)],
        "clinc-test": lambda seed: [sets.clinc(data, seed, unseen=True)],
        "banking": lambda seed: [sets.banking(data, seed)],
        "banking-test": lambda seed: [sets.banking(data, seed, unseen=True)],
        "drift": lambda seed: list(drift.streams(sets.clinc(data, seed), seed)),
        "arena-hard": lambda _: [sets.arena_hard(data)],
    }


OTHER_SET = {"clinc": "banking", "banking": "clinc"}
OTHER_ORDERS = 4
"""In which our rule alone is asked again, so that there are slices to speak of."""


@dataclass
class Bench:
    """What all sets share."""

    data: Path
    cache: Path
    embedder: Embedder
    vault: Vault
    orders: int
    cross: bool
    over: defaultdict[tuple[str, bool], tuple[int, int]] = field(
        default_factory=lambda: defaultdict(lambda: (0, 0))
    )
    """Slices over the bound, and all, of each of our rows; whole slices, and streams with fewer."""

    @cached_property
    def calibration(self) -> Calibration:
        return Calibration.load()

    @cached_property
    def gates(self) -> dict[str, Gate]:
        named = {"defaults": DEFAULTS, "personal": PERSONAL, "gate open": OPEN}
        return {name: Gate(name, classes, self.embedder) for name, classes in named.items()}

    def pair_methods(self, name: str) -> list[Method]:
        """Of one pair nothing is ever stored, and one insertion rule stands for both."""
        gates = ("defaults", "personal") if name.startswith("fow") else ("defaults",)
        return [
            *static(),
            *(method for method in per_entry(0) if not method.rule.endswith("always")),
            *(row for gate in gates for row in ours(self.gates[gate], self.calibration, 0)),
        ]

    def stream_methods(
        self, name: str, seed: int, fitted: tuple[str, Calibration] | None
    ) -> list[Method]:
        """Anew for each stream: some of them learn."""
        rows: list[Method] = [*static(), *per_entry(seed)]
        for gate in ("gate open",) if name == "drift" else ("defaults", "gate open"):
            rows += ours(self.gates[gate], self.calibration, seed)
        if fitted:
            other, calibration = fitted
            rows += ours(self.gates["gate open"], calibration, seed, f"fitted on {other}")
        return rows

    def score_pairs(self, name: str, make: Callable[[], Pairs]) -> Iterator[str]:
        found = make()
        cached = self.vault.of([pair.cached.text for pair in found.pairs])
        asked = self.vault.of([pair.asked.text for pair in found.pairs])
        cosines = run.cosines(cached, asked)
        methods = self.pair_methods(name)
        scores = [(method, run.pairs(found.pairs, cosines, method)) for method in methods]
        yield from tables.pairs(found, scores)
        if any(pair.asked.history for pair in found.pairs):
            yield from whole_conversations(found, self.vault)

    def score_streams(self, name: str, make: Callable[[int], list[Stream]]) -> Iterator[str]:
        neighbours, place = self._near(make(0)[0])
        seeds = range(self.orders)
        other = OTHER_SET.get(name) if self.cross else None
        fitted = (other, cross.fitted(other, self.data, self.cache)) if other else None
        for variants in zip(*map(make, seeds), strict=True):
            methods = [self.stream_methods(name, seed, fitted) for seed in seeds]
            yield from self._table(variants, methods, neighbours, place)
        if name in OTHER_SET:
            seeds = range(self.orders, self.orders + OTHER_ORDERS)
            rows = [ours(self.gates["gate open"], self.calibration, seed) for seed in seeds]
            for variants in zip(*map(make, seeds), strict=True):
                yield from self._table(variants, rows, neighbours, place)

    def _near(self, stream: Stream) -> tuple[Neighbours, dict[str, int]]:
        texts = [asked.turn.text for asked in stream.asked]
        return Neighbours(self.vault.of(texts)), {text: at for at, text in enumerate(texts)}

    def _table(
        self,
        variants: Sequence[Stream],
        methods: Sequence[Sequence[Method]],
        neighbours: Neighbours,
        place: Mapping[str, int],
    ) -> Iterator[str]:
        """One stream in several orders, and the methods for each order."""
        places = [[place[asked.turn.text] for asked in stream.asked] for stream in variants]
        yield from tables.stream_head(variants[0], len(variants))
        rows: list[tuple[Method, list[StreamScore]]] = []
        for alike in zip(*methods, strict=True):
            scores = [
                run.stream(stream, neighbours, at, method)
                for stream, at, method in zip(variants, places, alike, strict=True)
            ]
            yield tables.stream_row(alike[0], scores, variants[0].labelled)
            rows.append((alike[0], scores))
        yield from tables.stream_notes(rows, variants[0].labelled)
        if variants[0].labelled:
            self._count_slices(variants[0], rows)

    def _count_slices(self, stream: Stream, rows: list[tuple[Method, list[StreamScore]]]) -> None:
        for method, scores in rows:
            if not isinstance(method, Ours) or method.bound is None:
                continue
            for score in scores:
                name = f"{method.name}; {tables.kind_of(stream)}", score.hits >= SLICE_HITS
                bad, every = self.over[name]
                bad += tables.slices_over(method.bound, [score])
                self.over[name] = bad, every + len(list(score.slices()))


def whole_conversations(found: Pairs, vault: Vault) -> Iterator[str]:
    """The peers again, keyed on all turns as one text, as LiteLLM does: what the window holds."""
    flat = [(flattened(pair.cached), flattened(pair.asked)) for pair in found.pairs]
    cosines = run.cosines(vault.of([one for one, _ in flat]), vault.of([one for _, one in flat]))
    scores = [(method, run.pairs(found.pairs, cosines, method)) for method in static()]
    yield from tables.pairs(Pairs(f"{found.name}, all turns as one text", found.pairs), scores)


def flattened(turn: Turn) -> str:
    return "\n".join([message["content"] for message in turn.history] + [turn.text])


def sections(bench: Bench, heldout: Path | None) -> dict[str, Callable[[], Iterator[str]]]:
    """By the name that --only gives, in the order of printing."""
    found: dict[str, Callable[[], Iterator[str]]] = {}
    for name, pairs in pair_sets(bench.data, heldout).items():
        found[name] = partial(bench.score_pairs, name, pairs)
    for name, streams in stream_sets(bench.data).items():
        found[name] = partial(bench.score_streams, name, streams)
    found["interval"] = lambda: coverage.report(bench.calibration)
    found["rules"] = cost.rules
    found["cost"] = lambda: cost.report(bench.data, bench.embedder, bench.vault)
    return found


MEASURED = ("interval", "rules", "cost")
"""Sections about no set."""


def told(name: str, lines: Callable[[], Iterator[str]]) -> Iterator[str]:
    try:
        yield from lines()
    except MissingError as missing:
        yield f"\n== {name}\n  skipped: {missing}"


def report(asked: argparse.Namespace, scratch: Path) -> Iterator[str]:
    cache = asked.cache or scratch
    embedder = load(EmbeddingSettings(), cache)
    vault = Vault(embedder, cache)
    bench = Bench(asked.data or Path("DIR"), cache, embedder, vault, asked.orders, asked.cross)
    yield f"encoder {embedder.fingerprint}, calibration {bench.calibration.version}"
    yield from tables.LEGEND
    chosen = {
        name: lines
        for name, lines in sections(bench, asked.heldout).items()
        if not asked.only or name in asked.only
    }
    with compared_once():
        for name in chosen:
            if name not in MEASURED:
                yield from told(name, chosen[name])
    for name in MEASURED:
        if name in chosen:
            yield from told(name, chosen[name])
    if bench.over:
        yield from tables.slices(bench.over)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="directory with the public sets")
    parser.add_argument("--cache", type=Path, help="where the encoder and the vectors are kept")
    parser.add_argument("--heldout", type=Path, help="pairs for the final score")
    parser.add_argument("--orders", type=int, default=1, help="of each stream")
    parser.add_argument("--cross", action="store_true", help="fit calibrations to other sets")
    names = [*pair_sets(Path(), Path()), *stream_sets(Path()), *MEASURED]
    parser.add_argument("--only", nargs="+", metavar="SET", help="of " + ", ".join(names))
    asked = parser.parse_args()
    print(describe())
    with tempfile.TemporaryDirectory() as scratch:
        for line in report(asked, Path(scratch)):
            print(line, flush=True)


if __name__ == "__main__":
    main()
