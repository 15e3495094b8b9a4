"""What a tenant may use: its plan, and what is used of it so far.

A hit costs one request and nothing else. What must be computed is reserved before the upstream is
asked, prompt and answer together as far as can be foreseen, and settled when it is known: nobody
gets more than their plan by asking much at once, and nobody pays for what was not answered.

Limits are of the fleet: nodes tell one another what they grant (`edge.admission.shares`). How many
calls may run at a time is of each node.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, MinLen

from edge.admission.rate import Limit, Taken
from edge.admission.shares import Fleetwide, SharedMeter
from index.entry import Instant, NodeName
from sync.messages import Grant

TENANTS_MAX = 100_000
"""Whose use is remembered; some 100 MB. There are fewer keys (`sync.keybook`)."""
LOOKED_AT = 8
"""At most, for one that may be forgotten."""

ROWS_MAX = 4_096
"""Tenants that others are told of in one turn; the rest in the next ones."""

What = Literal["requests", "tokens", "tokens_day", "concurrency"]


@dataclass(frozen=True, slots=True)
class PlanSettings:
    """What the tenants of a plan may use, each of them, on all nodes together (`admission.quotas`).
    What is unset does not limit. Give all nodes of a fleet the same plans."""

    name: Annotated[str, MinLen(1)]
    """As `keys.plan` and `promptedge keys create --plan` call it."""
    requests_per_minute: Annotated[int, Gt(0)] | None = None
    """All requests, hits too."""
    tokens_per_minute: Annotated[int, Gt(0)] | None = None
    """Tokens of prompts and answers that upstreams compute. A hit costs none."""
    concurrency: Annotated[int, Gt(0)] | None = None
    """Requests at a time that wait for an upstream, or for the rest of its answer; on each node."""
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
    part: bool = False
    """Is there room for it in the fleet, and not in this node's part of it?"""


@dataclass(slots=True, eq=False)
class Usage:
    """What one tenant has used of its plan."""

    plan: PlanSettings
    requests: SharedMeter | None
    tokens: SharedMeter | None
    day: SharedMeter | None
    running: int = 0

    def request(self, now: Instant) -> Exceeded | None:
        """Count a request; None if it may go on."""
        if self.requests is None:
            return None
        self.requests.asked(1, now)
        if exceeded := _exceeded("requests", self.requests, 1, now):
            return exceeded
        self.requests.spend(1, now)
        return None

    def reserve(
        self,
        prompt: float,
        answer: float,
        call_s: float,
        now: Instant,
        *,
        waits: bool = True,
        granted: bool = False,
    ) -> "Reservation | Exceeded":
        """Set tokens aside for a call that is about to be made. Calls take about `call_s`. One that
        nobody `waits` for is none of those that run at a time. `granted`: there is room for it, as
        somebody knows who counts for all nodes.

        If prompt and answer are more than a limit but the prompt is not, all of the limit is: the
        answer may turn out shorter than foreseen.
        """
        most = self.plan.concurrency
        if most is not None and waits and self.running >= most:
            return Exceeded("concurrency", most, 1, call_s / most)
        tokens = self.foreseen(prompt, answer)
        for what, meter in self._of_tokens():
            meter.asked(tokens, now)
            if not granted and (exceeded := _exceeded(what, meter, tokens, now)):
                return exceeded
        self.running += waits
        taken = [(meter, meter.take(tokens, now)) for _, meter in self._of_tokens()]
        return Reservation(self, taken, waits)

    def foreseen(self, prompt: float, answer: float) -> float:
        """Tokens to set aside for a call."""
        most = min((meter.limit.units for _, meter in self._of_tokens()), default=0.0)
        return max(prompt, min(prompt + answer, most))

    def limits(self, tokens: float) -> list[tuple[What, Limit, float]]:
        """All of the plan, with what a call of so many tokens takes of each."""
        found: list[tuple[What, Limit, float]] = []
        if self.requests is not None:
            found.append(("requests", self.requests.limit, 1.0))
        return found + [(what, meter.limit, tokens) for what, meter in self._of_tokens()]

    def _of_tokens(self) -> Iterator[tuple[What, SharedMeter]]:
        if self.tokens is not None:
            yield "tokens", self.tokens
        if self.day is not None:
            yield "tokens_day", self.day

    # Between nodes.

    @property
    def meters(self) -> list[SharedMeter]:
        """Of its limits, in an order that all nodes with the same plan have."""
        return [one for one in (self.requests, self.tokens, self.day) if one is not None]

    def idle(self, now: Instant) -> bool:
        """Is it as good as new?"""
        return not self.running and all(one.idle(now) for one in self.meters)


@dataclass(slots=True, eq=False)
class Reservation:
    """Tokens set aside for one call, and its place among those that run."""

    usage: Usage
    taken: list[tuple[SharedMeter, Taken]]
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
        self._fleet = Fleetwide()
        self._news: dict[tuple[str, str], None] = {}
        """Of whom there may be something to tell other nodes."""

    def __len__(self) -> int:
        """Tenants and plans whose use is remembered."""
        return len(self._used)

    def usage(self, tenant: str, plan: str, now: Instant) -> Usage | None:
        """What a tenant has used of its plan; None if there is no plan of that name, and so no
        limit. Of each plan that it has keys of apart: to use two in turn renews neither."""
        found = self._usage(tenant, plan, now)
        if found is not None and self._fleet.others:
            self._news[tenant, plan] = None
        return found

    # Between nodes.

    def turn(self, others: Iterable[NodeName], now: Instant) -> list[Grant]:
        """A new turn, in which these others are there; and what they are to be told. To be called
        every `shares.TURN_S`."""
        self._fleet.others = frozenset(others)
        self._fleet.turn += 1
        told = []
        for name in list(self._news)[:ROWS_MAX]:
            del self._news[name]
            usage = self._used.get(name)
            if usage is None:
                continue
            grant = Grant(*name, tuple(meter.tell(now) for meter in usage.meters))
            told.append(grant)
            if self._fleet.others and any(map(any, grant.meters)):
                self._news[name] = None  # once more, until there is nothing
        return told if self._fleet.others else []

    def hear(self, node: NodeName, grants: Iterable[Grant], now: Instant) -> None:
        """What another node says that it granted."""
        for grant in grants:
            usage = self._usage(grant.tenant, grant.plan, now)
            if usage is not None and len(usage.meters) == len(grant.meters):
                for meter, told in zip(usage.meters, grant.meters, strict=True):
                    meter.hear(node, told, now)

    def _usage(self, tenant: str, plan: str, now: Instant) -> Usage | None:
        terms = self._plans.get(plan)
        if terms is None:
            return None
        name = tenant, plan
        mine = self._used.get(name)
        if mine is None:
            mine = self._used[name] = self._fresh(terms)
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

    def _fresh(self, plan: PlanSettings) -> Usage:
        def meter(units: int | None, window_s: float = 60.0) -> SharedMeter | None:
            return None if units is None else SharedMeter(Limit(units, window_s), self._fleet)

        return Usage(
            plan,
            meter(plan.requests_per_minute),
            meter(plan.tokens_per_minute),
            meter(plan.tokens_per_day, 86_400.0),
        )


def _exceeded(what: What, meter: SharedMeter, units: float, now: Instant) -> Exceeded | None:
    """What keeps so much from being granted, if anything does."""
    if wait_s := meter.wait_s(units, now):
        return Exceeded(what, meter.limit.units, units, wait_s)
    if wait_s := meter.part_wait_s(now):
        return Exceeded(what, meter.limit.units, units, wait_s, part=True)
    return None
