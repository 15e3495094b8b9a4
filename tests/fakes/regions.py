"""Simulated upstreams with scripted trouble, and a crowd that asks them: time is made up.

An upstream computes first tokens on `workers` prefill workers, a queue before them; how long one
takes is log-normal. What follows the first token only keeps the request in flight. A script says
who is slow, refuses, is down or fails now and then, and when. One `Random(seed)` draws everything,
so a seed replays a run.

Whoever chooses is a `Chooser`; that of the node itself is `Ours`, on the real `Pool`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from math import exp
from random import Random
from typing import Any, Literal, Protocol

from edge.errors import UpstreamError
from edge.routing.call import Call
from edge.routing.need import Need
from edge.routing.pool import Pool, Trip
from edge.routing.settings import RoutingSettings, Tier, UpstreamSettings
from edge.routing.upstream import Upstream
from index.entry import Instant, Timestamp

Kind = Literal["slow", "limited", "down", "hangs", "flaky"]
KINDS: tuple[Kind, ...] = ("slow", "limited", "down", "hangs", "flaky")
SPREAD = 0.26
"""Of the logarithm: one answer of a hundred takes 1.8 times as long as the middle one."""
NEED = Need("m", 1_000)


@dataclass(frozen=True, slots=True)
class Region:
    name: str
    ttft_s: float
    workers: int = 32
    tier: Tier = "primary"


@dataclass(frozen=True, slots=True)
class Trouble:
    name: str
    begins_s: float
    ends_s: float
    kind: Kind
    amount: float = 1.0
    """slow: how many times; limited: `Retry-After` in seconds; flaky: share that fails."""


@dataclass(slots=True)
class Asked:
    """One request, as the crowd remembers it."""

    at: float
    first_s: float | None = None
    """Until its first token; None if it never came."""
    by: str = ""
    tries: list[str] = field(default_factory=list)
    running: list["Handle"] = field(default_factory=list)
    """Its attempts that have neither failed nor been called off."""


class Handle(Protocol):
    """One attempt at one upstream."""

    @property
    def name(self) -> str: ...
    def answers(self, now: float) -> None: ...
    def succeeded(self, now: float, tokens: int) -> None: ...
    def abandoned(self, now: float) -> None: ...


class Chooser(Protocol):
    def first(self, now: float) -> Handle | None: ...
    def next(self, after: Any, error: UpstreamError, now: float) -> Handle | None:
        """`after` failed; whom to try instead, if anybody."""

    def late_after_s(self, handle: Any) -> float | None:
        """When `hedge` is to be asked, if the first token is not here by then."""

    def hedge(self, beside: Any, now: float) -> Handle | None: ...


class World:
    def __init__(
        self, regions: Sequence[Region], troubles: Iterable[Trouble], seed: int, rate: float = 40.0
    ) -> None:
        self.regions = {region.name: region for region in regions}
        self.troubles = list(troubles)
        self.chance = Random(seed)
        self.rate = rate
        self.now = 0.0
        self.asked: list[Asked] = []
        self.failures: list[tuple[float, str, str]] = []
        """When who failed, and how: as the upstreams saw it."""
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()
        self._busy = dict.fromkeys(self.regions, 0)
        self._queues: dict[str, list[Callable[[], None]]] = {name: [] for name in self.regions}

    def run(self, chooser: Chooser, until_s: float) -> list[Asked]:
        self._chooser = chooser
        self._after(self.chance.expovariate(self.rate), self._arrive)
        while self._events and self._events[0][0] < until_s:
            self.now, _, act = heappop(self._events)
            act()
        return self.asked

    def _after(self, delay_s: float, act: Callable[[], None]) -> None:
        heappush(self._events, (self.now + delay_s, next(self._numbers), act))

    def _arrive(self) -> None:
        self._after(self.chance.expovariate(self.rate), self._arrive)
        request = Asked(self.now)
        self.asked.append(request)
        if (handle := self._chooser.first(self.now)) is not None:
            self._send(request, handle)

    def _send(self, request: Asked, handle: Handle) -> None:
        name = handle.name
        request.tries.append(name)
        request.running.append(handle)
        if len(request.running) == 1 and (late_s := self._chooser.late_after_s(handle)):
            self._after(late_s, lambda: self._late(request, handle))

        def fail(after_s: float, status: int, wait_s: float | None, *, lost: bool = False) -> None:
            error = UpstreamError("trouble", status=status)
            error.wait_s, error.connection_lost = wait_s, lost
            self._after(after_s, lambda: self._failed(request, handle, error))

        if self._amount(name, "down"):
            fail(0.005, 502, None, lost=True)
        elif self._amount(name, "hangs"):
            fail(5.0, 504, None, lost=True)
        elif wait_s := self._amount(name, "limited"):
            fail(0.05, 429, wait_s)
        elif self.chance.random() < (self._amount(name, "flaky") or 0.0):
            fail(0.05, 502, None)
        elif self._busy[name] >= self.regions[name].workers:
            self._queues[name].append(lambda: self._compute(request, handle))
        else:
            self._compute(request, handle)

    def _compute(self, request: Asked, handle: Handle) -> None:
        name = handle.name
        self._busy[name] += 1
        takes_s = self.regions[name].ttft_s * exp(self.chance.gauss(0, SPREAD))
        takes_s *= self._amount(name, "slow") or 1.0
        self._after(takes_s, lambda: self._computed(request, handle))

    def _computed(self, request: Asked, handle: Handle) -> None:
        name = handle.name
        self._busy[name] -= 1
        if self._queues[name]:
            self._queues[name].pop(0)()
        if handle not in request.running:
            return  # called off; it was computed in vain
        request.first_s, request.by = self.now - request.at, name
        handle.answers(self.now)
        request.running.remove(handle)
        for other in request.running:
            other.abandoned(self.now)
        request.running.clear()
        tokens = 1 + int(self.chance.expovariate(1 / 200))
        self._after(tokens / 50, lambda: handle.succeeded(self.now, tokens))

    def _failed(self, request: Asked, handle: Handle, error: UpstreamError) -> None:
        if handle not in request.running:
            return
        request.running.remove(handle)
        self.failures.append((self.now, handle.name, str(error.status)))
        again = self._chooser.next(handle, error, self.now)
        if again is not None:
            self._send(request, again)

    def _late(self, request: Asked, handle: Handle) -> None:
        if request.running != [handle]:
            return
        second = self._chooser.hedge(handle, self.now)
        if second is not None:
            self._send(request, second)

    def _amount(self, name: str, kind: str) -> float | None:
        for one in self.troubles:
            if one.name == name and one.kind == kind and one.begins_s <= self.now < one.ends_s:
                return one.amount
        return None


@dataclass(slots=True)
class OurHandle:
    call: Call
    trip: Trip

    @property
    def name(self) -> str:
        return self.call.upstream.name

    def answers(self, now: float) -> None:
        self.call.answers(Instant(now))

    def succeeded(self, now: float, tokens: int) -> None:
        self.call.succeeded(Instant(now), tokens)

    def abandoned(self, now: float) -> None:
        self.call.abandoned(Instant(now))


class Ours:
    """The node's own choice."""

    def __init__(
        self, regions: Sequence[Region], seed: int, settings: RoutingSettings | None = None
    ) -> None:
        upstreams = [
            Upstream(
                UpstreamSettings(f"http://{region.name}", tier=region.tier),
                region.name,
                frozenset(),
            )
            for region in regions
        ]
        self.pool = Pool(upstreams, Random(seed), settings)

    def first(self, now: float) -> OurHandle | None:
        trip = self.pool.trip(NEED, Instant(now), Timestamp(now))
        return OurHandle(trip.first(Instant(now), Timestamp(now)), trip)

    def next(self, after: OurHandle, error: UpstreamError, now: float) -> OurHandle | None:
        after.call.failed(Instant(now), error)
        self.pool.check()
        if any(not call.result for call in after.trip.calls if call is not after.call):
            return None  # the other of two goes on
        call = after.trip.next(after.call, error, Instant(now))
        return None if call is None else OurHandle(call, after.trip)

    def late_after_s(self, handle: OurHandle) -> float | None:
        return handle.call.late_after_s if self.pool.hedging else None

    def hedge(self, beside: OurHandle, now: float) -> OurHandle | None:
        call = beside.trip.hedge(Instant(now))
        return None if call is None else OurHandle(call, beside.trip)


def part(asked: Iterable[Asked], begins_s: float, ends_s: float) -> list[Asked]:
    return [one for one in asked if begins_s <= one.at < ends_s]


def quantile(asked: Sequence[Asked], share: float) -> float:
    """Of the waits for the first token; one that never came is the longest."""
    waits = sorted(float("inf") if one.first_s is None else one.first_s for one in asked)
    return waits[min(len(waits) - 1, int(share * len(waits)))]


def share(asked: Sequence[Asked], name: str) -> float:
    """Of the requests, how many were first sent to `name`."""
    return sum(one.tries[:1] == [name] for one in asked) / len(asked)
