"""What a replica stands on, so that it is the same in a node and in the simulator.

Shelf ... the answers and the table of purges: `index.answers.Answers`
Log ..... what must not be forgotten about the fleet: `sync.outbox.Outbox`
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from index.entry import Entry, Hint, NodeName, Purged, Reach, Scope, Seen, Timestamp, Version

_NOTHING = Version(0)


class Shelf(Protocol):
    @property
    def seen(self) -> Seen:
        """The purges applied without a gap: what a fetch notes when it begins."""

    def accept(self, entry: Entry, now: Timestamp, hint: Hint | None = None) -> Enum:
        """Keep an answer of another node's, unless it is dead, expired or older than what is held.

        Returns what became of it; the name of that is `STORED` when it is news.
        """

    def merge(self, purged: Purged) -> bool:
        """Apply a purge: nothing it covers is served from here on. False when it was known."""

    def restore(self, table: Iterable[Purged], seen: Seen = ()) -> None:
        """Apply purges; with them everything up to `seen` is applied, without a gap."""

    def dead(self, entry: Entry) -> bool: ...

    def forget(self, now: Timestamp) -> None:
        """Drop purges so old that all they covered has expired."""

    def hottest(self, count_max: int, now: Timestamp) -> Iterator[tuple[Entry, Hint | None]]:
        """What is most worth having, best first."""

    def __len__(self) -> int:
        """Answers held."""


@dataclass(frozen=True, slots=True)
class Logged:
    """A frame of entries in the log."""

    position: Version
    origin: NodeName
    scope: Scope
    reach: Reach
    frame: bytes


@dataclass(frozen=True, slots=True)
class Kept:
    """A purge, and its frame as its node signed it."""

    purged: Purged
    frame: bytes


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a node's log was heard, and in which run of its process."""

    position: Version = _NOTHING
    run: bytes = b""


class Log(Protocol):
    """See `sync.outbox.Outbox`, whose words these are."""

    @property
    def run(self) -> bytes: ...
    @property
    def digest(self) -> int: ...
    @property
    def reserved(self) -> Version: ...
    @property
    def floor(self) -> Version: ...
    @property
    def latest(self) -> Version: ...
    @property
    def confirmed(self) -> Seen: ...
    @property
    def acknowledged(self) -> Version: ...
    @property
    def forgot(self) -> Version: ...

    def told_until(self, run: bytes) -> Version | None: ...
    def begin(self, position: Version) -> None: ...
    def append(self, logged: Logged) -> bool: ...
    def after(self, position: Version, bytes_max: int) -> list[Logged]: ...
    def forget_log(self, before: Version) -> None: ...
    def keep_purges(self, kept: Sequence[Kept], seen: Seen) -> bool: ...
    def purges(self) -> Iterator[Kept]: ...
    def acknowledge(self, version: Version) -> None: ...
    def latest_of(self, purged: Purged) -> Version: ...
    def forget_purges(self, before: Version, seen: Seen) -> None: ...
    def keep_line(self, name: str, line: bytes) -> None: ...
    def lines(self) -> list[bytes]: ...
    def cursor(self, source: NodeName) -> Cursor: ...
    def keep_cursors(self, cursors: Mapping[NodeName, Cursor]) -> None: ...
    def reserve(self, version: Version) -> None: ...
    def catch_up(self) -> bool: ...
    def check(self) -> None: ...
    def close(self) -> None: ...
