"""How far the logs of others were heard, written down a second after all that was applied.

The shelf needs some milliseconds to get an answer to disk, and to hear a second of them twice costs
nothing.
"""

from typing import Final

from index.clock import Now
from index.entry import Instant, NodeName
from sync.seams import Cursor, Log

CURSORS_S: Final = 1.0


class Cursors:
    def __init__(self, log: Log) -> None:
        self.due_at: Instant | None = None
        """When some are to be written down; None: all are."""
        self._log = log
        self._applied: dict[NodeName, Cursor] = {}
        self._ripe: dict[NodeName, Cursor] = {}

    def of(self, source: NodeName) -> Cursor:
        return self._applied.get(source) or self._ripe.get(source) or self._log.cursor(source)

    def advance(self, source: NodeName, cursor: Cursor, now: Now) -> None:
        """All up to here is applied."""
        self._applied[source] = cursor
        if self.due_at is None:
            self.due_at = Instant(now.mono + CURSORS_S)

    def tick(self, now: Now) -> None:
        """Write down those reached a while ago: what they stand for is on disk by now."""
        if self.due_at is None or now.mono < self.due_at:
            return
        if self._ripe:
            self._log.keep_cursors(self._ripe)
        self._ripe, self._applied = self._applied, {}
        self.due_at = Instant(now.mono + CURSORS_S) if self._ripe else None

    def keep(self) -> None:
        """Write all of them down, when all that they stand for is on disk."""
        self._log.keep_cursors({**self._ripe, **self._applied})

    def check(self) -> None:
        """Audit."""
        assert (self.due_at is not None) == bool(self._applied or self._ripe)
