"""The second cache of a region: asked on a miss, filled in the background, never waited for long.

    memory ► disk ► meaning ► here ► another node ► an upstream

After meaning, as what answers from this node waits for no other machine. Before other nodes, as it
is one hop within the region, and has what nodes that left or restarted had. What is found is held
here from then on, so that the next one is answered from memory.

A miss waits `redis.timeout_s` for it, and after five of those in a row not at all (the breaker of
`edge.routing`) until one request in some seconds finds that it answers again.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from edge.regional.client import Declined, Full, Put, RedisClient, Unreachable
from edge.regional.errands import Errands
from edge.regional.health import Health
from edge.regional.sealing import NONCE_BYTES, OVERHEAD_BYTES, place
from edge.regional.settings import RedisSettings
from index.entry import CacheKey, Entry, Scope, Timestamp

PUT_TIMEOUT_S = 1.0
PUT_AT_ONCE = 64
FRAME_BYTES = 8 * 1024
"""What a frame may have besides its body: a long question, many labels."""
TTL_S_MIN = 1.0
"""What expires sooner is not worth the way."""


class Region(Protocol):
    """This node as one of its fleet; see `edge.fleet`."""

    region: str

    def told(self, entry: Entry) -> bytes | None:
        """The frame by which nodes of this region may be given it."""

    def taken(self, frame: bytes, scope: Scope, key: CacheKey) -> Entry | None:
        """The answer in a frame, if it is that one and may be had; it is held here from now on."""


@dataclass(slots=True)
class Counts:
    found: int = 0
    in_vain: int = 0
    failed: int = 0
    """Questions without an answer in time."""
    skipped: int = 0
    """Those that were not even asked, as it seems to be lost or too much is asked of it."""
    refused: int = 0
    """Values that were not what this fleet put there, or may not be had."""
    put: int = 0
    dropped: int = 0
    """Answers that were not put there: too many at once, or it did not take them."""


class RegionalTier:
    def __init__(
        self,
        settings: RedisSettings,
        client: RedisClient,
        health: Health,
        region: Region,
        secret: bytes,
        ready: Callable[[], bool],
        *,
        wall: Callable[[], Timestamp],
        chance: Callable[[int], bytes],
    ) -> None:
        """`ready`: does this node know what was purged while it was away?"""
        self.counts = Counts()
        self._settings = settings
        self._client = client
        self._health = health
        self._region = region
        self._secret = secret
        self._ready = ready
        self._wall = wall
        self._chance = chance
        self._queue: deque[Entry] = deque()
        self._queued_bytes = 0
        self._errands = Errands("redis", self._put_all)
        self._bytes_max = settings.answer_bytes_max + FRAME_BYTES + OVERHEAD_BYTES

    async def find(self, scope: Scope, key: CacheKey) -> Entry | None:
        """The answer to this very request, if it is there."""
        if not self._ready():
            return None
        if not self._health.lets():
            self.counts.skipped += 1
            return None
        at = place(self._secret, self._region.region, scope, key)
        value = await self._ask(at.name)
        if value is None:
            return None
        frame = at.opened(value)
        entry = self._region.taken(frame, scope, key) if frame is not None else None
        if entry is None:
            self.counts.refused += 1
            return None
        self.counts.found += 1
        return entry

    def stored(self, entry: Entry) -> None:
        """An answer was fetched from an upstream, and is here now. Returns at once."""
        if not entry.reach or len(entry.body) > self._settings.answer_bytes_max:
            return
        if self._queued_bytes + len(entry.body) > self._settings.queue_bytes_max:
            self.counts.dropped += 1
            return
        self._queue.append(entry)
        self._queued_bytes += len(entry.body)
        self._errands.left()

    async def run(self) -> None:
        """Put there what is queued. Works until cancelled."""
        await self._errands.run()

    # What operators are shown.

    def facts(self) -> Mapping[str, Any]:
        return {
            "url": self._settings.url,
            "state": self._health.state,
            "trouble": self._health.trouble or None,
            "queued": len(self._queue),
            **{name: getattr(self.counts, name) for name in Counts.__slots__},
        }

    def gauges(self) -> Iterator[tuple[str, str, Callable[[], float]]]:
        counts = self.counts
        yield "redis_up", "1 while the region's Redis answers.", lambda: self._health.good
        yield "redis_found", "Answers found there.", lambda: counts.found
        yield "redis_in_vain", "Questions to it that found nothing.", lambda: counts.in_vain
        yield "redis_failed", "Questions without an answer in time.", lambda: counts.failed
        yield "redis_skipped", "Questions spared while it is lost.", lambda: counts.skipped
        yield "redis_refused", "Values there that this fleet did not put.", lambda: counts.refused
        yield "redis_put", "Answers put there.", lambda: counts.put
        yield "redis_dropped", "Answers that could not be put there.", lambda: counts.dropped
        yield "redis_queued", "Answers to be put there.", lambda: len(self._queue)

    # Asking.

    async def _ask(self, name: str) -> bytes | None:
        try:
            with self._health.asking():
                value = await self._client.get(name, self._bytes_max, self._settings.timeout_s)
        except Full:
            self.counts.skipped += 1
        except Declined:
            self.counts.refused += 1
        except Unreachable:
            self.counts.failed += 1
        else:
            self.counts.in_vain += value is None
            return value
        return None

    # Putting.

    async def _put_all(self) -> None:
        while self._queue:
            await self._put([one for _ in self._some() if (one := await self._taken())])

    def _some(self) -> range:
        return range(min(len(self._queue), PUT_AT_ONCE))

    async def _taken(self) -> Put | None:
        """The next in the queue, as it is put there; one a turn, as it takes 0.1 ms."""
        await asyncio.sleep(0)
        entry = self._queue.popleft()
        self._queued_bytes -= len(entry.body)
        ttl_s = entry.expires_at - self._wall()
        frame = self._region.told(entry) if ttl_s >= TTL_S_MIN else None
        if frame is None or len(frame) + OVERHEAD_BYTES > self._bytes_max:
            return None
        at = place(self._secret, self._region.region, entry.scope, entry.key)
        return at.name, at.seal(frame, self._chance(NONCE_BYTES)), int(ttl_s * 1000)

    async def _put(self, values: list[Put]) -> None:
        if not values:
            return
        done = 0
        if self._health.lets():
            with suppress(Full, Declined, Unreachable), self._health.asking():
                done = await self._client.put(values, PUT_TIMEOUT_S)
        self.counts.put += done
        self.counts.dropped += len(values) - done
