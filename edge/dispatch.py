"""Getting one upstream to answer. Whom to call is the pool's decision (`edge.routing`); here it is
done: call, go on to another if that failed and may be, race two if the first is late.

What an exchange is, the caller says. It tells its call when the first token is here, *before*
anybody is shown it: in a race that is the moment at which the others are called off, so that one
answer is seen and no more.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from edge.errors import ClientError, UpstreamError
from edge.metrics import Metrics
from edge.routing.call import Call
from edge.routing.need import Need
from edge.routing.pool import Pool, Trip
from edge.routing.upstream import Upstream
from index.entry import Instant, Timestamp

log = logging.getLogger("upstream")

Exchange = Callable[[Call], Coroutine[Any, Any, int]]
"""Asks that upstream and delivers its answer. Returns how many tokens that had, about.

Raises:
    UpstreamError: the upstream is at fault.
    ClientError: the request is.
"""


class Dispatch:
    def __init__(
        self,
        pool: Pool,
        metrics: Metrics,
        wall: Callable[[], Timestamp],
        monotonic: Callable[[], Instant],
    ) -> None:
        self._pool = pool
        self._metrics = metrics
        self._wall = wall
        self._monotonic = monotonic

    def able(self, need: Need) -> tuple[Upstream, ...]:
        """Whom it may ask."""
        return self._pool.able(need)

    async def __call__(
        self, need: Need, exchange: Exchange, request_id: str, *, stream: bool
    ) -> None:
        """Have it answered.

        Raises:
            EdgeError: nobody has answered, or not to the end.
        """
        trip = self._pool.trip(need, self._monotonic(), self._wall())
        call = trip.first(self._monotonic(), self._wall())
        while True:
            # Of an answer in one piece nobody sees how long its first token takes.
            late_s = call.late_after_s if stream and self._pool.hedging else None
            try:
                if late_s is None:
                    await self._call(call, exchange, request_id)
                else:
                    await self._race(trip, call, late_s, exchange, request_id)
                return
            except (UpstreamError, ClientError) as error:
                following = trip.next(call, error, self._monotonic())
                if following is None:
                    self._judge(trip, error)
                    raise
                call = following

    def _judge(self, trip: Trip, error: UpstreamError | ClientError) -> None:
        """What is to be made of how it ended."""
        now = self._monotonic()
        if isinstance(error, ClientError):
            error.by_upstream &= trip.unanimous(now)
            return
        error.crowded = error.crowded and self._pool.second_turns.spend(now)
        if error.retry_after_s is None:
            error.retry_after_s = trip.again_s(now)

    async def _call(self, call: Call, exchange: Exchange, request_id: str) -> None:
        try:
            tokens = await exchange(call)
            call.succeeded(self._monotonic(), tokens)
        except UpstreamError as error:
            call.failed(self._monotonic(), error)
            log.warning(
                "event=upstream_error upstream=%s status=%d rid=%s begun=%s",
                call.upstream.name, error.status, request_id, call.first_at is not None,
            )  # fmt: skip
            raise
        except ClientError:
            call.declined(self._monotonic())
            raise
        finally:
            call.abandoned(
                self._monotonic()
            )  # cancelled, or a mistake of ours; nothing if it has ended
            if call.ttft_s is not None:
                self._metrics.first_token(call.upstream.name, call.ttft_s)

    async def _race(
        self, trip: Trip, call: Call, late_s: float, exchange: Exchange, request_id: str
    ) -> None:
        """Call a second one if the first is late; whoever begins first goes on alone."""
        loop = asyncio.get_running_loop()

        def start(one: Call) -> asyncio.Task[None]:
            return loop.create_task(self._call(one, exchange, request_id), name=repr(one))

        running = {call: start(call)}

        def call_off(winner: Call) -> None:
            for one, task in running.items():
                if one is not winner:
                    task.cancel()

        trip.on_answer = call_off
        try:
            await asyncio.wait(running.values(), timeout=late_s)
            waits = not running[call].done() and call.first_at is None
            if waits and (second := trip.hedge(self._monotonic())) is not None:
                running[second] = start(second)
            await self._first_to_end(running)
        finally:
            for task in running.values():
                task.cancel()
            await asyncio.gather(*running.values(), return_exceptions=True)

    async def _first_to_end(self, running: dict[Call, asyncio.Task[None]]) -> None:
        """Until one has answered to its end, or the last has failed: then as that one did."""
        left = set(running.values())
        while True:
            done, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if task.cancelled():
                    continue
                if task.exception() is None or not left:
                    return task.result()
