"""Answers in a dictionary under the real table of purges, for whoever needs no disk."""

from collections.abc import Iterable, Iterator

from index.acceptance import Accepted
from index.entry import CacheKey, Entry, Hint, Purged, Scope, Seen, Timestamp
from index.generations import Generations

REMEMBERED_S = 31 * 86_400.0


class FakeShelf:
    """Keeps `entries_max`, and of these what was put or asked for last."""

    def __init__(self, entries_max: int = 1 << 30) -> None:
        self.table = Generations()
        self.entries: dict[tuple[Scope, CacheKey], Entry] = {}
        self.hints: dict[tuple[Scope, CacheKey], Hint | None] = {}
        self.entries_max = entries_max

    @property
    def seen(self) -> Seen:
        return self.table.seen

    def begin(self) -> Seen:
        return self.table.known

    def recall(self, scope: Scope, key: CacheKey, now: Timestamp) -> Entry | None:
        entry = self.entries.get((scope, key))
        if entry is None or self.table.dead(entry) or self.fresh_until(entry) <= now:
            return None
        self.entries[scope, key] = self.entries.pop((scope, key))
        return entry

    def put(self, entry: Entry) -> bool:
        if self.table.dead(entry):
            return False
        self.entries.pop((entry.scope, entry.key), None)
        self.entries[entry.scope, entry.key] = entry
        while len(self.entries) > self.entries_max:
            self.remove(*next(iter(self.entries)))
        return True

    def remove(self, scope: Scope, key: CacheKey) -> None:
        """Evicted, or purged."""
        del self.entries[scope, key]

    def accept(self, entry: Entry, now: Timestamp, hint: Hint | None = None) -> Accepted:
        if self.table.dead(entry):
            return Accepted.DEAD
        if self.fresh_until(entry) <= now:
            return Accepted.EXPIRED
        held = self.entries.get((entry.scope, entry.key))
        if (
            held is not None
            and not self.table.dead(held)
            and (held.version, held.stored_by) >= (entry.version, entry.stored_by)
        ):
            return Accepted.OLDER
        self.put(entry)
        self.hints[entry.scope, entry.key] = hint
        return Accepted.STORED

    def merge(self, purged: Purged) -> bool:
        news = self.table.merge(purged)
        if news:
            for name in [name for name, one in self.entries.items() if self.table.dead(one)]:
                self.remove(*name)
        return news

    def restore(self, table: Iterable[Purged], seen: Seen = ()) -> None:
        for purged in table:
            self.merge(purged)
        self.table.adopt(seen)

    def dead(self, entry: Entry) -> bool:
        return self.table.dead(entry)

    def forget(self, now: Timestamp) -> None:
        self.table.forget(Timestamp(now - REMEMBERED_S))

    def hottest(self, count_max: int, now: Timestamp) -> Iterator[tuple[Entry, Hint | None]]:
        """Last put or asked for, first."""
        for entry in list(reversed(self.entries.values()))[:count_max]:
            if not self.dead(entry) and self.fresh_until(entry) > now:
                yield entry, self.hints.get((entry.scope, entry.key))

    def fresh_until(self, entry: Entry) -> Timestamp:
        """When it expires, or did: a soft purge makes it stale at once, whatever its clock said."""
        return entry.expires_at if self.table.stale_at(entry) is None else Timestamp(0)

    def __len__(self) -> int:
        return len(self.entries)
