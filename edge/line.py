"""Waiting for room at the upstreams: who fits goes at once, the others by fair queueing.

A place is held from the call's beginning to its end. Whoever waits holds nothing but its place in
the queue, and leaves it when cancelled, when its time is over, or when somebody's turn is worth
more. A race that must not lose a place: a place is handed to who waits; before it runs, it is
cancelled. It then hands the place on.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt

from edge.admission.fair_queue import FairQueue, Waiting
from edge.metrics import Metrics
from index.entry import Instant

HELD_S = 4.0
"""How long a call takes, until one has ended."""
_SMOOTHING = 0.1


@dataclass(frozen=True, slots=True)
class AdmissionSettings:
    """What happens when more is asked of upstreams than they can do at a time. Stored answers never
    wait."""

    concurrency: Annotated[int, Gt(0)] | None = None
    """Calls of upstreams at a time, all together; more wait, each tenant for its fair share (see
    `plans.weight`). Unset: any number, nobody waits here."""
    queue_s: Annotated[float, Ge(0)] = 15.0
    """How long a request may wait, unless its plan says otherwise. Who would have to wait longer is
    refused at once."""
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
    def __init__(
        self,
        settings: AdmissionSettings,
        room: Callable[[], float | None],
        metrics: Metrics,
        monotonic: Callable[[], Instant],
    ) -> None:
        """`room` says how many calls there may be now; None: any number."""
        self._room = room
        self._metrics = metrics
        self._monotonic = monotonic
        self._queue: FairQueue[asyncio.Future[None]] = FairQueue(
            flow_max=settings.tenant_queue_max, total_max=settings.queue_max
        )
        self._ended = False
        self.running = 0
        self.held_s = HELD_S
        """How long a place is held, smoothed."""

    def __repr__(self) -> str:
        return f"<Line {self.running} of {self._room()} run, {len(self)} wait>"

    def __len__(self) -> int:
        """How many wait."""
        return len(self._queue)

    def length(self, flow: object) -> int:
        """Of one flow's queue."""
        return self._queue.length(flow)

    @asynccontextmanager
    async def place(self, flow: Hashable, weight: float, queue_s: float) -> AsyncIterator[float]:
        """Around a call; says how long it waited.

        Raises:
            LineFull: it is not to be, within `queue_s`.
        """
        came = self._monotonic()
        if not self._free():
            await self._wait(flow, weight, queue_s, came)
        else:
            self.running += 1
        began = self._monotonic()
        self._metrics.waited(began - came)
        try:
            yield began - came
        finally:
            self.held_s += _SMOOTHING * (self._monotonic() - began - self.held_s)
            self._ended = True
            self._leave()

    def drain_s(self) -> float:
        """How long those who wait will take, and one more."""
        return (len(self) + 1) * self._turn_s()

    def check(self) -> None:
        """Audit; for tests, O(n)."""
        self._queue.check()
        room = self._room()
        assert not len(self) or (room is not None and self.running >= int(room))

    async def _wait(self, flow: Hashable, weight: float, queue_s: float, now: Instant) -> None:
        foreseen_s = (self._queue.ahead(flow, weight) + 1) * self._turn_s()
        if self._ended and foreseen_s > queue_s:
            raise LineFull("queue_late", self.drain_s())
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        deadline = Instant(now + queue_s)
        waiting, out = self._queue.put(future, flow, weight=weight, deadline=deadline, now=now)
        self._turn_away(out, "queue_full")
        self._admit()  # there may be more room than there was
        try:
            async with asyncio.timeout(queue_s):
                await future
        except TimeoutError:
            if not _granted(future):
                self._queue.withdraw(waiting)
                raise LineFull("deadline", self.drain_s()) from None
        except BaseException:
            if _granted(future):
                self._leave()
            else:
                self._queue.withdraw(waiting)
            raise

    def _free(self) -> bool:
        room = self._room()
        return room is None or (not len(self) and self.running < max(int(room), 1))

    def _turn_s(self) -> float:
        """How often a place becomes free."""
        return self.held_s / max(self._room() or 1.0, 1.0)

    def _leave(self) -> None:
        self.running -= 1
        self._admit()

    def _admit(self) -> None:
        """Hand out what is free."""
        room = self._room()
        while len(self) and (room is None or self.running < max(int(room), 1)):
            chosen, late = self._queue.next(self._monotonic())
            self._turn_away(late, "deadline")
            if chosen is not None and not chosen.item.done():
                self.running += 1
                chosen.item.set_result(None)

    def _turn_away(self, waiting: list[Waiting[asyncio.Future[None]]], reason: str) -> None:
        for one in waiting:
            if not one.item.done():
                one.item.set_exception(LineFull(reason, self.drain_s()))


def _granted(future: asyncio.Future[None]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None
