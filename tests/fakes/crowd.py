"""A crowd before one simulated server: time is made up, in steps of 20 ms.

How a server shares itself among the requests it has is its `Sharing`: how fast each gets on, with
so many at a time, where 1 is alone. A node admits by `Upstream.spare`; who is not admitted waits in
one queue, for `QUEUE_S` at most. Whoever has no whole answer `PATIENCE_S` after asking leaves, and
the share `leaving` of them somewhere within the answer, however fast it comes. One `Random(seed)`
draws everything, so a seed replays a run.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from math import exp, inf
from random import Random

from edge.errors import Overloaded, UpstreamError
from edge.routing.call import Call
from edge.routing.need import Need
from edge.routing.pool import Pool
from edge.routing.settings import UpstreamSettings
from edge.routing.upstream import Upstream
from index.entry import Instant, Timestamp

STEP_S = 0.02
QUEUE_S, PATIENCE_S = 5.0, 10.0
FIRST_S, TOKENS, TOKENS_PER_S = 0.25, 12, 16.0
"""Alone: a second for an answer."""
Sharing = Callable[[int], float]
Over = Callable[[float], float]
"""Something that depends on the time."""


def thrashes(slots: int) -> Sharing:
    """A server that runs out of memory: more at a time than its slots get less done."""
    return lambda running: max(1.0, running / slots) ** -1.5


def shares(slots: int) -> Sharing:
    """More at a time than its slots get as much done, each the slower."""
    return lambda running: max(1.0, running / slots) ** -1.0


def batches(slots: int) -> Sharing:
    """Each slows the others, and yet more at a time always get more done."""
    return lambda running: 1 / (1 + running / slots)


def alone(running: int) -> float:
    """A provider with as many machines as it takes."""
    return 1.0


@dataclass(frozen=True, slots=True)
class Server:
    sharing: Sharing
    takes: float = inf
    """With so many it refuses the next."""
    lanes: int | None = None
    """It computes so many at a time, and the others wait; None: all of them."""
    slower: Over = field(default=lambda now: 1.0)
    whole: bool = False
    """Whether its answers come in one piece."""


@dataclass(slots=True, eq=False)
class Asker:
    at: float
    first_s: float
    """Of work until the first token, and `tokens` after it."""
    tokens: float
    enough: float = inf
    """So many tokens, and it leaves."""
    left: float = 0.0
    """Of its tokens."""
    call: Call | None = None
    took_s: float | None = None


class Crowd:
    def __init__(
        self,
        server: Server,
        rate: Over,
        seed: int,
        concurrency: int | None = None,
        spread: float = 0.0,
        leaving: float = 0.0,
    ) -> None:
        """`rate` is in requests a second; `spread` is of the logarithm of how long work takes."""
        self.server = server
        self.rate = rate
        self.chance = Random(seed)
        self.spread = spread
        self.leaving = leaving
        settings = UpstreamSettings("http://server", concurrency=concurrency)
        self.upstream = Upstream(settings, "server", frozenset())
        self.pool = Pool([self.upstream], Random(seed))
        self.now = 0.0
        self.asked: list[Asker] = []
        self.queue: deque[Asker] = deque()
        self.running: list[Asker] = []
        self._next = self.chance.expovariate(rate(0.0))

    def run(self, until_s: float) -> None:
        while self.now < until_s:
            self.now += STEP_S
            self._arrive()
            self._admit()
            self._compute()
            self._leave()
            self.pool.check()

    def goodput(self, begins_s: float, ends_s: float) -> float:
        """Whole answers a second, of those asked for in that time."""
        part = [one for one in self.asked if begins_s <= one.at < ends_s]
        return sum(one.took_s is not None for one in part) / (ends_s - begins_s)

    def _arrive(self) -> None:
        while self._next <= self.now:
            chance = self.chance
            first_s = FIRST_S * exp(chance.gauss(0, self.spread))
            tokens = max(1.0, TOKENS * exp(chance.gauss(0, 2 * self.spread)))
            one = Asker(self._next, first_s, tokens, left=tokens)
            if self.leaving and chance.random() < self.leaving:
                one.enough = chance.uniform(0, tokens)
            self.asked.append(one)
            self.queue.append(one)
            self._next += chance.expovariate(self.rate(self._next))

    def _admit(self) -> None:
        now, wall = Instant(self.now), Timestamp(self.now)
        while self.queue and self.now - self.queue[0].at > QUEUE_S:
            self.queue.popleft()
        while self.queue and self.pool.spare([self.upstream], now, wall) != 0:
            one = self.queue.popleft()
            try:
                one.call = self.pool.trip(Need("m", 1_000), now, wall).first(now, wall)
            except Overloaded:
                continue
            one.call.streams = not self.server.whole
            if len(self.running) < self.server.takes:
                self.running.append(one)
                continue
            error = UpstreamError("busy", status=429, retry_after_s=1)
            one.call.failed(now, error)
            if error.crowded:  # it was for their number, so it may wait like the others
                self.queue.append(one)
                return

    def _compute(self) -> None:
        server = self.server
        working = self.running[: server.lanes]
        speed = server.sharing(len(working)) / server.slower(self.now)
        for one in working:
            assert one.call is not None
            if one.first_s > 0:
                one.first_s -= STEP_S * speed
                if one.first_s <= 0 and not server.whole:
                    one.call.answers(Instant(self.now))
                continue
            one.left -= STEP_S * speed * TOKENS_PER_S
            if one.left <= 0:
                self._answered(one, one.call)

    def _answered(self, one: Asker, call: Call) -> None:
        self.running.remove(one)
        if self.server.whole:
            call.answers(Instant(self.now), whole=True)
        call.succeeded(Instant(self.now), round(one.tokens))
        one.took_s = self.now - one.at

    def _leave(self) -> None:
        for one in list(self.running):
            assert one.call is not None
            seen = one.first_s <= 0 and not self.server.whole
            one.call.tokens = int(one.tokens - one.left) if seen else 0
            satisfied = seen and one.call.tokens >= one.enough
            if satisfied or self.now - one.at > PATIENCE_S:
                one.call.abandoned(Instant(self.now))
                self.running.remove(one)
