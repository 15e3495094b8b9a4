"""What the runs left, as figures, each with its goal."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from bench.surge.crowd import Plan
from bench.surge.load import BROKEN, LEFT, Outcome
from bench.surge.scenarios import IDLE, STEPS, SURGE, Ran, Times

OVERLOAD = 5
"""Times the capacity, at which goodput and hits are looked at."""
PLANS: tuple[Plan, ...] = ("paid", "free")
SETTLES = 0.3
"""The share of a step that goodput does not count."""


@dataclass(frozen=True, slots=True)
class Goal:
    what: str
    limit: float
    sense: Literal["at least", "at most"]
    unit: str = "%"

    def met(self, value: float) -> bool:
        return value >= self.limit if self.sense == "at least" else value <= self.limit

    def written(self, value: float) -> str:
        digits = 0 if self.unit in ("%", "") or value >= 100 else 2
        return f"{value:,.{digits}f}{'' if not self.unit else ' ' + self.unit}"


GOODPUT = Goal(f"goodput at {OVERLOAD}x capacity, of its peak", 90, "at least")
HITS = Goal(f"p99 of hits at {OVERLOAD}x, to that at idle", 3, "at most", "x")
PAID = Goal(f"those who pay answered, at {SURGE}x", 95, "at least")
SHED = Goal(f"refused, p99 until told so, at {SURGE}x", 50, "at most", "ms")
TOLD = Goal("refusals that say when to come back", 100, "at least")
CALLS = Goal("upstream calls, to different prompts answered", 1.1, "at most", "x")
ALL = Goal("answered of 1,000 equal requests at once", 1_000, "at least", "")
ONCE = Goal("upstream calls for them", 1, "at most", "")
LOST = Goal("lost to a dead upstream, without a first token", 0, "at most", "")
NEAREST = Goal("share of the nearer of two upstreams", 80, "at least")
FOLLOWS = Goal("its share once it got 3x as slow, after 10 s", 20, "at most")
WRONG = Goal("answers to something else", 0, "at most", "")


def quantile(values: Iterable[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else float("nan")


def share(outcomes: Sequence[Outcome], holds: Callable[[Outcome], bool]) -> float:
    """In percent."""
    return 100 * sum(map(holds, outcomes)) / len(outcomes) if outcomes else float("nan")


def part(ran: Ran, name: str) -> list[Outcome]:
    return [one for one in ran.outcomes if one.asking.part == name]


def good(outcomes: Sequence[Outcome], plan: Plan) -> float:
    """Of those that tenants of a plan asked, the share that was answered, in percent."""
    return share([one for one in outcomes if one.asking.tenant.plan == plan], lambda it: it.good)


def goodput(ran: Ran, times: Times, step: int) -> float:
    """Answers a second to prompts that had to be computed, once that step has settled."""
    asked = part(ran, str(step))
    begins = min(one.asking.at_s for one in asked)
    window = begins + times.step * SETTLES, begins + times.step
    done = (one.asking.at_s + one.ended_s for one in asked if one.good)
    return sum(window[0] <= at_s < window[1] for at_s in done) / (window[1] - window[0])


def ladder_rows(ran: Ran, times: Times) -> list[list[str]]:
    rows = []
    for name in (IDLE, *map(str, STEPS)):
        asked, hits = part(ran, name), part(ran, f"hits:{name}")
        served = [one.ended_s * 1e3 for one in hits if one.good]
        refused = [one for one in asked if one.refused]
        late = quantile((one.ended_s * 1e3 for one in refused), 0.99)
        row = [name if name == IDLE else f"{name}x"]
        if asked:
            row += [f"{goodput(ran, times, int(name)):.1f}"]
            row += [f"{good(asked, plan):.0f} %" for plan in PLANS]
        else:
            row += ["", "", ""]
        row += [f"{len(refused)}", f"{late:.0f}" if refused else ""]
        if hits:
            row += [f"{quantile(served, 0.5):.1f}", f"{quantile(served, 0.99):.1f}"]
            row += [f"{share(hits, lambda one: one.good):.0f} %"]
        else:
            row += ["", "", ""]
        rows.append(row)
    return rows


LADDER_HEAD = (
    "load", "answers/s", "paid ok", "free ok", "refused", "p99 ms", "hits p50 ms", "p99 ms", "ok",
)  # fmt: skip


SURGE_HEAD = (
    "while it lasts", "asked", "answered", "paid", "free", "hits", "first token p50/p95 s",
    "refused", "left", "broken", "cores: used", "lacked",
)  # fmt: skip


def during(ran: Ran, times: Times) -> list[Outcome]:
    """What was asked while the surge lasted."""
    begins, ends = times.calm, times.calm + times.surge
    return [one for one in ran.outcomes if begins <= one.asking.at_s < ends]


def surge_row(name: str, ran: Ran, times: Times) -> list[str]:
    asked = during(ran, times)
    answered = [one for one in asked if one.good]
    waits = [one.first_s for one in answered if one.first_s is not None]
    again = reused(ran)
    return [
        name,
        f"{len(asked):,}",
        f"{share(asked, lambda one: one.good):.0f} %",
        *(f"{good(asked, plan):.0f} %" for plan in PLANS),
        f"{share(answered, lambda one: id(one) in again):.0f} %",
        f"{quantile(waits, 0.5):.2f}/{quantile(waits, 0.95):.2f}",
        f"{share(asked, lambda one: one.refused):.0f} %",
        f"{share(asked, lambda one: one.status == LEFT):.0f} %",
        f"{share(asked, lambda one: one.status == BROKEN):.0f} %",
        *(f"{one:.2f}" for one in ran.cores),
    ]


def reused(ran: Ran) -> set[int]:
    """The good outcomes, by `id`, that were computed for somebody who asked before."""
    calls: set[str] = set()
    again = set()
    for one in ran.outcomes:
        if one.good:
            if one.call in calls:
                again.add(id(one))
            calls.add(one.call)
    return again


def of_ladder(ran: Ran, times: Times) -> dict[Goal, float]:
    peak = max(goodput(ran, times, step) for step in STEPS)
    idle, busy = (
        quantile((one.ended_s for one in part(ran, f"hits:{name}") if one.good), 0.99)
        for name in (IDLE, str(OVERLOAD))
    )
    worst = part(ran, str(SURGE))
    refused = [one for one in worst if one.refused]
    found = {
        GOODPUT: 100 * goodput(ran, times, OVERLOAD) / peak if peak else 0.0,
        PAID: good(worst, "paid"),
    }
    if idle == idle:  # it is no number for whoever remembers nothing
        found[HITS] = busy / idle if busy == busy else float("inf")
    if refused:
        found[SHED] = 1e3 * quantile((one.ended_s for one in refused), 0.99)
        found[TOLD] = share(refused, lambda one: one.retry_after is not None)
    return found


def of_repeats(ran: Ran) -> dict[Goal, float]:
    answered = {one.asking.prompt for one in ran.outcomes if one.good}
    return {CALLS: calls(ran) / max(len(answered), 1)}


def of_equal(ran: Ran) -> dict[Goal, float]:
    return {ALL: sum(one.good for one in ran.outcomes), ONCE: calls(ran)}


def calls(ran: Ran) -> int:
    """Of upstreams, those that were refused too."""
    return sum(one["calls"] + one["refused"] for one in ran.calls)


def of_killed(ran: Ran) -> dict[Goal, float]:
    return {LOST: sum(not one.good and one.first_s is None for one in ran.outcomes)}


def of_slower(ran: Ran) -> dict[Goal, float]:
    return {NEAREST: near(part(ran, "before")), FOLLOWS: near(part(ran, "after"))}


def near(outcomes: Sequence[Outcome]) -> float:
    return share([one for one in outcomes if one.good], lambda one: one.by == "near")


def wrong(runs: Sequence[Ran]) -> dict[Goal, float]:
    return {WRONG: sum(one.wrong for ran in runs for one in ran.outcomes)}


def lag_ms(runs: Sequence[Ran]) -> float:
    """How late the generator was."""
    return 1e3 * quantile((one.lag_s for ran in runs for one in ran.outcomes), 0.99)
