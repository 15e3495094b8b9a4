"""What a node that reads our log was sent, and what it is sent next.

First, when the log does not reach back to where it left off, a snapshot: the hottest answers, which
belong to no position. Then the log, in order, less what is not for it. Never more than a window
that it has not said it applied: what does not fit waits in the log, not in memory.
"""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

from index.entry import Version
from sync.dialogue import FRAMES_MAX, Batch
from sync.messages import MessageError
from sync.seams import Log, Logged

WINDOW_BYTES: Final = 1 << 20
"""Unheard at most: 8 MB/s over a path of 120 ms there and back."""
WINDOW_BATCHES: Final = 256
BATCH_BYTES: Final = 128 << 10
"""Of the log at once, or one frame that is larger."""
FIRST_BYTES: Final = 8 << 10
"""The first batch, and twice as much each time: as fast as a new connection becomes. What TCP sends
before it has heard anything (10 packets) holds it, so it is there after one way, and not after four
round trips."""
_ELSEWHERE: Final = Version(0)


class Reader:
    def __init__(
        self,
        position: Version,
        snapshot: Iterator[tuple[bytes, ...]] | None,
        may_tell: Callable[[Logged], bool],
        *,
        relay: bool,
    ) -> None:
        self.relay = relay
        """It asked for what others say, too."""
        self.position = position
        """Where the log was read to, for it."""
        self._snapshot = snapshot
        self._may_tell = may_tell
        self._unheard: deque[int] = deque()
        self._unheard_bytes = 0
        self._heard = 0
        self._batch_bytes = FIRST_BYTES

    def next(self, log: Log) -> Batch | None:
        """What is to be sent now, or None: it has everything, or has yet to say so."""
        if self._unheard_bytes >= WINDOW_BYTES or len(self._unheard) >= WINDOW_BATCHES:
            return None
        if self._snapshot is not None:
            if frames := next(self._snapshot, None):
                return self._sent(Batch(_ELSEWHERE, log.latest, frames))
            self._snapshot = None
            return self._sent(Batch(self.position, log.latest, ()))
        while self.position < log.latest:
            rows = log.after(self.position, self._batch_bytes)[:FRAMES_MAX]
            self.position = rows[-1].position if rows else log.latest
            frames = tuple(row.frame for row in rows if self._may_tell(row))
            if frames or self.position >= log.latest:
                self._batch_bytes = min(BATCH_BYTES, 2 * self._batch_bytes)
                return self._sent(Batch(self.position, log.latest, frames))
        return None

    def heard(self, count: int) -> None:
        """It applied that many batches. Raises MessageError if there were not so many."""
        if not 0 <= count - self._heard <= len(self._unheard):
            raise MessageError("heard what was not said")
        for _ in range(count - self._heard):
            self._unheard_bytes -= self._unheard.popleft()
        self._heard = count

    @property
    def unheard(self) -> int:
        """Batches that it has not applied."""
        return len(self._unheard)

    def _sent(self, batch: Batch) -> Batch:
        size = sum(map(len, batch.frames))
        self._unheard.append(size)
        self._unheard_bytes += size
        return batch

    def __repr__(self) -> str:
        what = "a snapshot" if self._snapshot is not None else f"the log from {self.position}"
        return f"<Reader of {what}, {self._unheard_bytes} bytes unheard>"
