"""The numbers as they are printed."""

from collections.abc import Iterator, Sequence

from bench.quality.methods import Method
from bench.quality.run import SLICE_HITS, PairScore, StreamScore
from bench.quality.sets import Pairs, Stream

PAIR_HEAD = f"  {'':<26}{'hit rate':>9}{'wrong/hit':>10}{'wrong/req':>10}  "
PAIR_HEAD += f"{'should-hit served':>20}{'traps wrong':>20}"
STREAM_HEAD = f"  {'':<26}{'hit rate':>9}{'wrong/hit':>10}{'wrong/req':>10}{'upstream':>10}"
STREAM_HEAD += f"  {'slices over':>12}{'worst':>8}{'hits':>8}"


def share(part: float, whole: float, digits: int = 1) -> str:
    return f"{100 * part / whole:.{digits}f}%" if whole else "-"


def of(part: int, whole: int) -> str:
    return f"{part}/{whole} {share(part, whole):>6}"


def pairs(found: Pairs, scores: Sequence[tuple[Method, PairScore]]) -> Iterator[str]:
    yield f"\n== {found.name}: {len(found.pairs)} pairs"
    yield PAIR_HEAD
    for method, score in scores:
        hits = score.right + score.wrong
        yield (
            f"  {method.name:<26}{share(hits, len(found.pairs)):>9}"
            f"{share(score.wrong, hits, 2):>10}{share(score.wrong, len(found.pairs), 2):>10}  "
            f"{of(score.right, score.same):>20}{of(score.wrong, score.other):>20}"
        )


def stream_head(found: Stream) -> Iterator[str]:
    yield f"\n== {found.name}: {len(found.asked)} requests, {found.note}"
    yield STREAM_HEAD


def stream_row(method: Method, score: StreamScore, labelled: bool) -> str:
    n, slices = score.requests, list(score.slices())
    row = f"  {method.name:<26}{share(score.hits, n):>9}"
    if not labelled:
        return row + f"{'-':>10}{'-':>10}{share(score.upstream, n):>10}"
    over = "-"
    if method.bound is not None and slices:
        over = f"{sum(one > method.bound for one in slices)}/{len(slices)}"
    return row + (
        f"{share(score.wrong, score.hits, 2):>10}{share(score.wrong, n, 2):>10}"
        f"{share(score.upstream, n):>10}  {over:>12}{share(max(slices, default=0), 1, 2):>8}"
        f"{score.hits:>8}"
    )


LEGEND = (
    "hit rate: hits / requests. wrong: a hit whose stored answer is not right for the request.",
    "should-hit served, traps wrong: hits of the pairs with one answer, with two.",
    "upstream: misses, shadow samples and second questions / requests.",
    f"slices over: of {SLICE_HITS} hits in a row (of all, if fewer), how many have more wrong/hit",
    "than the bound; worst: the largest. A vCache-style bound is one on wrong/req.",
)
