"""A clock for what waits: whoever sleeps moves it, and nobody waits."""

import asyncio
from dataclasses import dataclass, field

from index.entry import Instant, Timestamp


@dataclass
class SleepersClock:
    """Implements `sync.warmup.gate.Clock`. It stands still but for those who sleep."""

    now: float = 1_800_000_000.0
    slept: list[float] = field(default_factory=list)

    def wall(self) -> Timestamp:
        return Timestamp(self.now)

    def monotonic(self) -> Instant:
        return Instant(self.now)

    async def sleep(self, seconds: float, unless: asyncio.Event) -> None:
        self.slept.append(seconds)
        until = self.now + seconds
        await asyncio.sleep(0)  # others who want to sleep say so
        if not unless.is_set():
            self.now = max(self.now, until)
