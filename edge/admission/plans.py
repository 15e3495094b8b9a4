"""What a tenant may use: its plan, and what is used of it so far.

A hit costs one request and nothing else. What must be computed is reserved before the upstream is
asked, prompt and answer together as far as can be foreseen, and settled when it is known: nobody
gets more than their plan by asking much at once, and nobody pays for what was not answered.

Quotas are of one node: whoever asks two nodes of a fleet may use both.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, MinLen

from edge.admission.rate import Limit, Meter, Taken
from index.entry import Instant

TENANTS_MAX = 100_000
"""Whose use is remembered; some 100 MB. There are fewer keys (`sync.keybook`)."""
LOOKED_AT = 8
"""At most, for one that may be forgotten."""

What = Literal["requests", "tokens", "tokens_day", "concurrency"]


@dataclass(frozen=True, slots=True)
class PlanSettings:
    """What the tenants of a plan may use, each of them, on this node. What is unset does not limit.
    Give all nodes of a fleet the same plans."""

    name: Annotated[str, MinLen(1)]
    """As `keys.plan` and `promptedge keys create --plan` call it."""
    requests_per_minute: Annotated[int, Gt(0)] | None = None
    """All requests, hits too."""
    tokens_per_minute: Annotated[int, Gt(0)] | None = None
    """Tokens of prompts and answers that upstreams compute. A hit costs none."""
    concurrency: Annotated[int, Gt(0)] | None = None
    """Requests at a time that wait for an upstream, or for the rest of its answer."""
    weight: Annotated[float, Gt(0)] = 1.0
    """Its tenants' share of the upstreams while there is not enough for all: one of weight 4 gets
    four times as much as one of 1, which is also what those without a plan have."""
    queue_s: Annotated[float, Ge(0)] | None = None
    """How long a request may wait for an upstream to be free. Unset: `admission.queue_s`."""
    tokens_per_day: Annotated[int, Gt(0)] | None = None
    """The same as a budget for the day: it fills again evenly, over 24 hours."""


@dataclass(frozen=True, slots=True)
class Exceeded:
    """A limit that does not leave room."""

    what: What
    limit: float
    asked: float
    wait_s: float
    """How long until it does; infinite if it never will, as more is asked than the limit."""


@dataclass(slots=True, eq=False)
class Usage:
    """What one tenant has used of its plan."""

    plan: PlanSettings
    requests: Meter | None
    tokens: Meter | None
    day: Meter | None
    running: int = 0

    def request(self, now: Instant) -> Exceeded | None:
        """Count a request; None if it may go on."""
        if self.requests is None:
            return None
        if wait_s := self.requests.wait_s(1, now):
            return Exceeded("requests", self.requests.limit.units, 1, wait_s)
        self.requests.spend(1, now)
        return None

    def reserve(
        self, prompt: float, answer: float, call_s: float, now: Instant, *, waits: bool = True
    ) -> "Reservation | Exceeded":
        """Set tokens aside for a call that is about to be made. Calls take about `call_s`. One that
        nobody `waits` for is none of those that run at a time.

        If prompt and answer are more than a limit but the prompt is not, all of the limit is: the
        answer may turn out shorter than foreseen.
        """
        most = self.plan.concurrency
        if most is not None and waits and self.running >= most:
            return Exceeded("concurrency", most, 1, call_s / most)
        meters: list[tuple[What, Meter]] = []
        if self.tokens is not None:
            meters.append(("tokens", self.tokens))
        if self.day is not None:
            meters.append(("tokens_day", self.day))
        most_tokens = min((meter.limit.units for _, meter in meters), default=0.0)
        tokens = max(prompt, min(prompt + answer, most_tokens))
        for what, meter in meters:
            if wait_s := meter.wait_s(tokens, now):
                return Exceeded(what, meter.limit.units, tokens, wait_s)
        self.running += waits
        return Reservation(self, [(meter, meter.take(tokens, now)) for _, meter in meters], waits)

    def idle(self, now: Instant) -> bool:
        """Is it as good as new?"""
        meters = (self.requests, self.tokens, self.day)
        return not self.running and all(one is None or one.idle(now) for one in meters)


@dataclass(slots=True, eq=False)
class Reservation:
    """Tokens set aside for one call, and its place among those that run."""

    usage: Usage
    taken: list[tuple[Meter, Taken]]
    waits: bool = True
    settled: bool = False

    def settle(self, used: float, now: Instant) -> None:
        """It is over, and took `used` tokens. Harmless a second time."""
        if self.settled:
            return
        self.settled = True
        self.usage.running -= self.waits
        for meter, taken in self.taken:
            meter.settle(taken, used, now)


class Quotas:
    """Plans, and how much of them every tenant has used."""

    def __init__(self, plans: tuple[PlanSettings, ...] = ()) -> None:
        self._plans = {plan.name: plan for plan in plans}
        self._used: OrderedDict[tuple[str, str], Usage] = OrderedDict()

    def __len__(self) -> int:
        """Tenants and plans whose use is remembered."""
        return len(self._used)

    def usage(self, tenant: str, plan: str, now: Instant) -> Usage | None:
        """What a tenant has used of its plan; None if there is no plan of that name, and so no
        limit. Of each plan that it has keys of apart: to use two in turn renews neither."""
        terms = self._plans.get(plan)
        if terms is None:
            return None
        name = tenant, plan
        mine = self._used.get(name)
        if mine is None:
            mine = self._used[name] = _fresh(terms)
            self._forget(now)
        self._used.move_to_end(name)
        return mine

    def _forget(self, now: Instant) -> None:
        """Somebody who has not asked for long, and of these one of whom nothing is known that would
        be missed; if there is none at hand, whoever it is: a bound is a bound."""
        while len(self._used) > TENANTS_MAX:
            for _ in range(LOOKED_AT):
                name, usage = next(iter(self._used.items()))
                if usage.idle(now):
                    break
                self._used.move_to_end(name)
            self._used.popitem(last=False)


def _fresh(plan: PlanSettings) -> Usage:
    def meter(units: int | None, window_s: float = 60.0) -> Meter | None:
        return None if units is None else Meter(Limit(units, window_s))

    return Usage(
        plan,
        meter(plan.requests_per_minute),
        meter(plan.tokens_per_minute),
        meter(plan.tokens_per_day, 86_400.0),
    )
