"""Purges as a table that every node comes to hold alike, and what is dead by it.

A purge deletes what is stored, but answers are also on their way: a fetch from an upstream that
ends a minute later, a row that a worker has just read, a message from another node. Unguarded,

    1. worker reads the row of an entry from disk
    2. purge deletes the row, empties the memory, returns
    3. worker puts the entry it holds into memory: the purged answer is back

or, among nodes,

    1. a asks an upstream
    2. b purges; the purge reaches a, which deletes what it covers
    3. a's upstream answers with what was purged, and a tells b

So whoever fetches notes first which purges its node has applied, and the entry carries that for
ever, as `seen`. An entry is dead when a purge covers it that is not among those. This asks for no
order, no clock that two nodes share and no second delivery that differs from the first; so it can
be asked at every door, of a row as of a message, and of an old snapshot as well.

    purge 5 of a, purge 7 of a           seen = ((a, 7),)
    fetch begins, entry.seen = ((a, 7),) alive, whatever a did up to 7
    purge 9 of a, purge 2 of b           dead if either covers it

What a fetch notes is the last purge it knows of each node, `known`: what is fetched after that was
applied is fetched after all before it were made, whether they have come here or not. `seen` says
less, and is what is told to others: what was applied without a gap, a purge that names as its
`previous` one that is not here being counted only when those between have come. A purge of the same
things by the same node takes the place of the one before it.

Versions order the purges of one node alone. They also date them, roughly, and by that purges are
forgotten, when everything they covered has expired.

A purge that came with a snapshot of another fleet was noted by nobody here, and would kill all that
this fleet ever fetched. Clocks have to do for that: what was complete ten minutes after the purge
or later was fetched after it. What came from elsewhere is judged by what it notes, as ever.

Not thread-safe: the caller holds one lock over `dead` and the step that follows from it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush

from index.clock import at, wall_of
from index.entry import CacheKey, Entry, NodeName, Purge, Purged, Seen, Timestamp, Version

PURGES_MAX = 65_536
"""Purges remembered, some 40 MB of them. When there are more, the oldest are taken for purges of
everything: with them go all entries whose nodes had not applied them."""
AHEAD_MAX = 256
"""Purges of one node beyond a gap that are remembered to be counted when it closes. More hold like
any other, and are counted when a whole table comes: a node that invents gaps costs no more."""
FOREIGN_S = 600.0
"""How long after a purge of another fleet answers are covered still: for wrong clocks, and for the
longest fetch."""
SEEN_KEPT_S = 86_400.0
"""A node's last purge is told for so long after it was forgotten: others forget at other times."""

_NEVER = Version(0)
_Name = tuple[Purge, NodeName, bool]
"""Of two acts with one name the later says it all."""


@dataclass(slots=True)
class _Node:
    """What is known of one node's purges."""

    seen: Version = _NEVER
    """All up to this one were applied."""
    newest: Version = _NEVER
    """The last one that was applied, beyond a gap or not."""
    ahead: set[Version] = field(default_factory=set)
    """Purges beyond a gap."""
    waiting: list[tuple[Version, Version]] = field(default_factory=list)
    """The same as a heap, each after the one before it."""


