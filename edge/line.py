"""Waiting for room at the upstreams: who fits goes at once, the others by fair queueing.

A place is held from the call's beginning to its end. Whoever waits holds nothing but its place in
the queue, and leaves it when cancelled, when its time is over, or when somebody's turn is worth
more. A race that must not lose a place: a place is handed to who waits; before it runs, it is
cancelled. It then hands the place on.
"""

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Hashable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt

from edge.admission.fair_queue import FairQueue, Waiting
from edge.admission.pace import Pace
from edge.metrics import Metrics
from edge.routing.upstream import Upstream
from index.entry import Instant

HELD_S = 4.0
"""How long a call takes, until one has ended."""
LOOK_S = 0.5
_HELD_S_LEAST = 1e-3
PRUDENCE = 0.5
"""Who is foreseen to wait longer than this share of what it may wait is not let wait: of those who
would just make it many do not, and who is refused had better know at once. With a half fewer than
one of a hundred refusals come late, at any load, and no answer is lost; with 0.8 it is five."""
_SMOOTHING = 0.1
"""How much a call counts in how long calls take; the first ones are averaged, with `HELD_S` as one
of them: a node that has just started must not refuse whom it could answer in no time."""
PACES_MAX = 256
"""Sets of upstreams that serve the same of which a pace is kept. There are fewer, but a local model
that was started again is another upstream."""

Where = tuple[Upstream, ...]
"""The upstreams that a call may go to."""
Queue = FairQueue[asyncio.Future[None]]


@dataclass(frozen=True, slots=True)
class AdmissionSettings:
    """What happens when more is asked of upstreams than they can do at a time. Stored answers never
    wait."""

    concurrency: Annotated[int, Gt(0)] | None = None
    """Calls of upstreams at a time, all together, at most. Unset: as many as the upstreams bear, by
    what is measured of them. More wait, each tenant for its fair share (see `plans.weight`)."""
    quotas: Literal["node", "shared", "strict"] = "shared"
    """Whose a plan's limits are: each `node`'s own; those of all nodes, which tell one another what
    they grant (`shared`); or the same with what goes to an upstream counted in Redis (`strict`)."""
    queue_s: Annotated[float, Ge(0)] = 15.0
    """How long a request may wait, unless its plan says otherwise. Who would have to wait longer is
    refused at once."""
    stale_after_s: Annotated[float, Ge(0)] = 2.0
    """How long a request may wait for which there is an expired answer that may be served for want
    of another (`cache.stale_if_error_s`); then it is."""
    tenant_queue_max: Annotated[int, Gt(0)] = 100
    """Calls of one tenant that wait at a time; more of it are refused."""
    queue_max: Annotated[int, Gt(0)] = 1_000
    """Calls that wait at a time; when there are more, the longest queue for its weight loses its
    newest."""


class LineFull(Exception):  # noqa: N818  a state
    """There is no waiting for it."""

    def __init__(self, reason: str, drain_s: float) -> None:
        super().__init__(reason)
        self.reason = reason
        """`queue_full`, `queue_late` (it would have to wait too long), `deadline` (it has)."""
        self.drain_s = drain_s
        """How long those who wait will take, about."""


