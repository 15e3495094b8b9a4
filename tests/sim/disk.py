"""A node's disk: what is on it when the node ends, and an older copy of it."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from index.entry import Entry, NodeName
from sync.outbox import Outbox, OutboxSettings
from sync.rows import NAME, Statement
from tests.sim.facts import Act, Fetch, Known, Name


class SimOutbox(Outbox):
    """The real one, which notes what would survive the power failing."""

    safe: bytes = b""
    safe_at: float = 0.0
    time: Callable[[], float] = staticmethod(lambda: 0.0)

    def _write(self, *statements: Statement, durable: bool = False) -> bool:
        written = super()._write(*statements, durable=durable)
        if written and durable:
            self.safe = self._file.serialize()
            self.safe_at = self.time()
        return written


@dataclass(slots=True)
class Copy:
    """All that a disk held at one moment, and what its node knew by that."""

    fleet: bytes
    answers: dict[Name, Entry]
    acts: dict[Act, None]
    revoked: dict[NodeName, None]
    newest: dict[Name, Fetch]
    taken_at: float


@dataclass(slots=True)
class Disk:
    directory: Path
    fleet: bytes
    settings: OutboxSettings
    answers: dict[Name, Entry] = field(default_factory=dict)
    """What was written of the shelf."""
    cache: Path | None = None
    """Where the real shelf has its files; there are no answers here then."""
    waiting: list[tuple[float, Name, Entry | None]] = field(default_factory=list)
    """What will have been, and when; None: deleted."""
    outbox: SimOutbox | None = None
    copy: Copy | None = None

    def open(self, run: bytes, time: Callable[[], float]) -> SimOutbox:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.outbox = SimOutbox(self.directory, self.fleet, run, self.settings)
        self.outbox.time = time
        return self.outbox

    def write(self, due: float, name: Name, entry: Entry | None) -> None:
        self.waiting.append((due, name, entry))

    def settle(self, now: float) -> None:
        """What is due has been written."""
        for _, name, entry in [one for one in self.waiting if one[0] <= now]:
            if entry is None:
                self.answers.pop(name, None)
            else:
                self.answers[name] = entry
        self.waiting = [one for one in self.waiting if one[0] > now]

    def kill(self, now: float, *, power: bool) -> None:
        """The process ends; when the power fails, so does what was not forced to disk."""
        assert self.outbox is not None
        self.settle(now)
        self.waiting.clear()
        self.outbox._file.close()
        if power and self.outbox.safe:
            self._write_fleet(self.outbox.safe)
        self.outbox = None

    def take_copy(self, now: float, known: Known) -> None:
        assert self.outbox is not None
        self.settle(now)
        fleet = self.outbox._file.serialize()
        self.copy = Copy(
            fleet,
            dict(self.answers),
            dict(known.acts),
            dict(known.revoked),
            dict(known.newest),
            now,
        )

    def restore(self) -> Copy:
        """The disk is as it was when the copy was taken."""
        assert self.copy is not None
        self._write_fleet(self.copy.fleet)
        self.answers = dict(self.copy.answers)
        if self.cache is not None:
            shutil.rmtree(self.cache)
            shutil.copytree(self.cache.with_suffix(".copy"), self.cache)
        return self.copy

    def _write_fleet(self, data: bytes) -> None:
        shutil.rmtree(self.directory)
        self.directory.mkdir()
        (self.directory / NAME).write_bytes(data)
