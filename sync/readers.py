"""Who reads our log: what each was sent, and what it is sent next.

First, when the log does not reach back to where it left off, a snapshot: the hottest answers, which
belong to no position. Then the log, in order, less what is not for it. Never more than a window
that it has not said it applied: what does not fit waits in the log, not in memory.

Much of either may not be for it: so no more than a little is looked at in one turn of the event
loop, whatever comes of it, and `more` says that there is something left to look at in the next.
"""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

from index.clock import Now
from index.entry import NodeName, Version
from sync import admission
from sync.dialogue import FRAMES_MAX, Aside, Batch, Hello, Start
from sync.links import End, Links, Role
from sync.messages import MessageError
from sync.roster import Roster
from sync.seams import Log, Logged
from sync.telling import Telling

WINDOW_BYTES: Final = 1 << 20
"""Unheard at most: 8 MB/s over a path of 120 ms there and back."""
WINDOW_BATCHES: Final = 256
BATCH_BYTES: Final = 128 << 10
"""Of the log at once, or one frame that is larger."""
FIRST_BYTES: Final = 8 << 10
"""The first batch, and twice as much each time: as fast as a new connection becomes. What TCP sends
before it has heard anything (10 packets) holds it, so it is there after one way, and not after four
round trips."""
BATCHES_AT_ONCE: Final = 16
"""Read in one turn, each of `BATCH_BYTES` at most: what fills the window, and some more."""
_ELSEWHERE: Final = Version(0)
_NOTHING: Final = Version(0)


class Reader:
    def __init__(
        self,
        position: Version,
        snapshot: Iterator[tuple[bytes, ...]] | None,
        may_tell: Callable[[Logged], bool],
        *,
        relay: bool,
    ) -> None:
        """`snapshot` gives nothing at times: what it looks at next is for the next turn."""
        self.relay = relay
        """It asked for what others say, too."""
        self.position = position
        """Where the log was read to, for it."""
        self.more = False
        """It was left before all was looked at that may be told to it now."""
        self._snapshot = snapshot
        self._may_tell = may_tell
        self._unheard: deque[int] = deque()
        self._unheard_bytes = 0
        self._heard = 0
        self._batch_bytes = FIRST_BYTES

    def turn(self, log: Log) -> Iterator[Batch]:
        """What is to be sent in this turn; see `more` for whether there should be another."""
        self.more = False
        for _ in range(BATCHES_AT_ONCE):
            if not self._waits(log):
                return
            if (batch := self._next(log)) is None:
                break
            yield batch
        self.more = self._waits(log)

    def _waits(self, log: Log) -> bool:
        """Is there anything to look at, and room for it?"""
        full = self._unheard_bytes >= WINDOW_BYTES or len(self._unheard) >= WINDOW_BATCHES
        return not full and (self._snapshot is not None or self.position < log.latest)

    def _next(self, log: Log) -> Batch | None:
        """None if nothing was for it in what was looked at."""
        if self._snapshot is not None:
            frames = next(self._snapshot, None)
            if frames is None:
                self._snapshot = None
                return self._sent(Batch(self.position, log.latest, ()))
            return self._sent(Batch(_ELSEWHERE, log.latest, frames)) if frames else None
        rows = log.after(self.position, self._batch_bytes)[:FRAMES_MAX]
        self.position = rows[-1].position if rows else log.latest
        self._batch_bytes = min(BATCH_BYTES, 2 * self._batch_bytes)
        frames = tuple(row.frame for row in rows if self._may_tell(row))
        if not frames and self.position < log.latest:
            return None
        return self._sent(Batch(self.position, log.latest, frames))

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


class Readers:
    """All of them, by name. What they are told is put on their links."""

    def __init__(
        self, own: NodeName, roster: Roster, log: Log, telling: Telling, links: Links, now: Now
    ) -> None:
        self._own = own
        self._roster = roster
        self._log = log
        self._telling = telling
        self._links = links
        self._now = now
        self._readers: dict[NodeName, Reader] = {}

    def start(self, name: NodeName, hello: Hello) -> None:
        """Tell a reader what the log holds beyond what it has heard."""
        told = self._log.told_until(hello.run)
        if told is None or (hello.run == self._log.run and hello.after > told):
            told = _NOTHING  # there is no saying what it heard
        # What it heard beyond that we have forgotten, and have told others something else since.
        after = min(hello.after, told)
        self.begin(name, after, relay=hello.relay, fill=hello.fill)

    def begin(self, name: NodeName, after: Version, *, relay: bool, fill: bool) -> None:
        truncated = after < self._log.floor
        position = self._log.latest if truncated else after
        snapshot: Iterator[tuple[bytes, ...]] | None = None
        if truncated:
            snapshot = self._telling.snapshot(name, lambda: self._now) if fill else iter(())

        def may_tell(logged: Logged) -> bool:
            return (
                (relay or logged.origin == self._own)
                and logged.origin != name
                and admission.may_keep(self._roster.member(name), logged.scope, logged.reach)
            )

        self._readers[name] = Reader(position, snapshot, may_tell, relay=relay)
        start = Start(self._log.run, after, self._log.latest, truncated)
        self._links.send(End(name, Role.READER), start)

    def heard(self, name: NodeName, count: int) -> None:
        """See `Reader.heard`."""
        self._readers[name].heard(count)

    def drop(self, name: NodeName) -> None:
        self._readers.pop(name, None)

    def turn(self, now: Now) -> None:
        """Tell each what it is to be told in this turn of the event loop."""
        self._now = now
        for name, reader in list(self._readers.items()):
            if reader.position < self._log.floor:  # it was cut while somebody read it slowly
                self.begin(name, reader.position, relay=reader.relay, fill=True)
            for batch in self._readers[name].turn(self._log):
                self._links.send(End(name, Role.READER), batch)

    def relay(self, frame: bytes, *but: NodeName) -> None:
        """Pass on what is heard now or never, to who listens to us for others."""
        for name, reader in self._readers.items():
            if reader.relay and name not in but:
                self._links.send(End(name, Role.READER), Aside((frame,)))

    @property
    def more(self) -> bool:
        """Is there something left to look at in the next turn?"""
        return any(reader.more for reader in self._readers.values())

    @property
    def unheard(self) -> int:
        """Batches that they have not said they applied."""
        return sum(reader.unheard for reader in self._readers.values())

    def __contains__(self, name: object) -> bool:
        return name in self._readers

    def __iter__(self) -> Iterator[NodeName]:
        return iter(self._readers)
