"""A node's part in its fleet: what it hears, keeps, passes on and says. No sockets, no clocks.

    linked · unlinked · receive · acked · tick    what happened, with `now`
    outbox · to_bus · wake_at                     what is to be sent, and when to call `tick`
    publish · purge · enrol · turn                what this node has to say

Three ways to say something, by how it must arrive:

    answers ..... through the log: every reader gets all of it in order, at its own pace, and goes
                  on after any interruption where it was (`sync.readers`, `sync.bus`)
    purges,
    roster ...... at once to everybody, who pass on what is new to them; and again to whoever shows
                  in its presence that it lacks something: all nodes come to hold the same
    presence .... every two seconds, and at once when purges were applied: its `seen` confirms them

A purge is applied, then written down, then confirmed. A cursor is written down a second after what
it stands for was applied: the shelf needs some milliseconds to get that to disk, and to hear a
second of it twice costs nothing. Everything may be told any number of times, in any order.

Not thread-safe.
"""

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple, assert_never

from index.clock import AHEAD_MAX_S, ClockSkew, Now, at, wall_of
from index.entry import (
    EVERYWHERE,
    Entry,
    Instant,
    NodeName,
    Purge,
    Purged,
    Timestamp,
    Version,
)
from sync import admission
from sync.admission import PURGES_KEPT_S
from sync.bus import Bus, Publication
from sync.dialogue import Aside, Batch, DialogueMessage, Heard, Hello, Start, read, written
from sync.frames import peek
from sync.hearing import Hearing, News, Refused
from sync.keybook import KeyRecord
from sync.messages import (
    BODY_BYTES_MAX,
    GRANTS_MAX,
    Enrolments,
    Entries,
    Grant,
    Grants,
    Item,
    Kind,
    Message,
    MessageError,
    Presence,
    State,
    Table,
    sayable,
)
from sync.peers import DEAD_S, PRESENCE_S, REPAIR_MAX_S, REPAIR_S, Peer, Peers
from sync.readers import Reader
from sync.roster import Enrolment, Roster
from sync.seams import Cursor, Kept, Log, Logged, Shelf
from sync.tables import lacks, tables
from sync.voice import Own, Voice, together

SNAPSHOT_ENTRIES: Final = 10_000
"""Told to who joins, or was away for longer than the log goes back: 19 MB of usual answers."""
ROWS_AT_ONCE: Final = 64
"""Of a snapshot looked at in one turn: none of them may be for who asks."""
ENTRY_BYTES_MAX: Final = 256 << 10
"""A larger answer is not pushed: others learn from the digest that it can be asked for."""
CURSORS_S: Final = 1.0
CONFIRM_S: Final = 0.02
"""Purges that come in a flood are confirmed together."""
UNWRITTEN_S: Final = 2.0
UNWRITTEN_BYTES: Final = 8 << 20
UPKEEP_S: Final = 3_600.0
LOG_KEPT_S: Final = 86_400.0
MADE_MAX: Final = 1_024
LINES_AT_ONCE: Final = 256
_NOTHING: Final = Version(0)


class Role(Enum):
    """Of the other end of a link."""

    READER = "reader"
    """It reads our log."""
    SOURCE = "source"
    """We read its log."""
    BUS = "bus"
    """No node: it gets what we say, and tells us what everybody says."""


class End(NamedTuple):
    """The other end of a link. With one node there may be two, one of either role."""

    peer: NodeName
    role: Role


class PurgeRefused(Exception):  # noqa: N818  reads as what happened
    """This node's enrolment does not admit all the scopes that the purge would reach."""


@dataclass(slots=True)
class _Source:
    """A node whose log we read."""

    cursor: Cursor
    latest: Version
    """Where its log ends, as far as we were told."""
    heard: int = 0
    """Batches of this link."""


