"""A node of a simulated fleet: the real replica, the real outbox, a shelf on a slow disk."""

from collections.abc import Callable
from random import Random

from index.acceptance import Accepted
from index.clock import Now
from index.entry import CacheKey, Entry, Hint, Instant, Purged, Scope, Timestamp
from sync.outbox import Outbox, name_of
from sync.replica import Replica
from sync.roster import Enrolment, Roster
from sync.seams import Kept
from sync.voice import Own
from tests.fakes.fleet import OPERATOR, key
from tests.fakes.shelf import FakeShelf
from tests.sim.disk import Disk
from tests.sim.facts import NEVER, Facts, Name, Violation

BASE = 1_800_000_000.0


class SimShelf(FakeShelf):
    """Tells the facts what happens to it, and the disk what it will hold soon."""

    def __init__(self, node: "Node", answers: dict[Name, Entry], entries_max: int) -> None:
        super().__init__(entries_max)
        self._node = node
        self.entries = dict(answers)
        self.changed: dict[Name, None] = dict.fromkeys(self.entries)
        """To be looked at by the checkers."""
        self._merging = False

    def put(self, entry: Entry) -> bool:
        stored = super().put(entry)
        name = entry.scope, entry.key
        if stored and name in self.entries:
            self._node.written(name, entry)
            self._node.facts.stored(self._node.name, name, entry)
            self.changed[name] = None
        return stored

    def accept(self, entry: Entry, now: Timestamp, hint: Hint | None = None) -> Accepted:
        became = super().accept(entry, now, hint)
        if became is Accepted.STORED:
            self._node.facts.accepted(self._node.name, entry)
        elif became is Accepted.DEAD and _vouched(entry):
            self._node.facts.left(self._node.name, (entry.scope, entry.key), evicted=True)
        return became

    def remove(self, scope: Scope, key: CacheKey) -> None:
        entry = self.entries[scope, key]
        super().remove(scope, key)
        self._node.written((scope, key), None)
        evicted = not self._merging or _vouched(entry)
        self._node.facts.left(self._node.name, (scope, key), evicted=evicted)

    def look(self, name: Name, wall: Timestamp) -> Entry | None:
        """What would be answered, without counting as a question."""
        entry = self.entries.get(name)
        if entry is None or self.table.dead(entry) or self.fresh_until(entry) <= wall:
            return None
        return entry

    def merge(self, purged: Purged) -> bool:
        self._merging = True
        news = super().merge(purged)
        self._merging = False
        self._node.merged(purged)
        if news:
            self.changed.update(dict.fromkeys(self.entries))
        return news


class Node:
    def __init__(
        self,
        stem: str,
        enrolment: Enrolment,
        facts: Facts,
        disk: Disk,
        time: Callable[[], float],
        random: Random,
    ) -> None:
        self.stem = stem
        self.name = enrolment.name
        self.enrolment = enrolment
        self.facts = facts
        self.disk = disk
        self.skew = 0.0
        self.broken = False
        """Its clock is beyond what others follow: it need not agree with anybody."""
        self.relay = self.relayed = False
        self.entries_max = 1 << 30
        self.write_s = 0.01
        self.replica: Replica | None = None
        self.shelf: SimShelf | None = None
        self.lines: list[bytes] = []
        """The roster it was given when it joined."""
        self.wake: float | None = None
        self._time = time
        self._random = random

    @property
    def up(self) -> bool:
        return self.replica is not None

    @property
    def now(self) -> Now:
        time = self._time()
        return Now(Timestamp(BASE + time + self.skew), Instant(time))

    def start(self) -> None:
        roster = Roster(OPERATOR.public_key())
        for line in self.lines:
            roster.merge(line)
        outbox = self.disk.open(self._random.randbytes(8), self._time)
        self.shelf = SimShelf(self, self.disk.answers, self.entries_max)
        own = Own(
            self.name,
            key(self.stem),
            self.enrolment.region,
            f"{self.stem}:1",
            relay=self.relay,
            relayed=self.relayed,
        )
        self.replica = Replica(own, roster, outbox, self.shelf, self.now)
        for line in self.lines:
            self.replica.enrol(line, self.now)
        for act in self.facts.nodes[self.name].acts:
            purged = Purged(act.purge, act.by, act.version, soft=act.soft)
            if not any(one.purged.version >= act.version for one in alike(outbox, purged)):
                raise Violation(f"{self.name} forgot the {act}")
        self.facts.nodes[self.name].shown.clear()

    def kill(self, *, power: bool) -> None:
        if power and self.disk.outbox is not None:
            self._forget_published(self.disk.outbox.safe_at)
        self.disk.kill(self._time(), power=power)
        self.replica = self.shelf = None
        self.facts.nodes[self.name].shown.clear()

    def take_copy(self) -> None:
        self.disk.take_copy(self._time(), self.facts.nodes[self.name])

    def restore(self) -> None:
        """Start from the copy next time; what was learned since is forgotten."""
        copy = self.disk.restore()
        self._forget_published(copy.taken_at)
        known = self.facts.nodes[self.name]
        for act in known.acts:
            if act.by == self.name and act not in copy.acts:
                act.forgotten = True
        known.acts = dict(copy.acts)
        known.revoked = dict(copy.revoked)
        known.newest = dict(copy.newest)

    def _forget_published(self, since: float) -> None:
        """What it said since then is no longer in its log, nor what it passed on."""
        self.facts.nodes[self.name].log_lost_at = self._time()
        for fetch in self.facts.fetches.values():
            if fetch.node == self.name and fetch.published_at >= since:
                fetch.published_at = NEVER

    def written(self, name: Name, entry: Entry | None) -> None:
        self.disk.write(self._time() + self.write_s, name, entry)

    def merged(self, purged: Purged) -> None:
        self.facts.merged(self.name, purged, self._time())

    def news(self) -> bool:
        """Has something come to it since it was last checked?"""
        return self.shelf is not None and bool(self.shelf.changed)

    def check(self, *, everything: bool = False) -> None:
        """What it would answer now is what it may."""
        if self.shelf is None:
            return
        names = list(self.shelf.entries) if everything else list(self.shelf.changed)
        self.shelf.changed.clear()
        wall = self.now.wall
        for name in names:
            if (entry := self.shelf.look(name, wall)) is not None:
                self.facts.check(self.name, name, entry, wall)
        for revoked in self.facts.revoked:
            line = self.replica.roster.get(revoked) if self.replica else None
            if line is not None and line.revoked:
                self.facts.nodes[self.name].revoked[revoked] = None

    def check_confirmed(self) -> None:
        """Who it takes to have applied its purges has."""
        if self.replica is None or self.name in self.facts.revoked:
            return
        live = [peer.name for peer in self.replica.peers.live(self.now)]
        for act in self.facts.nodes[self.name].acts:
            if act.by == self.name:
                purged = Purged(act.purge, act.by, act.version, soft=act.soft)
                late = self.replica.unconfirmed(purged, self.now)
                for name in live:
                    if name not in late and self.replica.roster.member(name) is not None:
                        self.facts.confirmed(act, name)


def alike(outbox: Outbox, purged: Purged) -> list[Kept]:
    """What is on the disk of the same purge by the same node."""
    return [one for one in outbox.purges() if name_of(one.purged) == name_of(purged)]


def _vouched(entry: Entry) -> bool:
    """Does it go with the purges of who told it, too?"""
    return any(label.startswith("by:") for label in entry.labels)
