"""Two nodes, two fetches, two purges: every order, against one rule that says what is left."""

from dataclasses import replace

from index.acceptance import order
from index.clock import at
from index.entry import Entry, NodeName, Purge, Purged, Timestamp, Version
from tests.fakes import entries as fakes
from tests.fakes.shelf import FakeShelf
from tests.sim.every import Run, every

NODES = (NodeName("a"), NodeName("b"))
EARLY = at(fakes.NOW)
PURGES = (Purge(), Purge(label="by:a"))


def test_every_run_is_seen_once() -> None:
    runs = [(run.choose(2), run.choose(3) if run.choose(2) else 7) for run in every()]
    assert len(runs) == len([*every_of(2, 2)]) + 2 * 2 == 8
    assert len(set(runs)) == 8


def every_of(*counts: int) -> list[tuple[int, ...]]:
    return [tuple(run.choose(count) for count in counts) for run in every()]


class Pair:
    """Two shelves, and what either was told and has not heard."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.shelves = {name: FakeShelf() for name in NODES}
        self.waiting: dict[NodeName, list[Entry | Purged]] = {name: [] for name in NODES}
        self.entries: list[Entry] = []
        self.purges: list[Purged] = []

    def fetch(self, node: NodeName, seen_before: int) -> None:
        """An answer, asked for before the last purges there or after them.

        Its version may be below, above or that of another node's.
        """
        known = [one for one in self.purges if self.knows(node, one)]
        seen = {one.by: one.version for one in known[: max(0, len(known) - seen_before)]}
        own = [one.version for one in self.entries if one.stored_by == node]
        version = Version(max([EARLY - 1, *own]) + 1 + self.run.choose(2))
        entry = replace(
            fakes.entry("q", f"{len(self.entries)}".encode()),
            stored_by=node,
            version=version,
            seen=tuple(sorted(seen.items())),
        )
        self.entries.append(entry)
        self.say(node, entry)

    def dead(self, entry: Entry) -> bool:
        """The rule."""
        seen = dict(entry.seen)
        return any(
            one.purge.covers(entry) and one.version > seen.get(one.by, 0) for one in self.purges
        )

    def last(self) -> dict[NodeName, Version]:
        """Of each node's purges."""
        return {one.by: one.version for one in self.purges}

    def knows(self, node: NodeName, purged: Purged) -> bool:
        return dict(self.shelves[node].begin()).get(purged.by, 0) >= purged.version

    def purge(self, node: NodeName) -> None:
        mine = [one.version for one in self.purges if one.by == node]
        previous = max(mine, default=Version(0))
        what = PURGES[0] if self.purges else self.run.of(PURGES)
        purged = Purged(what, node, Version(max(EARLY, previous) + 1), previous)
        self.purges.append(purged)
        self.say(node, purged)

    def say(self, node: NodeName, what: Entry | Purged) -> None:
        self.hear(node, what)
        (other,) = [name for name in NODES if name != node]
        self.waiting[other].append(what)

    def hear(self, node: NodeName, what: Entry | Purged) -> None:
        shelf = self.shelves[node]
        if isinstance(what, Purged):
            shelf.merge(what)
        else:
            shelf.accept(what, fakes.NOW)

    def deliver(self) -> None:
        """Nothing, or the first or the last of what either waits for."""
        for node in NODES:
            if self.waiting[node] and (which := self.run.choose(3)):
                self.hear(node, self.waiting[node].pop(0 if which == 1 else -1))

    def settle(self) -> None:
        for node in NODES:
            while self.waiting[node]:
                self.hear(node, self.waiting[node].pop())


def test_every_order_of_two_fetches_and_two_purges_leaves_the_same() -> None:
    runs = 0
    for run in every():
        pair = Pair(run)
        acts = [pair.fetch, pair.purge, pair.fetch, pair.purge]
        for number, act in enumerate(acts):
            node = run.of(NODES)
            if act == pair.fetch:
                pair.fetch(node, seen_before=run.choose(2) if number else 0)
            else:
                pair.purge(node)
            pair.deliver()
        pair.settle()
        living = [one for one in pair.entries if not pair.dead(one)]
        best = max(living, key=order, default=None)
        # What is older gives way, for good, to what is newer and is purged only later.
        outdone = best is not None and any(order(one) > order(best) for one in pair.entries)
        for node in NODES:
            held = pair.shelves[node].recall(fakes.SHARED, fakes.key("q"), Timestamp(fakes.NOW))
            assert held == best or (outdone and (held is None or held in living))
            assert pair.shelves[node].seen == tuple(sorted(pair.last().items()))
        runs += 1
    assert runs > 10_000
