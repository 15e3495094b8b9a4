"""A node of a simulated fleet: the real replica on the real outbox, and a shelf."""

from collections.abc import Callable
from functools import lru_cache, partial
from random import Random
from types import SimpleNamespace
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from index.clock import AHEAD_MAX_S, Now, wall_of
from index.entry import Entry, Instant, NodeName, Purged, Timestamp
from sync.frames import peek
from sync.replica import Replica
from sync.roster import Enrolment, Roster
from sync.rows import name_of
from sync.voice import RESERVE_S, Own
from tests.fakes.fleet import OPERATOR, key
from tests.sim.disk import Disk
from tests.sim.facts import NEVER, Facts, Name, Violation
from tests.sim.shelves import AnswersShelf, SimShelf, Teller, vouched

BASE = 1_800_000_000.0
SKEW_MAX_S = 25.0
"""Of a clock that is no worse than clocks are."""


_SIGNED: dict[tuple[bytes, bytes, bytes], None] = {}
"""Of late, by whom: public keys, signatures, and what was signed."""
_SIGNED_MAX = 16_384


def _sign(key: Ed25519PrivateKey, public: bytes, data: bytes) -> bytes:
    signature = key.sign(data)
    if len(_SIGNED) == _SIGNED_MAX:
        del _SIGNED[next(iter(_SIGNED))]
    _SIGNED[public, signature, data] = None
    return signature


def _signer(key: Ed25519PrivateKey) -> Any:
    return SimpleNamespace(sign=partial(_sign, key, key.public_key().public_bytes_raw()))


@lru_cache(maxsize=16_384)
def _prove(key: bytes, signature: bytes, data: bytes) -> None:
    if (key, signature, data) not in _SIGNED:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, data)


def _verifier(key: Ed25519PublicKey) -> Any:
    """What was signed with this key here is known to be: to compute it again takes most time."""
    return SimpleNamespace(verify=partial(_prove, key.public_bytes_raw()))


class SimRoster(Roster):
    def __init__(self) -> None:
        super().__init__(OPERATOR.public_key())
        self.operator = _verifier(self.operator)

    def key(self, name: NodeName) -> Any:
        return _verifier(super().key(name))


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
        self.retired = False
        self.strange: dict[Name, None] = {}
        self._started = NEVER
        self._held: dict[Name, bytes] = {}
        """Bodies of what it held when its process ended."""
        self.relay = self.relayed = False
        self.entries_max = 1 << 30
        self.write_s = 0.01
        self.replica: Replica | None = None
        self.shelf: SimShelf | AnswersShelf | None = None
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
        roster = SimRoster()
        for line in self.lines:
            roster.merge(line)
        self._started = self._time()
        outbox = self.disk.open(self._random.randbytes(8), self._time)
        teller = Teller(self.name, self.facts, self._written, self._merged)
        if self.disk.cache is not None:
            self.shelf = AnswersShelf(teller, self.disk.cache, lambda: self.now.wall)
        else:
            self.shelf = SimShelf(teller, self.disk.answers, self.entries_max)
        own = Own(
            self.name,
            _signer(key(self.stem)),
            self.enrolment.region,
            f"{self.stem}:1",
            relay=self.relay,
            relayed=self.relayed,
        )
        self.replica = Replica(own, roster, outbox, self.shelf, self.now)
        for line in self.lines:
            self.replica.enrol(line, self.now)
        for name, entry in self.shelf.entries.items():
            if self._held.get(name) != entry.body:
                self.facts.nodes[self.name].regained[entry.body] = None
            if self.shelf.dead(entry):
                self.facts.left(self.name, name, evicted=vouched(entry))
        kept = {name_of(one.purged): one.purged.version for one in outbox.purges()}
        for act in self.facts.nodes[self.name].acts:
            purged = Purged(act.purge, act.by, act.version, soft=act.soft)
            if kept.get(name_of(purged), 0) < act.version:
                raise Violation(f"{self.name} forgot the {act}")
        self.facts.nodes[self.name].shown.clear()

    def kill(self, *, power: bool) -> None:
        if power and self.disk.outbox is not None:
            self._forget_published(self.disk.outbox.safe_at)
        if self.shelf is not None:
            self._held = {name: entry.body for name, entry in self.shelf.entries.items()}
        if isinstance(self.shelf, AnswersShelf):
            self.shelf.kill()
        self.disk.kill(self._time(), power=power)
        self.facts.nodes[self.name].evicted.update(self.strange)
        self.replica = self.shelf = None
        self.facts.nodes[self.name].shown.clear()

    def take_copy(self) -> None:
        if isinstance(self.shelf, AnswersShelf):
            self.shelf.take_copy()
        self.disk.take_copy(self._time(), self.facts.nodes[self.name])

    def restore(self) -> float:
        """Start from the copy next time; what was learned since is forgotten. When it was taken."""
        copy = self.disk.restore()
        self._forget_published(copy.taken_at)
        known = self.facts.nodes[self.name]
        for act in known.acts:
            if act.by == self.name and act not in copy.acts:
                act.forgotten = True
        known.acts = dict(copy.acts)
        known.revoked = dict(copy.revoked)
        known.newest = dict(copy.newest)
        return copy.taken_at

    def _forget_published(self, since: float) -> None:
        """What it said since then is no longer in its log, nor what it passed on."""
        self.facts.nodes[self.name].log_lost_at = self._time()
        for fetch in self.facts.fetches.values():
            if fetch.node == self.name and fetch.published_at >= since:
                fetch.published_at = NEVER

    def told(self, frame: bytes) -> None:
        """What is of somebody it does not know is kept in mind, and lost with the process."""
        if self.replica is not None and peek(frame).origin not in self.replica.roster:
            for fetch in self.facts.fetches.values():
                if fetch.entry.body in frame:
                    self.strange[fetch.name] = None

    def _written(self, name: Name, entry: Entry | None) -> None:
        self.disk.write(self._time() + self.write_s, name, entry)

    def _merged(self, purged: Purged) -> None:
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
        if names:
            self.shelf.settle()
        wall = self.now.wall
        for name in names:
            if (entry := self.shelf.look(name, wall)) is not None:
                self.facts.check(self.name, name, entry, wall)
        if self.replica is not None and not self.broken:
            ahead_s = wall_of(self.replica.log.reserved) - BASE - self._time()
            if ahead_s > SKEW_MAX_S + AHEAD_MAX_S + RESERVE_S:
                raise Violation(f"{self.name} follows a clock that is {ahead_s:.0f} s ahead")
        for revoked in self.facts.revoked:
            line = self.replica.roster.get(revoked) if self.replica else None
            if line is not None and line.revoked:
                self.facts.nodes[self.name].revoked[revoked] = None

    def check_confirmed(self) -> None:
        """Who it takes to have applied its purges, those of this run, has."""
        if self.replica is None or self.name in self.facts.revoked:
            return
        live = [peer.name for peer in self.replica.peers.live(self.now)]
        for act in self.facts.nodes[self.name].acts:
            if act.by == self.name and act.issued >= self._started:
                purged = Purged(act.purge, act.by, act.version, soft=act.soft)
                late = self.replica.unconfirmed(purged, self.now)
                for name in live:
                    if name not in late and self.replica.roster.member(name) is not None:
                        self.facts.confirmed(act, name)