class Replica:
    def __init__(
        self,
        own: Own,
        roster: Roster,
        log: Log,
        shelf: Shelf,
        now: Now,
        accepted: Callable[[Entry], None] = lambda entry: None,
        granted: Callable[[NodeName, Grants], None] = lambda node, grants: None,
    ) -> None:
        """`accepted` is told of every answer of another node's that was news, `granted` of what
        other nodes granted of limits.

        Purges and roster are restored from the log here: the shelf may be asked after that.
        """
        self.own = own
        self.roster = roster
        self.log = log
        self.shelf = shelf
        self._granted = granted
        self.peers = Peers()
        self.state = State.JOINING
        self.ends: dict[End, None] = {}
        """Links that are up, oldest first."""
        self._voice = Voice(own, roster.fleet, log)
        self._hearing = Hearing(self._voice, roster, log, shelf, accepted)
        self._readers: dict[NodeName, Reader] = {}
        self._sources: dict[NodeName, _Source] = {}
        self._buses: dict[NodeName, Bus] = {}
        self._unmet: dict[NodeName, None] = {}
        """Newly linked: told what they lack when they first say what they have."""
        self._out: list[tuple[End, bytes]] = []
        self._publications: list[Publication] = []
        self._made: OrderedDict[Version, Purged] = OrderedDict()
        """Our latest purges of this run, by their versions."""
        self._own_latest = self._last_own()
        """Our last purge."""
        self._disputed = _NOTHING
        """Others say they applied our purges up to here, and we did not make ours again."""
        self._reclaim_at = now.mono
        self._reclaim_s = REPAIR_S
        self._now = now
        self._presence_at = now.mono
        self._presence_last = Instant(now.mono - PRESENCE_S)
        self._cursors_at: Instant | None = None
        self._applied: dict[NodeName, Cursor] = {}
        self._ripe: dict[NodeName, Cursor] = {}
        self._upkeep_at = Instant(now.mono + UPKEEP_S)
        if not log.floor:
            log.begin(self.stamp(now))
        self._take_back()

    # What this node has to say.

    def stamp(self, now: Now, above: Version | None = None) -> Version:
        """A reading of this node's clock, above all before it and all it has heard of.

        For an entry: taken when the answer is complete, so that it is above all that it has seen;
        and `above` the version of the answer that it replaces, which the clock may not remember:
        what was heard from a node whose clock is ahead is forgotten when the process ends.
        """
        self._now = now
        if above is not None:
            self._recall(above)
        return self._voice.stamp(now)

    def publish(self, items: Iterable[Item], now: Now) -> int:
        """Tell answers that are here to whoever may have them; how many were told.

        Not told: what is dead or expired, of no reach, too large, or of who may not publish it.
        """
        self._now = now
        if len(self.roster) < 2:
            return 0
        count = 0
        for group in together(self._tellable(items, ENTRY_BYTES_MAX)):
            count += len(group)
            version, frame = self._say(Entries(group))
            scope, reach = group[0][0].scope, group[0][0].reach
            self.log.append(Logged(version, self.own.name, scope, reach, frame))
        self._flush()
        return count

    def purge(self, purge: Purge, now: Now, *, soft: bool = False) -> Purged:
        """Purge everywhere. When this returns it holds here, is on disk and on its way to others.

        Raises PurgeRefused.
        """
        self._now = now
        own = self.roster.member(self.own.name)
        if own is not None and (why := admission.purge_refused(purge, own)):
            raise PurgeRefused(why)
        purged = self._purge(purge, soft=soft)
        self._flush()
        return purged

    def unconfirmed(self, purged: Purged, now: Now) -> list[NodeName]:
        """Which of the nodes that are alive have not said that they applied a purge of this run."""
        return [
            peer.name
            for peer in self.peers.live(now)
            if self.roster.member(peer.name) is not None and not self.has_applied(peer.name, purged)
        ]

    def has_applied(self, name: NodeName, purged: Purged) -> bool:
        """Has a node said that it applied a purge of ours, of this run?

        What it says counts if we know what it means: from before an old copy took the place of our
        disk it may know of later ones than this, and not of this.
        """
        if (peer := self.peers.get(name)) is None:
            return False
        known = dict(peer.presence.seen).get(self.own.name, _NOTHING)
        version = self.log.latest_of(purged)  # it may have been made once more
        alike = peer.presence.purges == self.log.digest
        ours = known in self._made and version > self._disputed
        return known >= version and (ours or alike)

    def enrol(self, line: bytes, now: Now) -> Enrolment | KeyRecord | None:
        """Take a line of the roster and tell everybody; None if it is not news.

        When it revokes a node, purge `by:NODE` as well: what it told before stays otherwise.
        Raises MessageError.
        """
        self._now = now
        said = self._hearing.enrol(line)
        if said is not None:
            self._let_go()
            self._present_soon()
            self._tell([self._say(Enrolments((line,)))[1]])
            self._hear(self._hearing.no_strangers(), End(self.own.name, Role.SOURCE), logged=True)
        self._flush()
        return said

    def unaware(self, now: Now) -> list[NodeName]:
        """Which of the nodes that are alive have not said that they hold the same roster."""
        return [
            peer.name
            for peer in self.peers.live(now)
            if self.roster.member(peer.name) is not None
            and peer.presence.roster != self.roster.digest
        ]

    def quarantine(self, node: NodeName, why: str) -> None:
        """Take no more answers that this node fetched or tells, until this process ends."""
        self._hearing.quarantined[node] = why

    def grant(self, rows: Sequence[Grant], now: Now) -> None:
        """Tell everybody what was granted here of limits that all nodes share."""
        self._now = now
        for start in range(0, len(rows), GRANTS_MAX):
            message = Grants(tuple(rows[start : start + GRANTS_MAX]))
            self._tell([self._say(message)[1]])
        self._flush()

    def turn(self, state: State, now: Now) -> None:
        """Say that this node is up, or leaves."""
        self._now = now
        self.state = state
        self._present_soon()
        self._flush()

    def answer(self, peer: NodeName, entry: Entry, now: Now) -> bytes | None:
        """The frame that gives a peer what it asked for; None if it may not have it."""
        self._now = now
        if not admission.may_keep(self.roster.member(peer), entry.scope, entry.reach):
            return None
        told = tuple(self._tellable([(entry, None)], BODY_BYTES_MAX))
        return self._say(Entries(told))[1] if told else None

    def told(self, entry: Entry, now: Now) -> bytes | None:
        """The frame of an answer for any node of this region; None if they may not have it."""
        self._now = now
        own = self.roster.member(self.own.name)
        if own is None or not own.may_publish or entry.stored_by != own.name:
            return None
        may = admission.may_keep(own, entry.scope, entry.reach)
        if not may or not self._fit(entry, BODY_BYTES_MAX):
            return None
        return self._say(Entries(((entry, None),)))[1]

    def found(self, frame: bytes, now: Now) -> Entry | None:
        """What a frame says that lay somewhere, if it is now held; it may be heard many times."""
        self._now = now
        return self._hearing.answer(frame, now)

    def take(self, frame: bytes, now: Now) -> Entry | None:
        """What a peer answered, if it was news and is now held."""
        self._now = now
        news = self._hearing.hear(frame, now)
        return news.entries[0] if news and news.entries else None

    # What happened.

    def linked(self, end: End, now: Now, *, fill: bool = True) -> None:
        """A link is up. `fill`: a source that was never read tells its hottest answers first."""
        self._now = now
        self.ends[end] = None
        self._unmet[end.peer] = None
        match end.role:
            case Role.READER:
                pass  # it speaks first
            case Role.SOURCE:
                self._greet(end, fill=fill)
            case Role.BUS:
                cursor = self._cursor(end.peer)
                self._buses[end.peer] = Bus(self.own.name, cursor.position)
                self._aside(end, self._unconfirmed_frames())
            case _:
                assert_never(end.role)
        self._present_soon()
        self._flush()

    def unlinked(self, end: End, now: Now) -> None:
        self._now = now
        self.ends.pop(end, None)
        match end.role:
            case Role.READER:
                self._readers.pop(end.peer, None)
            case Role.SOURCE:
                self._sources.pop(end.peer, None)
            case Role.BUS:
                self._buses.pop(end.peer, None)
            case _:
                assert_never(end.role)

    def receive(self, end: End, data: bytes, now: Now) -> None:
        """What came over a link: a message of `sync.dialogue`, or from a bus a frame."""
        self._now = now
        try:
            if end not in self.ends:
                raise Refused("not linked")
            if end.role is Role.BUS:
                self._hear([data], end)
            elif self.roster.member(end.peer) is None:
                raise Refused("of a stranger")
            else:
                self._read(read(data), end)
        except MessageError as exc:
            self._hearing.drop(exc)
        self._flush()

    def acked(self, end: End, position: Version, now: Now) -> None:
        """A bus holds safely all it was given up to `position`."""
        self._now = now
        if (bus := self._buses.get(end.peer)) is not None:
            bus.ack(position)
            self._advance(end.peer, Cursor(bus.acked))
        self._flush()

    def tick(self, now: Now) -> None:
        """Do what is due. To be called at `wake_at`, or whenever."""
        self._now = now
        self.log.catch_up()
        if self._cursors_at is not None and now.mono >= self._cursors_at:
            self._keep_cursors()
        if now.mono >= self._upkeep_at:
            self._upkeep()
        self._flush()

    def wake_at(self) -> Instant:
        due = [self._upkeep_at]
        if self.ends:
            due.append(self._presence_at)
        if self._cursors_at is not None:
            due.append(self._cursors_at)
        if any(reader.more for reader in self._readers.values()) or any(
            bus.more(self.log) for bus in self._buses.values()
        ):
            due.append(self._now.mono)
        return min(due)

    def outbox(self) -> list[tuple[End, bytes]]:
        """What is to be sent, in this order over each link. Taken: it is not given again."""
        out, self._out = self._out, []
        return out

    def to_bus(self) -> list[Publication]:
        """What the bus is to be given. Taken: given again only when it is linked anew."""
        out, self._publications = self._publications, []
        return out

    def close(self) -> None:
        """Write down how far others were heard. The shelf has written what it holds by now."""
        self.log.keep_cursors({**self._ripe, **self._applied})
        self.log.close()

    # For whoever looks.

    @property
    def dropped(self) -> dict[str, int]:
        """Messages, frames and answers that were not taken, by reason."""
        return dict(self._hearing.dropped)

    def skewed(self, now: Now) -> dict[NodeName, float]:
        """Clocks that are too far ahead of another for its node to be listened to, in seconds ahead
        of ours: of nodes that speak, and our own."""
        found = {
            name: ahead_s
            for name, (ahead_s, heard_at) in self._hearing.clocks.items()
            if abs(ahead_s) > AHEAD_MAX_S and now.mono - heard_at < DEAD_S
        }
        own_s = wall_of(self._voice.clock.latest) - now.wall
        return {**found, self.own.name: own_s} if own_s > AHEAD_MAX_S else found

    @property
    def taken(self) -> dict[str, int]:
        """Answers of others, by what became of them."""
        return dict(self._hearing.taken)

    @property
    def unheard(self) -> int:
        """Batches that readers have not said they applied."""
        return sum(reader.unheard for reader in self._readers.values())

    def current(self, source: NodeName) -> bool:
        """Do we hold all that a node's log holds for us, as far as we know?"""
        one = self._sources.get(source)
        return one is not None and bool(one.latest) and one.cursor.position >= one.latest

    def check(self) -> None:
        """Audit; for tests and operators, O(n)."""
        self.log.check()
        assert set(self._readers) <= {end.peer for end in self.ends if end.role is Role.READER}
        assert set(self._sources) == {end.peer for end in self.ends if end.role is Role.SOURCE}
        assert set(self._buses) == {end.peer for end in self.ends if end.role is Role.BUS}
        assert not self._cursors_at or self._applied or self._ripe

    def __repr__(self) -> str:
        ends = ", ".join(f"{end.role.value} {end.peer}" for end in self.ends)
        return f"<Replica {self.own.name} {self.state.name}: {ends or 'no links'}; {self.log!r}>"

    # Links.

    def _greet(self, end: End, *, fill: bool) -> None:
        cursor = self._cursor(end.peer)
        self._sources[end.peer] = _Source(cursor, Version(0))
        hello = Hello(
            cursor.position,
            cursor.run,
            self.log.confirmed,
            self.roster.digest,
            self.own.relayed,
            fill,
        )
        self._send(end, hello)

    def _read(self, message: DialogueMessage, end: End) -> None:
        if isinstance(message, Aside):
            self._hear(message.frames, end)
            return
        match message, end.role:
            case Hello(), Role.READER:
                self._start(message, end)
            case Heard(), Role.READER if end.peer in self._readers:
                self._readers[end.peer].heard(message.count)
            case Start(), Role.SOURCE:
                cursor = Cursor(message.after, message.run)
                self._sources[end.peer] = _Source(cursor, message.latest)
                self._note_current(end.peer)
            case Batch(), Role.SOURCE:
                self._batch(message, end)
            case _:
                raise Refused("not for this end of a link")

    def _start(self, hello: Hello, end: End) -> None:
        """Tell a reader what it lacks, then what the log holds beyond what it has heard."""
        self._recall(hello.after)
        self._reclaim(dict(hello.seen).get(self.own.name, Version(0)))
        told = self.log.told_until(hello.run)
        if told is None or (hello.run == self.log.run and hello.after > told):
            told = _NOTHING  # there is no saying what it heard
        # What it heard beyond that we have forgotten, and have told others something else since.
        after = min(hello.after, told)
        self._begin(end, after, relay=hello.relay, fill=hello.fill)
        if hello.roster != self.roster.digest:
            self._tell_roster(end)
        self._tell_tables(end, dict(hello.seen))

    def _begin(self, end: End, after: Version, *, relay: bool, fill: bool) -> None:
        truncated = after < self.log.floor
        position = self.log.latest if truncated else after
        snapshot: Iterator[tuple[bytes, ...]] | None = None
        if truncated:
            snapshot = self._snapshot(end.peer) if fill else iter(())

        def may_tell(logged: Logged) -> bool:
            return (
                (relay or logged.origin == self.own.name)
                and logged.origin != end.peer
                and admission.may_keep(self.roster.member(end.peer), logged.scope, logged.reach)
            )

        self._readers[end.peer] = Reader(position, snapshot, may_tell, relay=relay)
        self._send(end, Start(self.log.run, after, self.log.latest, truncated))

    def _snapshot(self, peer: NodeName) -> Iterator[tuple[bytes, ...]]:
        """The hottest answers that a peer may have, in frames of ours; and nothing, to pause."""
        for group in together(self._hottest(peer)):
            yield (self._say(Entries(group))[1],) if group else ()

    def _hottest(self, peer: NodeName) -> Iterator[Item | None]:
        hottest = self.shelf.hottest(SNAPSHOT_ENTRIES, self._now.wall)
        for looked_at, (entry, hint) in enumerate(hottest, start=1):
            if admission.may_keep(self.roster.member(peer), entry.scope, entry.reach):
                yield from self._tellable([(entry, hint)], ENTRY_BYTES_MAX)
            if looked_at % ROWS_AT_ONCE == 0:
                yield None

    def _batch(self, batch: Batch, end: End) -> None:
        source = self._sources[end.peer]
        if batch.position > batch.latest or wall_of(batch.latest) > self._now.wall + AHEAD_MAX_S:
            raise Refused("beyond the end of the log")
        self._hear(batch.frames, end, logged=batch.position > 0)
        source.heard += 1
        source.latest = max(source.latest, batch.latest)
        if batch.position > source.cursor.position:
            source.cursor = Cursor(batch.position, source.cursor.run)
        if batch.position:
            self._advance(end.peer, source.cursor)
        self._send(end, Heard(source.heard))
        self._note_current(end.peer)

    def _note_current(self, name: NodeName) -> None:
        peer, source = self.peers.get(name), self._sources.get(name)
        if peer is not None and (source is None or source.cursor.position >= peer.presence.latest):
            peer.current_at = self._now.mono

    # What is heard.

    def _hear(self, frames: Iterable[bytes], end: End, *, logged: bool = False) -> None:
        for frame in frames:
            if (news := self._hearing.hear(frame, self._now)) is not None:
                self._pass_on(news, frame, end, logged=logged)

    def _pass_on(self, news: News, frame: bytes, end: End, *, logged: bool) -> None:
        message, origin = news.message, news.header.origin
        match message:
            case Entries():
                # Others may lack what is older than an answer that only we have. But not all that a
                # snapshot tells: it would fill our log, and so cause the next snapshot.
                worth_telling = logged or news.entries
                if self.own.relay and end.role is not Role.BUS and worth_telling:
                    position = self.stamp(self._now)
                    self.log.append(Logged(position, origin, message.scope, message.reach, frame))
            case Purged() | Table():
                self._take_own(news.purges)
                self._tell(news.purges, end.peer, origin)
                self._present_soon()
            case Enrolments():
                self._let_go()
                self._present_soon()
                self._tell([frame], end.peer, origin)
                self._hear(self._hearing.no_strangers(), end, logged=True)
            case Presence():
                self._met(message, news, frame, end)
            case Grants():
                self._granted(origin, message)
                self._relay(frame, end, origin)
            case _:
                assert_never(message)

    def _met(self, presence: Presence, news: News, frame: bytes, end: End) -> None:
        origin = news.header.origin
        if origin == self.own.name or not self.peers.heard(
            origin, presence, news.header.version, self._now
        ):
            return
        self._note_current(origin)
        self._reclaim(dict(presence.seen).get(self.own.name, Version(0)))
        self._relay(frame, end, origin)
        if end.peer == origin or end.role is Role.BUS:
            peer = self.peers.get(origin)
            assert peer is not None
            self._mend(peer, end)

    def _relay(self, frame: bytes, end: End, origin: NodeName) -> None:
        """Pass on what is heard now or never, to who listens to us for others."""
        for name, reader in self._readers.items():
            if reader.relay and name not in (end.peer, origin):
                self._send(End(name, Role.READER), Aside((frame,)))

    def _mend(self, peer: Peer, end: End) -> None:
        """Tell a node what it lacks, once it had the time to hear of it otherwise."""
        presence = peer.presence
        purges_alike = presence.purges == self.log.digest
        purges_alike &= not lacks(presence.seen, self.log.confirmed)
        if purges_alike and presence.roster == self.roster.digest:
            peer.repair_at, peer.repairs = None, 0
            self._unmet.pop(peer.name, None)
            return
        known = dict(presence.seen)
        if peer.name in self._unmet:
            del self._unmet[peer.name]
            peer.repairs = 0  # what was told over links that broke may never have come
        elif peer.repair_at is None:
            peer.repair_at = Instant(self._now.mono + REPAIR_S)
            return
        elif self._now.mono < peer.repair_at or not self._responsible(peer, end):
            return
        elif peer.repairs:
            known = {}  # what it says it has it may lack after all: everything
        wait_s = min(REPAIR_S * 2**peer.repairs, REPAIR_MAX_S)
        peer.repair_at = Instant(self._now.mono + wait_s)
        peer.repairs += 1
        if presence.roster != self.roster.digest:
            self._tell_roster(end)
        if not purges_alike:
            self._tell_tables(end, known)

    def _responsible(self, peer: Peer, end: End) -> bool:
        """On a bus that all hear, one of those that hold the same speaks: the first by name."""
        if end.role is not Role.BUS:
            return True
        alike = [
            one.name
            for one in self.peers.live(self._now)
            if one is not peer
            and (one.presence.purges, one.presence.roster) == (self.log.digest, self.roster.digest)
            and not lacks(one.presence.seen, self.log.confirmed)
        ]
        return all(self.own.name < name for name in alike)

    # What this node may have forgotten of itself.

    def _recall(self, reading: Version) -> None:
        """Somebody knows a reading of our clock: from here on we give higher ones."""
        with suppress(ClockSkew):
            self._voice.clock.observe(reading, self._now.wall)

    def _reclaim(self, known: Version, given: Collection[Version] = ()) -> None:
        """Somebody has applied our purges up to `known`, or gave us those that we had forgotten.

        Whoever starts from an old copy of its disk does not remember some of its purges, and may
        have given the next ones lower versions, which others take for applied. We make those again.
        """
        self._recall(known)
        if known > self._voice.clock.latest:
            return  # somebody's invention
        late = next(iter(self._made), known) < known
        if not given and (known in self._made or (known <= self.log.acknowledged and not late)):
            self._acknowledge(known)
            return
        kept = [one.purged for one in self.log.purges() if one.purged.by == self.own.name]
        mine = {one.version: one for one in (*kept, *self._made.values())}
        foreign = known in given or known not in mine
        if foreign and not given and self._now.mono < self._reclaim_at:
            self._disputed = max(self._disputed, known)
            return
        again = [
            mine[version]
            for version in sorted(mine)
            if foreign
            and version < known
            and version not in given
            # What was acknowledged before this run others tell whoever lacks it.
            and (version in self._made or version > self.log.acknowledged)
        ]
        self._acknowledge(known)
        self._own_latest = max(self._own_latest, known)
        if again and not given:
            # Who says it again and again must not have us purge as often.
            self._reclaim_at = Instant(self._now.mono + self._reclaim_s)
            self._reclaim_s = min(2 * self._reclaim_s, REPAIR_MAX_S)
        if again:
            self._voice.leap()
        for purged in again[-MADE_MAX:]:
            self._made.pop(purged.version, None)
            self._purge(purged.purge, soft=purged.soft)

    def _acknowledge(self, known: Version) -> None:
        if known > self.log.acknowledged:
            self.log.acknowledge(known)

    def _take_own(self, frames: Iterable[bytes]) -> None:
        """Some of these purges may be ours: then we had forgotten them."""
        headers = [peek(frame) for frame in frames]
        given = [header.version for header in headers if header.origin == self.own.name]
        if given:
            self._reclaim(max(given), given)

    def _last_own(self) -> Version:
        own = (one.purged for one in self.log.purges() if one.purged.by == self.own.name)
        seen = dict(self.shelf.seen).get(self.own.name, Version(0))
        return max(seen, *(purged.version for purged in own), _NOTHING)

    def _take_back(self) -> None:
        """What was told just before the last run ended the shelf may not have written."""
        since = Version(max(0, self.log.latest - at(Timestamp(UNWRITTEN_S))))
        for logged in self.log.after(since, UNWRITTEN_BYTES):
            self._hearing.hear(logged.frame, self._now)

    # Saying it.

    def _purge(self, purge: Purge, *, soft: bool) -> Purged:
        version = self.stamp(self._now)
        purged = Purged(purge, self.own.name, version, self._own_latest, soft)
        frame = self._voice.sign(purged, version)
        self._own_latest = version
        self._made[version] = purged
        if len(self._made) > MADE_MAX:
            self._made.popitem(last=False)
        self._hearing.apply([Kept(purged, frame)])
        self._hearing.remember(self.own.name, version)
        self._tell([frame])
        self._present_soon()
        return purged

    def _tellable(self, items: Iterable[Item], bytes_max: int) -> Iterator[Item]:
        """What of these others would take, as they would take it."""
        own = self.roster.member(self.own.name)
        for entry, hint in items:
            told = admission.tellable(entry, own, self.roster) if own else None
            if told is not None and self._fit(told, bytes_max):
                self._recall(told.version)  # the frame's has to be above it
                yield told, hint

    def _fit(self, entry: Entry, bytes_max: int) -> bool:
        return (
            sayable(entry)
            and len(entry.body) <= bytes_max
            and entry.expires_at > self._now.wall
            and not self.shelf.dead(entry)
        )

    def _say(self, message: Message) -> tuple[Version, bytes]:
        version, frame = self._voice.say(message, self._now)
        self._hearing.remember(self.own.name, version)
        return version, frame

    def _present_soon(self) -> None:
        soon = Instant(max(self._now.mono, self._presence_last + CONFIRM_S))
        self._presence_at = min(self._presence_at, soon)

    def _present(self) -> None:
        self._presence_last = self._now.mono
        self._presence_at = Instant(self._now.mono + PRESENCE_S)
        presence = Presence(
            self.state,
            self.own.address,
            self.own.encoder,
            self.log.confirmed,
            len(self.shelf),
            self.log.latest,
            self.log.digest,
            self.roster.digest,
        )
        self._tell([self._say(presence)[1]])

    def _unconfirmed_frames(self) -> list[bytes]:
        """Our latest purges that some node has not said it applied: a bus that comes back may
        never have had them, and keeps them for those who are away."""
        theirs = (
            dict(peer.presence.seen).get(self.own.name, 0)
            for peer in self.peers
            if self.roster.member(peer.name) is not None
        )
        known = min(theirs, default=0)
        own = (one for one in self.log.purges() if one.purged.by == self.own.name)
        missed = [one for one in own if one.purged.version > known]
        missed.sort(key=lambda one: one.purged.version)
        return [one.frame for one in missed[-MADE_MAX:]]

    def _tell_roster(self, end: End) -> None:
        lines = self.roster.lines()
        for start in range(0, len(lines), LINES_AT_ONCE):
            message = Enrolments(tuple(lines[start : start + LINES_AT_ONCE]))
            self._aside(end, [self._say(message)[1]])

    def _tell_tables(self, end: End, known: dict[NodeName, Version]) -> None:
        theirs = tuple(known.items())
        for table in tables(self.log.purges(), self.log.confirmed, theirs):
            self._aside(end, [self._say(table)[1]])

    def _tell(self, frames: Sequence[bytes], *but: NodeName) -> None:
        """Tell everybody who is linked, once, what waits for nothing."""
        if not frames:
            return
        told = dict.fromkeys(but)
        for end in self.ends:
            if end.peer not in told:
                told[end.peer] = None
                self._aside(end, frames)

    def _aside(self, end: End, frames: Sequence[bytes]) -> None:
        if end.role is not Role.BUS:
            self._send(end, Aside(tuple(frames)))
            return
        for frame in frames:
            header = peek(frame)
            if header.origin == self.own.name:
                kind = Kind(header.kind)
                self._publications.append(Publication(kind, Version(0), None, EVERYWHERE, frame))

    def _send(self, end: End, message: DialogueMessage) -> None:
        self._out.append((end, written(message)))

    def _flush(self) -> None:
        """Say what is due, and what has become possible to say."""
        if self.ends and self._now.mono >= self._presence_at:
            self._present()
        for name, reader in list(self._readers.items()):
            if reader.position < self.log.floor:  # it was cut while somebody read it slowly
                self._begin(End(name, Role.READER), reader.position, relay=reader.relay, fill=True)
            for batch in self._readers[name].turn(self.log):
                self._send(End(name, Role.READER), batch)
        for bus in self._buses.values():
            self._publications += bus.publications(self.log)

    # Keeping.

    def _cursor(self, source: NodeName) -> Cursor:
        return self._applied.get(source) or self._ripe.get(source) or self.log.cursor(source)

    def _advance(self, source: NodeName, cursor: Cursor) -> None:
        self._applied[source] = cursor
        if self._cursors_at is None:
            self._cursors_at = Instant(self._now.mono + CURSORS_S)

    def _keep_cursors(self) -> None:
        """Write down those reached a while ago: what they stand for is on disk by now."""
        if self._ripe:
            self.log.keep_cursors(self._ripe)
        self._ripe, self._applied = self._applied, {}
        self._cursors_at = Instant(self._now.mono + CURSORS_S) if self._ripe else None

    def _let_go(self) -> None:
        """Say no more to who was revoked."""
        for end in [end for end in self.ends if end.role is not Role.BUS]:
            if self.roster.member(end.peer) is None:
                self.unlinked(end, self._now)
                self.peers.drop(end.peer)

    def _upkeep(self) -> None:
        """Forget what is long past."""
        self._upkeep_at = Instant(self._now.mono + UPKEEP_S)
        wall = self._now.wall
        self.log.forget_log(at(Timestamp(wall - LOG_KEPT_S)))
        self.shelf.forget(wall)
        self.log.forget_purges(at(Timestamp(wall - PURGES_KEPT_S)), self.shelf.seen)
        self.peers.forget(self._now)
