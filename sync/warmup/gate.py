"""When the next call may begin: quiet hours, what the upstream asked for, and the rate.

Time is an argument of what decides, and a `Clock` of what waits, so that a test moves it.
"""

import asyncio
import time
from typing import Protocol

from index.entry import Instant, Timestamp
from sync.warmup.plan import QuietHours, Rate

NAP_S_MAX = 60.0
"""A wall clock may be set meanwhile, and a machine put to sleep: look again now and then."""


class Stopped(Exception):  # noqa: N818  somebody's wish
    """Nothing more is to be begun."""


class Clock(Protocol):
    def wall(self) -> Timestamp: ...

    def monotonic(self) -> Instant: ...

    async def sleep(self, seconds: float, unless: asyncio.Event) -> None:
        """Returns after `seconds`, or as soon as the event is set."""


class RealClock:
    def wall(self) -> Timestamp:
        return Timestamp(time.time())  # noqa: TID251  the command's clock

    def monotonic(self) -> Instant:
        return Instant(time.monotonic())  # noqa: TID251  the command's clock

    async def sleep(self, seconds: float, unless: asyncio.Event) -> None:
        try:
            async with asyncio.timeout(seconds):
                await unless.wait()
        except TimeoutError:
            return


class Gate:
    """One for a job. Whoever wants to call waits for its `turn`."""

    def __init__(self, clock: Clock, rate: Rate, quiet: QuietHours | None) -> None:
        self._clock = clock
        self._rate = rate
        self._quiet = quiet
        self._paused_until = Instant(float("-inf"))
        self._stop = asyncio.Event()

    def stop(self) -> None:
        """Nobody gets a turn any more; who waits for one is told at once."""
        self._stop.set()

    @property
    def stopped(self) -> bool:
        return self._stop.is_set()

    def pause(self, seconds: float) -> None:
        """Nobody calls for so long: `Retry-After` speaks of all who call, not of one."""
        until = Instant(self._clock.monotonic() + seconds)
        self._paused_until = max(self._paused_until, until)

    async def turn(self) -> None:
        """Raises Stopped."""
        while not self.stopped:
            wait_s = self.wait_s
            if not wait_s:
                self._rate.take(self._clock.monotonic())
                return
            await self.sleep(min(wait_s, NAP_S_MAX))
        raise Stopped

    async def sleep(self, seconds: float) -> None:
        """Raises Stopped."""
        await self._clock.sleep(seconds, self._stop)
        if self.stopped:
            raise Stopped

    def unused(self) -> None:
        """The turn that was taken did not ask the upstream."""
        self._rate.give_back()

    @property
    def wait_s(self) -> float:
        """Seconds until somebody may call; 0: now."""
        now = self._clock.monotonic()
        return max(self.quiet_in_s, self._paused_until - now, self._rate.wait_s(now))

    @property
    def quiet_in_s(self) -> float:
        """Seconds until quiet hours begin; 0: it is quiet, or no matter."""
        return self._quiet.wait_s(self._clock.wall()) if self._quiet else 0.0