class Generations:
    def __init__(self, purges_max: int = PURGES_MAX) -> None:
        self.known: Seen = ()
        """What a fetch notes: a new tuple when it changes, the same one until then."""
        self.seen: Seen = ()
        """What was applied without a gap: what this node confirms."""
        self.changes = 0
        """Counts what could have made a living entry dead, or stale."""
        self._nodes: dict[NodeName, _Node] = {}
        self._forgotten = _NEVER
        # By what narrows them most: a key, or else a label, or else nothing.
        self._table: dict[CacheKey | str | None, dict[_Name, Purged]] = {}
        self._count = 0
        self._purges_max = purges_max

    def __len__(self) -> int:
        return self._count

    def __repr__(self) -> str:
        gaps = sum(len(node.ahead) for node in self._nodes.values())
        return f"<Generations {self._count} purges of {len(self._nodes)} nodes, {gaps} gaps>"

    def merge(self, purged: Purged) -> bool:
        """Apply a purge, whoever made it. False when it was known, or is as good as forgotten."""
        node = self._nodes.get(purged.by) or _Node()
        if purged.version <= self._forgotten or purged.version in node.ahead:
            return False
        follows = purged.previous <= max(node.seen, self._forgotten)
        counts = purged.version > node.seen and (follows or len(node.ahead) < AHEAD_MAX)
        if not counts and self._said(purged):
            return False
        self._nodes[purged.by] = node
        node.newest = max(node.newest, purged.version)
        if counts:
            node.ahead.add(purged.version)
            heappush(node.waiting, (min(purged.previous, purged.version), purged.version))
        self._keep(purged)
        if self._count > self._purges_max:
            self._make_room()
        self._close(node)
        self._tell()
        self.changes += 1
        return True

    def _said(self, purged: Purged) -> bool:
        """Was a purge applied, or a later one of the same? It may have been taken for it only.

        A node that started from an old copy of its disk may name as the one before its next purge
        one that was before others, which only those know who heard them.
        """
        for purge in (purged.purge, Purge()):
            alike = self._table.get(_place(purge), {})
            later = alike.get((purge, purged.by, purged.soft))
            if later is not None and later.version >= purged.version:
                return True
        return False

    def adopt(self, seen: Seen) -> None:
        """Everything that a node with this `seen` knows was merged: there are no gaps up to it."""
        for by, version in seen:
            if version > self._forgotten:
                node = self._nodes.setdefault(by, _Node())
                node.seen = max(node.seen, version)
                self._close(node)
        self._tell()

    def forget(self, before: Timestamp) -> None:
        """Drop purges older than `before`: what they covered must have expired."""
        self._forgotten = max(self._forgotten, at(before))
        for purged in [one for one in self.purges() if one.version <= self._forgotten]:
            self._drop(purged)
        long_ago = at(Timestamp(before - SEEN_KEPT_S))
        for by, node in list(self._nodes.items()):
            self._close(node)
            if max(node.seen, node.newest) <= long_ago and not node.ahead:
                del self._nodes[by]
        self._tell()

    def dead(self, entry: Entry) -> bool:
        """Was it purged, on any node, by a purge that its own node did not know when it set out?"""
        if entry.seen is self.known or entry.seen == self.known:
            return False
        return any(not purged.soft for purged in self.against(entry))

    def stale_at(self, entry: Entry) -> Timestamp | None:
        """When soft purges made it stale, if any did."""
        if entry.seen is self.known or entry.seen == self.known:
            return None
        moments = [wall_of(purged.version) for purged in self.against(entry) if purged.soft]
        return min(moments, default=None)

    def expires_at(self, entry: Entry) -> Timestamp:
        """When it becomes stale, or became it, by its age or by a soft purge."""
        stale_at = self.stale_at(entry)
        return entry.expires_at if stale_at is None else min(entry.expires_at, stale_at)

    def fresh(self, entry: Entry, now: Timestamp) -> bool:
        """Neither expired nor purged, softly or not. Whose clock is ahead purges no later by it."""
        if entry.seen is self.known or entry.seen == self.known:
            return entry.expires_at > now
        return entry.expires_at > now and not any(self.against(entry))

    def purges(self) -> Iterator[Purged]:
        for alike in self._table.values():
            yield from alike.values()

    def against(self, entry: Entry) -> Iterator[Purged]:
        """The purges that cover it and that it knew nothing of."""
        table = self._table
        names = (entry.key, None, f"model:{entry.model}", f"by:{entry.stored_by}", *entry.labels)
        for name in names:
            if alike := table.get(name):
                yield from (
                    one for one in alike.values() if one.reaches(entry) and not _after(entry, one)
                )

    def _keep(self, purged: Purged) -> None:
        alike = self._table.setdefault(_place(purged.purge), {})
        name = (purged.purge, purged.by, purged.soft)
        known = alike.get(name)
        if known is not None and known.version > purged.version:
            return
        self._count += known is None
        alike[name] = purged

    def _make_room(self) -> None:
        """Of the oldest sixteenth remember only that they were purges, of everything they may be.

        One of each node, and of each kind: whoever knew the last of them is not covered.
        """
        oldest = sorted(self.purges(), key=lambda one: one.version)[: self._purges_max // 16 + 1]
        for purged in oldest:
            self._drop(purged)
        for purged in oldest:
            self._keep(replace(purged, purge=Purge()))

    def _drop(self, purged: Purged) -> None:
        place = _place(purged.purge)
        alike = self._table[place]
        del alike[purged.purge, purged.by, purged.soft]
        if not alike:
            del self._table[place]
        self._count -= 1

    def _close(self, node: _Node) -> None:
        """Count what follows without a gap on what was counted. Who was forgotten leaves none."""
        while node.waiting and node.waiting[0][0] <= max(node.seen, self._forgotten):
            _, version = heappop(node.waiting)
            node.ahead.remove(version)
            node.seen = max(node.seen, version)

    def _tell(self) -> None:
        nodes = sorted(self._nodes.items())
        seen = tuple((by, node.seen) for by, node in nodes if node.seen)
        known = tuple((by, max(node.seen, node.newest)) for by, node in nodes)
        if known != self.known:
            self.known = known
        if seen != self.seen:
            self.seen = self.known if seen == self.known else seen


def _after(entry: Entry, purged: Purged) -> bool:
    """Was it fetched by this fleet, after a purge of another that nobody here noted?"""
    ours = purged.foreign_to
    if ours is None or entry.version <= purged.version + at(Timestamp(FOREIGN_S)):
        return False
    by = [label.removeprefix("by:") for label in entry.labels if label.startswith("by:")]
    return all(name in ours for name in (entry.stored_by, *by))


def _place(purge: Purge) -> CacheKey | str | None:
    return purge.label if purge.key is None else purge.key