class Line:
    """In front of upstreams. Whoever may go to the same ones, `where`, waits in one queue; the
    queues take turns where `admission.concurrency` is short rather than the upstreams."""

    def __init__(
        self,
        settings: AdmissionSettings,
        spare: Callable[[Where], int | None],
        metrics: Metrics,
        monotonic: Callable[[], Instant],
    ) -> None:
        """`spare` says how many more calls upstreams bear now; None: nobody is to wait for them."""
        self._settings = settings
        self._spare = spare
        self._metrics = metrics
        self._monotonic = monotonic
        self._queues: OrderedDict[Where, Queue] = OrderedDict()
        self._running: Counter[Where] = Counter()
        self._paces: OrderedDict[Where, Pace] = OrderedDict()
        """The one that was used longest ago first."""
        self._granted = 0
        """Places handed out to who has not begun, so that upstreams do not know of them yet."""
        self._ended = 0
        """How many calls have."""
        self.held_s = HELD_S
        """How long a place is held, smoothed."""

    def __repr__(self) -> str:
        return f"<Line {self.running} run, {len(self)} wait>"

    def __len__(self) -> int:
        """How many wait."""
        return sum(map(len, self._queues.values()))

    @property
    def running(self) -> int:
        return self._running.total()

    def length(self, flow: Hashable) -> int:
        """Of one flow's queues."""
        return sum(queue.length(flow) for queue in self._queues.values())

    @asynccontextmanager
    async def place(
        self, where: Where, flow: Hashable, weight: float, queue_s: float
    ) -> AsyncIterator[float]:
        """Around a call; says how long it waited.

        Raises:
            LineFull: it is not to be, within `queue_s`.
        """
        came = self._monotonic()
        if not self.free(where):
            await self._wait(where, flow, weight, queue_s, came)
        else:
            self._take(where, weight)
        began = self._monotonic()
        self._metrics.waited(began - came)
        try:
            yield began - came
        finally:
            self._ended += 1
            share = max(_SMOOTHING, 1 / (self._ended + 1))
            self.held_s += share * (self._monotonic() - began - self.held_s)
            self._leave(where)

    def free(self, where: Where) -> bool:
        """Would a call go at once?"""
        return where not in self._queues and self._free(where)

    def calm(self, where: Where) -> bool:
        """Is there as much room left as is in use?"""
        spare = self._spare(where)
        return self.free(where) and (spare is None or spare >= self._running[where])

    def refuses(self, where: Where, flow: Hashable, weight: float, queue_s: float) -> bool:
        """Would who came now be refused at once?"""
        return not self.free(where) and self._late(where, flow, weight, queue_s, self._monotonic())

    def room(self, where: Where) -> int | None:
        """How many calls there may be now, if all may go there; None: that is not known."""
        most, spare = self._settings.concurrency, self._spare(where)
        if spare is None or most is None:
            return most if spare is None else self.running + spare
        return min(most, self.running + spare)

    def foreseen_s(self, weight: float) -> float:
        """How long a call of that weight would wait that came now, of somebody who has none yet;
        where upstreams differ, at the busiest."""
        now = self._monotonic()
        full = [where for where in {*self._queues, *self._running} if not self.free(where)]
        return max((self._foreseen_s(where, None, weight, now) for where in full), default=0.0)

    def wake(self) -> None:
        """There may be more room: an upstream has begun to answer, or is well again."""
        turns = deque(self._queues)
        while turns:
            where = turns.popleft()
            if self._free(where) and self._admit(where):
                turns.append(where)

    async def run(self) -> None:
        """Some room comes with time alone."""
        while True:
            await asyncio.sleep(LOOK_S)
            self.wake()

    def gauges(self) -> Iterator[tuple[str, str, Callable[[], float]]]:
        yield "upstream_calls", "Calls of upstreams that run.", lambda: self.running
        yield "queue_waiting", "Calls that wait for room.", lambda: len(self)

    def check(self) -> None:
        """Audit; for tests, O(n)."""
        assert self._granted >= 0
        assert len(self._paces) <= PACES_MAX
        for where, queue in self._queues.items():
            queue.check()
            assert len(queue)
            assert not self._free(where)

    async def _wait(
        self, where: Where, flow: Hashable, weight: float, queue_s: float, now: Instant
    ) -> None:
        if self._late(where, flow, weight, queue_s, now):
            raise LineFull("queue_late", self._drain_s(where))
        queue = self._queues.setdefault(where, self._empty())
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        deadline = Instant(now + queue_s)
        waiting, out = queue.put(future, flow, weight=weight, deadline=deadline, now=now)
        self._turn_away(where, out, "queue_full")
        self.wake()  # there may be more room than there was
        try:
            async with asyncio.timeout(queue_s):
                await future
        except TimeoutError:
            if not _granted(future):
                raise LineFull("deadline", self._drain_s(where)) from None
        except BaseException:
            if _granted(future):
                self._granted -= 1
                self._leave(where)
            raise
        finally:
            queue.withdraw(waiting)
            self._close(where)
        self._granted -= 1

    def _empty(self) -> Queue:
        settings = self._settings
        return FairQueue(flow_max=settings.tenant_queue_max, total_max=settings.queue_max)

    def _free(self, where: Where) -> bool:
        most = self._settings.concurrency
        if most is not None and self.running >= most:
            return False
        spare = self._spare(where)
        return spare is None or spare > self._granted

    def _late(
        self, where: Where, flow: Hashable, weight: float, queue_s: float, now: Instant
    ) -> bool:
        """Would who comes now wait too long, as far as calls that have ended tell?"""
        foreseen_s = self._foreseen_s(where, flow, weight, now)
        return self._ended > 0 and foreseen_s > PRUDENCE * queue_s

    def _foreseen_s(self, where: Where, flow: Hashable, weight: float, now: Instant) -> float:
        queue = self._queues.get(where) or self._empty()
        turn_s = self._turn_s(where)
        pace = self._paces.get(where) or Pace()
        return max(
            (queue.ahead(flow, weight) + 1) * turn_s,
            (queue.alike(flow, weight) + 1) / pace.left(weight, 1 / turn_s, now),
        )

    def _take(self, where: Where, weight: float) -> None:
        self._running[where] += 1
        self._paces.setdefault(where, Pace()).took(weight, self._monotonic())
        self._paces.move_to_end(where)
        if len(self._paces) > PACES_MAX:
            self._paces.popitem(last=False)

    def _turn_s(self, where: Where) -> float:
        """How often a place becomes free: as often as one is taken, in the long run."""
        return max(self.held_s, _HELD_S_LEAST) / max(self._running[where], 1)

    def _drain_s(self, where: Where) -> float:
        """How long those who wait will take, and one more."""
        return (len(self._queues.get(where, ())) + 1) * self._turn_s(where)

    def _leave(self, where: Where) -> None:
        self._running[where] -= 1
        if not self._running[where]:
            del self._running[where]
        self.wake()

    def _admit(self, where: Where) -> bool:
        """Hand out a place; False if nobody waits there any more."""
        chosen, late = self._queues[where].next(self._monotonic())
        self._turn_away(where, late, "deadline")
        if chosen is not None and not chosen.item.done():
            self._take(where, chosen.weight)
            self._granted += 1
            chosen.item.set_result(None)
            self._queues.move_to_end(where)
        self._close(where)
        return where in self._queues

    def _close(self, where: Where) -> None:
        queue = self._queues.get(where)
        if queue is not None and not len(queue):
            del self._queues[where]

    def _turn_away(
        self, where: Where, waiting: list[Waiting[asyncio.Future[None]]], reason: str
    ) -> None:
        for one in waiting:
            if not one.item.done():
                one.item.set_exception(LineFull(reason, self._drain_s(where)))


def _granted(future: asyncio.Future[None]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None
