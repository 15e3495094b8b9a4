"""The numbers as they are printed."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from bench.quality.methods import Method
from bench.quality.ours import Ours
from bench.quality.run import SLICE_HITS, PairScore, StreamScore
from bench.quality.sets import UNSEEN, Pairs, Stream
from bench.quality.vcache import PerEntry

PAIR_HEAD = f"  {'':<36}{'hit rate':>9}{'wrong/hit':>10}{'wrong/req':>10}  "
PAIR_HEAD += f"{'should-hit served':>20}{'traps wrong':>20}"
STREAM_HEAD = f"  {'':<36}{'hit rate':>9}{'wrong/hit':>10}{'wrong/req':>10}{'upstream':>10}"
STREAM_HEAD += f"  {'slices over':>12}{'worst':>8}{'hits':>8}"

REASONED = 0.01
"""The bound whose row is told the reasons of."""


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
            f"  {method.name:<36}{share(hits, len(found.pairs)):>9}"
            f"{share(score.wrong, hits, 2):>10}{share(score.wrong, len(found.pairs), 2):>10}  "
            f"{of(score.right, score.same):>20}{of(score.wrong, score.other):>20}"
        )
    for method, score in scores:
        if isinstance(method, Ours) and method.bound == REASONED:
            yield f"  {method.name}: should-hits not served for {_counts(score.reasons)}"
            yield f"    traps refused for {_counts(score.refusals)}"
            if score.wrong:
                yield f"    traps served of {_counts(score.wrong_kinds)}"


def stream_head(found: Stream, orders: int) -> Iterator[str]:
    times = f", in {orders} orders" if orders > 1 else ""
    yield f"\n== {found.name}: {len(found.asked)} requests{times}, {found.note}"
    yield STREAM_HEAD


def stream_row(method: Method, scores: Sequence[StreamScore], labelled: bool) -> str:
    """Of one stream, or of one in several orders."""
    requests, hits = sum(one.requests for one in scores), sum(one.hits for one in scores)
    wrong, upstream = sum(one.wrong for one in scores), sum(one.upstream for one in scores)
    row = f"  {method.name:<36}{share(hits, requests):>9}"
    if not labelled:
        return row + f"{'-':>10}{'-':>10}{share(upstream, requests):>10}"
    slices = [one for score in scores for one in score.slices()]
    over = "-"
    if method.bound is not None and slices:
        over = f"{slices_over(method.bound, scores)}/{len(slices)}"
    return row + (
        f"{share(wrong, hits, 2):>10}{share(wrong, requests, 2):>10}{share(upstream, requests):>10}"
        f"  {over:>12}{share(max(slices, default=0), 1, 2):>8}{hits:>8}"
    )


def slices_over(bound: float, scores: Sequence[StreamScore]) -> int:
    return sum(one > bound for score in scores for one in score.slices())


def stream_notes(
    rows: Sequence[tuple[Method, Sequence[StreamScore]]], labelled: bool
) -> Iterator[str]:
    """Our hits beside those of the per-entry rules; what the node itself would show; reasons."""
    hits = {method.name: sum(one.hits for one in scores) for method, scores in rows}
    for method, scores in rows:
        if not isinstance(method, Ours):
            continue
        peers = [
            f"{_times(hits[method.name], hits[peer.name])} {peer.rule}"
            for peer, _ in rows
            if isinstance(peer, PerEntry) and peer.bound == method.bound
        ]
        if labelled or method.bound == REASONED:
            yield f"  {method.name}"
        if labelled:
            if peers:
                yield f"    vCache-style hits times {', '.join(peers)}"
            yield f"    {shown(method)}"
        if method.bound == REASONED:
            yield f"    not served for {_counts(_together(one.reasons for one in scores))}"
            yield f"    served as {_counts(_together(one.hit_kinds for one in scores))}"
        if method.bound == REASONED and labelled:
            yield f"    wrong of them {_counts(_together(one.wrong_kinds for one in scores))}"


def _together(counts: Iterable[Counter[str]]) -> Counter[str]:
    return sum(counts, Counter())


def _times(ours: int, theirs: int) -> str:
    return f"{ours / theirs:.2f}" if theirs else "-"


def shown(method: Ours) -> str:
    """At the end of the (first) stream, what an operator reads."""
    report = method.report()
    if report is None:
        return "shown: nothing, as meaning was never asked"
    error = report.error
    opened = ", ".join(f"{stratum} {cut:.2f}" for stratum, cut in report.cuts.items()) or "none"
    return (
        f"shown: {error.estimate:.2%} ({error.low:.2%} to {error.high:.2%}) of {error.labels} "
        f"labels, {report.alarms} alarms, shadow rate {report.shadow_rate:.1%}, "
        f"cuts {opened}"
    )


def kind_of(stream: Stream) -> str:
    """What slices are counted together."""
    if "drift" in stream.name:
        return "drift"
    return "steady, not train" if UNSEEN in stream.note else "steady, all splits"


def slices(over: Mapping[tuple[str, bool], tuple[int, int]]) -> Iterator[str]:
    yield f"\n== over the bound, streams together: slices of {SLICE_HITS} hits; streams with fewer"
    for name in dict.fromkeys(name for name, _ in over):
        whole, short = over.get((name, True), (0, 0)), over.get((name, False), (0, 0))
        yield f"  {name:<60}{of(*whole):>20}{of(*short):>20}"


def _counts(found: Mapping[str, int]) -> str:
    every = sum(found.values())
    most = Counter(found).most_common(10)
    rest = every - sum(number for _, number in most)
    parts = [f"{name or '(no reason)'} {number}" for name, number in most]
    return ", ".join([*parts, f"others {rest}"] if rest else parts) or "nothing"


LEGEND = (
    "hit rate: hits / requests. wrong: a hit whose stored answer is not right for the request.",
    "should-hit served, traps wrong: hits of the pairs with one answer, with two.",
    "upstream: misses, shadow samples and second questions / requests.",
    f"slices over: of {SLICE_HITS} hits in a row (of all, if fewer), those with more wrong/hit",
    "than bound; worst: the largest. A vCache-style bound is one on wrong/req, unless per hit.",
    "ours: `max_error`, and what the gate does. personal: personal prompts and amounts are matched",
    "too; gate open: everything is that may be (`cache.classes`), as the operator of an intent bot",
    "would have it, whose answers depend on the intent alone.",
    "In-sample: calibration.json was fitted to the train splits of CLINC150 and BANKING77: part of",
    "the streams that say so, not of `not train` streams; `fitted on` rows know nothing of theirs.",
    "Rules were written with the odd ids of fow-cache, part a of our own and the repository's half",
    "of the adversarial pairs. All sets were scored while rules changed.",
)
