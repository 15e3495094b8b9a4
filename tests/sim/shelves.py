"""Where a simulated node keeps answers: a dictionary with a slow disk, or the real thing."""

import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from index.acceptance import Accepted
from index.answers import Answers
from index.decision import DecisionSettings
from index.entry import (
    CacheKey,
    Entry,
    Hint,
    NodeName,
    Purged,
    Scope,
    Seen,
    Timestamp,
    Version,
)
from index.memory import MemorySettings
from index.store import StoreSettings
from tests.fakes.entries import as_after_kill
from tests.fakes.shelf import FakeShelf
from tests.sim.facts import Facts, Name


class Teller:
    """Tells the facts what happens to a node's shelf, and the disk what it will hold soon."""

    def __init__(
        self,
        node: NodeName,
        facts: Facts,
        written: Callable[[Name, Entry | None], None],
        merged: Callable[[Purged], None],
    ) -> None:
        self.written = written
        self.merged = merged
        self._node = node
        self._facts = facts

    def stored(self, name: Name, entry: Entry) -> None:
        self._facts.stored(self._node, name, entry)

    def accepted(self, entry: Entry) -> None:
        self._facts.accepted(self._node, entry)

    def left(self, name: Name, *, evicted: bool) -> None:
        self._facts.left(self._node, name, evicted=evicted)


class SimShelf(FakeShelf):
    """Tells the facts what happens to it, and the disk what it will hold soon."""

    def __init__(self, teller: "Teller", answers: dict[Name, Entry], entries_max: int) -> None:
        super().__init__(entries_max)
        self._teller = teller
        self.entries = dict(answers)
        self.changed: dict[Name, None] = dict.fromkeys(self.entries)
        """To be looked at by the checkers."""
        self._merging = False

    def put(self, entry: Entry) -> bool:
        stored = super().put(entry)
        name = entry.scope, entry.key
        if stored and name in self.entries:
            self._teller.written(name, entry)
            self._teller.stored(name, entry)
            self.changed[name] = None
        return stored

    def accept(self, entry: Entry, now: Timestamp, hint: Hint | None = None) -> Accepted:
        became = super().accept(entry, now, hint)
        if became is Accepted.STORED:
            self._teller.accepted(entry)
        elif became in (Accepted.DEAD, Accepted.EXPIRED) and vouched(entry):
            self._teller.left((entry.scope, entry.key), evicted=True)
        return became

    def remove(self, scope: Scope, key: CacheKey) -> None:
        entry = self.entries[scope, key]
        super().remove(scope, key)
        self._teller.written((scope, key), None)
        evicted = not self._merging or vouched(entry)
        self._teller.left((scope, key), evicted=evicted)

    def look(self, name: Name, wall: Timestamp) -> Entry | None:
        """What would be answered, without counting as a question."""
        entry = self.entries.get(name)
        if entry is None or self.table.dead(entry) or self.fresh_until(entry) <= wall:
            return None
        return entry

    def newest(self, name: Name) -> Version | None:
        """Of what is there, fresh or not."""
        held = self.entries.get(name)
        return None if held is None else held.version

    def settle(self) -> None:
        """Nothing is going on here."""

    def merge(self, purged: Purged) -> bool:
        self._merging = True
        news = super().merge(purged)
        self._merging = False
        self._teller.merged(purged)
        if news:
            self.changed.update(dict.fromkeys(self.entries))
        return news


class AnswersShelf:
    """What a node has in production. It may write when it likes: that is waited for."""

    def __init__(self, teller: Teller, directory: Path, wall: Callable[[], Timestamp]) -> None:
        self._teller = teller
        self._directory = directory
        self._wall = wall
        self._answers = Answers.open(
            directory, StoreSettings(tick_s=1e9), MemorySettings(), DecisionSettings()
        )
        self._names = {(one.scope, one.key): None for one in self._answers.outlines()}
        self.changed = dict(self._names)

    @property
    def seen(self) -> Seen:
        return self._answers.seen

    @property
    def entries(self) -> dict[Name, Entry]:
        """What would be answered now."""
        wall = self._wall()
        return {name: entry for name in self._names if (entry := self.look(name, wall))}

    def begin(self) -> Seen:
        return self._answers.begin()

    def put(self, entry: Entry) -> bool:
        stored = self._answers.put(entry, None)
        if stored:
            self._stored(entry)
        return stored

    def accept(self, entry: Entry, now: Timestamp, hint: Hint | None = None) -> Accepted:
        became = self._answers.accept(entry, now, hint)
        if became is Accepted.STORED:
            self._teller.accepted(entry)
            self._stored(entry)
        elif became in (Accepted.DEAD, Accepted.EXPIRED) and vouched(entry):
            self._teller.left((entry.scope, entry.key), evicted=True)
        return became

    def _stored(self, entry: Entry) -> None:
        name = entry.scope, entry.key
        self._names[name] = self.changed[name] = None
        self._teller.stored(name, entry)

    def merge(self, purged: Purged) -> bool:
        before = self.entries
        news = self._answers.merge(purged)
        self._teller.merged(purged)
        if news:
            for name, entry in before.items():
                self.changed[name] = None
                if self.look(name, self._wall()) is None:
                    self._teller.left(name, evicted=vouched(entry))
        return news

    def restore(self, table: Iterable[Purged], seen: Seen = ()) -> None:
        for purged in table:
            self.merge(purged)
        self._answers.restore((), seen)

    def dead(self, entry: Entry) -> bool:
        return self._answers.dead(entry)

    def forget(self, now: Timestamp) -> None:
        self._answers.forget(now)

    def hottest(self, count_max: int, now: Timestamp) -> Iterator[tuple[Entry, Hint | None]]:
        self._answers.flush()
        return self._answers.hottest(count_max, now)

    def recall(self, scope: Scope, key: CacheKey, now: Timestamp) -> Entry | None:
        hot = self._answers.recall(scope, key, now)
        if hot is not None:
            self._answers.touch(hot)
            return hot.entry
        return self._answers.fetch(scope, key, now)

    def look(self, name: Name, wall: Timestamp) -> Entry | None:
        hot = self._answers.recall(*name, wall)
        return self._answers.fetch(*name, wall) if hot is None else hot.entry

    def newest(self, name: Name) -> Version | None:
        found = self._answers.newest(*name)
        return None if found is None else found[0]

    def settle(self) -> None:
        self._answers.flush()

    def take_copy(self) -> None:
        self._answers.flush()
        copy = self._directory.with_suffix(".copy")
        shutil.rmtree(copy, ignore_errors=True)
        as_after_kill(self._directory, copy)

    def kill(self) -> None:
        """What a process leaves that is killed now."""
        left = as_after_kill(self._directory, self._directory.with_suffix(".left"))
        self._answers.check()
        self._answers.close()
        shutil.rmtree(self._directory)
        left.rename(self._directory)

    def close(self) -> None:
        self._answers.close()

    def __len__(self) -> int:
        self._answers.flush()
        return len(self._answers)


def vouched(entry: Entry) -> bool:
    """Does it go with the purges of who told it, too?"""
    return any(label.startswith("by:") for label in entry.labels)
