"""Who asks what, and when: drawn before anybody is asked, and the same for every system.

Arrivals are Poisson: nobody waits for an answer before the next one asks. So a system that is slow
gets no less to do, and its slowness is seen by all who come meanwhile, not by one.
"""

from bisect import bisect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate, product
from random import Random
from typing import Literal

from bench.http.stock import KINDS, PLACES, THINGS, VERBS

Plan = Literal["paid", "free"]


@dataclass(frozen=True, slots=True)
class Tenant:
    name: str
    plan: Plan

    @property
    def key(self) -> str:
        return f"sk-bench-{self.name}"


PAID = tuple(Tenant(f"paid-{number}", "paid") for number in range(1, 4))
FREE = tuple(Tenant(f"free-{number}", "free") for number in range(1, 13))
TENANTS = (*PAID, *FREE)


@dataclass(frozen=True, slots=True)
class Asking:
    """One request to be."""

    at_s: float
    """From the beginning of the run."""
    tenant: Tenant
    prompt: str
    part: str = ""
    """What it is for: a part of the table."""


Draw = Callable[[], str]


def arrivals(
    chance: Random, rate: float, begins_s: float, ends_s: float, who: tuple[Tenant, ...],
    draw: Draw, part: str = "",
) -> Iterator[Asking]:  # fmt: skip
    """`rate` a second from all of `who` together."""
    at_s = begins_s
    while rate and (at_s := at_s + chance.expovariate(rate)) < ends_s:
        yield Asking(at_s, chance.choice(who), draw(), part)


class Prompts:
    """Questions that differ in a word or more, in an order of their own. None comes twice."""

    def __init__(self, seed: int) -> None:
        words = list(product(VERBS, KINDS, THINGS, PLACES))
        Random(seed).shuffle(words)
        self._left = iter(words)
        self._round = 0

    def new(self) -> str:
        verb, kind, thing, place = next(self._left)
        return f"How do I {verb} a {kind} {thing} {place}?"

    def some(self, count: int) -> list[str]:
        return [self.new() for _ in range(count)]


def zipf(chance: Random, prompts: list[str], alpha: float = 1.0) -> Draw:
    """The first is asked most, the second `2 ** alpha` times more rarely, and so on."""
    bounds = list(accumulate(1 / rank**alpha for rank in range(1, len(prompts) + 1)))
    return lambda: prompts[bisect(bounds, chance.random() * bounds[-1])]
