"""Large bodies: read, parsed and written again a piece at a time, within a share of the core.

Of 8 MiB the loop reads for 15 ms; to parse, key and write them again takes 100 ms on a thread, from
which the loop gets the interpreter back only between calls that take up to 25 ms each. Whoever
sends such bodies one after the other would make everybody wait. So each piece of that work has to
wait for its turn. One is done at a time, and after one that took `t` seconds of CPU none begins
until the share is kept: with a quarter, for `3 t`. What was not used of a second is saved up, so
where there is no crowd nobody waits. Tenants, or addresses where there are none, take turns: one
that floods waits behind itself. Bodies that wait before they are read stay with the client, as its
connection is not read from.
"""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from edge.admission.fair_queue import FairQueue, Waiting
from edge.admission.flows import anonymous
from edge.admission.rate import Limit, Meter
from edge.errors import Overloaded
from edge.request import LARGE_BODY_BYTES, PIECE_BYTES
from index.entry import Instant

READ_CPU_S: Final = PIECE_BYTES * 2e-9
"""What the loop takes to read a piece, about: that it is measured nowhere."""
FLOW_MAX: Final = 128
WAITING_MAX: Final = 1024
"""Each holds a connection and some 300 KiB before it is read; what was read is in a budget."""
WAIT_S_MAX: Final = 15.0

T = TypeVar("T")


class LargeBodies:
    def __init__(
        self,
        share: float,
        secret: bytes,
        *,
        monotonic: Callable[[], Instant],
        cpu_s: Callable[[], float],
    ) -> None:
        """`share` of one core is theirs. `cpu_s` tells how much of it a thread has used that asks;
        `secret` keeps clients from working out whom they would hold up."""
        self._secret = secret
        self._monotonic = monotonic
        self._cpu_s = cpu_s
        self._used = Meter(Limit(share, 1.0))
        self._queue: FairQueue[asyncio.Future[None]] = FairQueue(
            flow_max=FLOW_MAX, total_max=WAITING_MAX
        )
        self._worker = ThreadPoolExecutor(1, "large-bodies")
        self._busy = False
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<LargeBodies busy={self._busy} waiting={len(self)} rest={self.rest_s:.3f}>"

    def __len__(self) -> int:
        """How many wait."""
        return len(self._queue)

    @property
    def rest_s(self) -> float:
        """How long nothing is to begin, for what has been used."""
        return self._used.wait_s(0.0, self._monotonic())

    def gauges(self) -> Iterator[tuple[str, str, Callable[[], float]]]:
        yield "large_bodies_waiting", "Large bodies that wait for their turn.", lambda: len(self)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._worker.shutdown()

    async def read(self, tenant: str, peer: str) -> None:
        """Wait until `PIECE_BYTES` more may be read of a body of that tenant, "" for none.

        Raises:
            Overloaded: too many wait, or this one has for too long.
        """
        await self._turn(tenant, peer)
        self._over(READ_CPU_S)

    async def work(self, tenant: str, peer: str | None, size: int, work: Callable[[], T]) -> T:
        """What `work` comes to, on a body of `size` bytes: at once if that is small.

        Raises:
            Overloaded: as above.
            Exception: what `work` raises.
        """
        if size <= LARGE_BODY_BYTES:
            return work()
        await self._turn(tenant, peer)
        return await self._beside(work, self._over)

    async def work_at_once(self, size: int, work: Callable[[], T]) -> T:
        """The same without waiting for a turn, for who holds what others wait for."""
        if size <= LARGE_BODY_BYTES:
            return work()
        return await self._beside(work, self._spend)

    async def _beside(self, work: Callable[[], T], charge: Callable[[float], None]) -> T:
        def charged(done: asyncio.Future[tuple[float, T | Exception]]) -> None:
            charge(0.0 if done.cancelled() else done.result()[0])

        done = asyncio.get_running_loop().run_in_executor(self._worker, self._timed, work)
        done.add_done_callback(charged)  # whether or not anybody still waits for it
        _, result = await asyncio.shield(done)
        if isinstance(result, Exception):
            raise result
        return result

    def _timed(self, work: Callable[[], T]) -> tuple[float, T | Exception]:
        began = self._cpu_s()
        result: T | Exception
        try:
            result = work()
        except Exception as exc:
            result = exc
        return self._cpu_s() - began, result

    # Turns.

    async def _turn(self, tenant: str, peer: str | None) -> None:
        """Until it is. Whoever has it ends it with `_over`."""
        now = self._monotonic()
        if not (self._busy or len(self._queue) or self._used.wait_s(0.0, now)):
            self._busy = True
            return
        flow = f"tenant:{tenant}" if tenant else self._of_nobody(peer)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        deadline = Instant(now + WAIT_S_MAX)
        waiting, out = self._queue.put(turn, flow, weight=1.0, deadline=deadline, now=now)
        self._turn_away(out)
        self._arm()
        try:
            await turn
        except asyncio.CancelledError:
            self._queue.withdraw(waiting)
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._over(0.0)
            raise

    def _of_nobody(self, peer: str | None) -> str:
        return anonymous(peer, self._secret, self._queue.length) if peer else "node"

    def _over(self, cpu_s: float) -> None:
        self._busy = False
        self._spend(cpu_s)
        self._arm()

    def _spend(self, cpu_s: float) -> None:
        self._used.spend(cpu_s, self._monotonic())

    def _arm(self) -> None:
        if self._timer is None and not self._busy and len(self._queue):
            self._timer = asyncio.get_running_loop().call_later(self.rest_s, self._next)

    def _next(self) -> None:
        self._timer = None
        waiting, late = self._queue.next(self._monotonic())
        self._turn_away(late)
        if waiting is None:
            return
        if waiting.item.done():  # it has left in this very moment
            self._arm()
            return
        self._busy = True
        waiting.item.set_result(None)

    def _turn_away(self, out: list[Waiting[asyncio.Future[None]]]) -> None:
        for one in out:
            if not one.item.done():
                why = "Too many large requests wait already."
                one.item.set_exception(Overloaded(why, retry_after_s=5))
