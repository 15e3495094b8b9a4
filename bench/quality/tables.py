"""The numbers as they are printed."""

from collections.abc import Iterator, Sequence

from bench.quality.methods import Method
from bench.quality.run import SLICE_HITS, PairScore, StreamScore
from bench.quality.sets import Pairs, Stream

PAIR_HEAD = f"  {'':<34}{'hit rate':>9}{'wrong/hit':>10}{'wrong/req':>10}  "
PAIR_HEAD += f"{'should-hit served':>20}{'traps wrong':>20}"
STREAM_HEAD = f"  {'':<34}{'hit rate':>9}{'wrong/hit':>10}{'wrong/req':>10}{'upstream':>10}"
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
            f"  {method.name:<34}{share(hits, len(found.pairs)):>9}"
            f"{share(score.wrong, hits, 2):>10}{share(score.wrong, len(found.pairs), 2):>10}  "
            f"{of(score.right, score.same):>20}{of(score.wrong, score.other):>20}"
        )


def stream_head(found: Stream, orders: int) -> Iterator[str]:
    times = f", in {orders} orders" if orders > 1 else ""
    yield f"\n== {found.name}: {len(found.asked)} requests{times}, {found.note}"
    yield STREAM_HEAD


def stream_row(method: Method, scores: Sequence[StreamScore], labelled: bool) -> str:
    """Of one stream, or of one in several orders."""
    requests, hits = sum(one.requests for one in scores), sum(one.hits for one in scores)
    wrong, upstream = sum(one.wrong for one in scores), sum(one.upstream for one in scores)
    row = f"  {method.name:<34}{share(hits, requests):>9}"
    if not labelled:
        return row + f"{'-':>10}{'-':>10}{share(upstream, requests):>10}"
    slices = [one for score in scores for one in score.slices()]
    over = "-"
    if method.bound is not None and slices:
        over = f"{sum(one > method.bound for one in slices)}/{len(slices)}"
    return row + (
        f"{share(wrong, hits, 2):>10}{share(wrong, requests, 2):>10}{share(upstream, requests):>10}"
        f"  {over:>12}{share(max(slices, default=0), 1, 2):>8}{hits:>8}"
    )


LEGEND = (
    "hit rate: hits / requests. wrong: a hit whose stored answer is not right for the request.",
    "should-hit served, traps wrong: hits of the pairs with one answer, with two.",
    "upstream: misses, shadow samples and second questions / requests.",
    f"slices over: of {SLICE_HITS} hits in a row (of all, if fewer), how many have more wrong/hit",
    "than the bound; worst: the largest. A vCache-style bound is one on wrong/req, unless per hit.",
)
