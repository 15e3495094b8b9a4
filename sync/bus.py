"""What a message bus is given: our own frames, each with what it takes to choose its subject.

A bus keeps and passes on what it acknowledged, so its cursor is how far that goes; after a break we
go on from there, and the same frame may be given twice. Nobody else's frames are given to it.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from index.entry import NodeName, Reach, Scope, Version
from sync.messages import Kind
from sync.seams import Log

WINDOW_BYTES: Final = 4 << 20
"""Not acknowledged at most; a bus confirms after a round trip and its own disk."""
BATCH_BYTES: Final = 256 << 10
BATCHES_AT_ONCE: Final = 16
"""Read in one turn of the event loop: on a relay most of the log may be of others."""
_UNLOGGED: Final = Version(0)


@dataclass(frozen=True, slots=True)
class Publication:
    kind: Kind
    position: Version
    """To be acknowledged; 0: not, it is said again if it got lost."""
    scope: Scope | None
    """Of entries."""
    reach: Reach
    """Of entries; everything else is for everybody."""
    frame: bytes


class Bus:
    def __init__(self, own: NodeName, acked: Version) -> None:
        self.acked = acked
        """All up to here is safe."""
        self._own = own
        self._sent = acked
        self._waiting: deque[tuple[Version, int]] = deque()
        self._waiting_bytes = 0

    def publications(self, log: Log) -> Iterator[Publication]:
        """Our own frames that were not given yet, as far as the window allows."""
        for _ in range(BATCHES_AT_ONCE):
            if not self.more(log):
                break
            rows = log.after(self._sent, BATCH_BYTES)
            self._sent = rows[-1].position if rows else log.latest
            for row in rows:
                if row.origin == self._own:
                    self._waiting.append((row.position, len(row.frame)))
                    self._waiting_bytes += len(row.frame)
                    yield Publication(Kind.ENTRIES, row.position, row.scope, row.reach, row.frame)
        if not self._waiting:
            self.acked = self._sent

    def more(self, log: Log) -> bool:
        """Is there anything to read now?"""
        return self._sent < log.latest and self._waiting_bytes < WINDOW_BYTES

    def ack(self, position: Version) -> None:
        """Everything up to `position` is safe."""
        while self._waiting and self._waiting[0][0] <= position:
            self._waiting_bytes -= self._waiting.popleft()[1]
        before = self._waiting[0][0] - 1 if self._waiting else self._sent
        self.acked = max(self.acked, Version(before))

    def __repr__(self) -> str:
        return f"<Bus {len(self._waiting)} frames not acknowledged>"
