"""A node's part in its fleet: what it hears, keeps, passes on and says. No sockets, no clocks.

    linked · unlinked · receive · acked · tick    what happened, with `now`
    outbox · to_bus · wake_at                     what is to be sent, and when to call `tick`
    publish · purge · enrol · turn                what this node has to say
    telling · hearing                             answers from hand to hand, beside all links

Three ways to say something, by how it must arrive:

    answers ..... through the log: every reader gets all of it in order, at its own pace, and goes
                  on after any interruption where it was (`sync.readers`, `sync.bus`)
    purges,
    roster ...... at once to everybody, who pass on what is new to them; and again to whoever shows
                  in its presence that it lacks something: all nodes come to hold the same
    presence .... every two seconds, and at once when purges were applied: its `seen` confirms them

A purge is applied, then written down, then confirmed. Everything may be told any number of times,
in any order.

Not thread-safe.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Final, assert_never

from index.clock import Now, at
from index.entry import Entry, Instant, NodeName, Purge, Purged, Seen, Timestamp, Version
from sync import admission
from sync.admission import PURGES_KEPT_S
from sync.bus import Bus, Publication
from sync.cursors import Cursors
from sync.dialogue import Aside, Batch, DialogueMessage, Heard, Hello, Start, read
from sync.hearing import Hearing, News, Refused
from sync.keybook import KeyRecord
from sync.links import End, Links, Role
from sync.mending import Mending
from sync.messages import (
    GRANTS_MAX,
    Enrolments,
    Entries,
    Grant,
    Grants,
    Item,
    Message,
    MessageError,
    Presence,
    State,
    Table,
)
from sync.own_purges import OwnPurges
from sync.peers import PRESENCE_S, Peers
from sync.readers import Readers
from sync.roster import Enrolment, Roster
from sync.seams import Cursor, Log, Logged, Shelf
from sync.sources import Source
from sync.telling import Telling
from sync.voice import Own, Voice

CONFIRM_S: Final = 0.02
"""Purges that come in a flood are confirmed together."""
UPKEEP_S: Final = 3_600.0
LOG_KEPT_S: Final = 86_400.0
_NOTHING: Final = Version(0)


class PurgeRefused(Exception):  # noqa: N818  reads as what happened
    """This node's enrolment does not admit all the scopes that the purge would reach."""


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
        self.links = Links(own.name)
        self.cursors = Cursors(log)
        self._voice = Voice(own, roster.fleet, log)
        self.hearing = Hearing(self._voice, roster, log, shelf, accepted)
        self.telling = Telling(self._voice, roster, shelf)
        self._mending = Mending(own.name, self.peers, roster, log)
        self._purges = OwnPurges(self._voice, self.hearing, log, shelf, now)
        self._readers = Readers(own.name, roster, log, self.telling, self.links, now)
        self._sources: dict[NodeName, Source] = {}
        self._buses: dict[NodeName, Bus] = {}
        self._now = now
        self._presence_at = now.mono
        self._presence_last = Instant(now.mono - PRESENCE_S)
        self._upkeep_at = Instant(now.mono + UPKEEP_S)
        if not log.floor:
            log.begin(self.stamp(now))
        self.hearing.take_back(now)

    # What this node has to say.

    def stamp(self, now: Now, above: Version | None = None) -> Version:
        """A reading of this node's clock, above all before it and all it has heard of.

        For an entry: taken when the answer is complete, so that it is above all that it has seen;
        and `above` the version of the answer that it replaces, which the clock may not remember:
        what was heard from a node whose clock is ahead is forgotten when the process ends.
        """
        self._now = now
        if above is not None:
            self._voice.recall(above, now)
        return self._voice.stamp(now)

    def publish(self, items: Iterable[Item], now: Now) -> int:
        """Tell answers that are here to whoever may have them; how many were told.

        Not told: what is dead or expired, of no reach, too large, or of who may not publish it.
        """
        self._now = now
        if len(self.roster) < 2:
            return 0
        count = 0
        for answers, logged in self.telling.published(items, now):
            count += answers
            self.log.append(logged)
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
        purged, frame = self._purges.make(purge, now, soft=soft)
        self._tell_purges([frame])
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
        """Has a node said that it applied a purge of ours, of this run?"""
        peer = self.peers.get(name)
        return peer is not None and self._purges.confirmed(purged, peer.presence)

    def enrol(self, line: bytes, now: Now) -> Enrolment | KeyRecord | None:
        """Take a line of the roster and tell everybody; None if it is not news.

        When it revokes a node, purge `by:NODE` as well: what it told before stays otherwise.
        Raises MessageError.
        """
        self._now = now
        said = self.hearing.enrol(line)
        if said is not None:
            self._let_go()
            self._present_soon()
            self._tell(Enrolments((line,)))
            self._hear(self.hearing.no_strangers(), End(self.own.name, Role.SOURCE), logged=True)
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

    def grant(self, rows: Sequence[Grant], now: Now) -> None:
        """Tell everybody what was granted here of limits that all nodes share."""
        self._now = now
        for start in range(0, len(rows), GRANTS_MAX):
            self._tell(Grants(tuple(rows[start : start + GRANTS_MAX])))
        self._flush()

    def turn(self, state: State, now: Now) -> None:
        """Say that this node is up, or leaves."""
        self._now = now
        self.state = state
        self._present_soon()
        self._flush()

    # What happened.

    def linked(self, end: End, now: Now, *, fill: bool = True) -> None:
        """A link is up. `fill`: a source that was never read tells its hottest answers first."""
        self._now = now
        self.links.ends[end] = None
        self._mending.linked(end.peer)
        match end.role:
            case Role.READER:
                pass  # it speaks first
            case Role.SOURCE:
                self._greet(end, fill=fill)
            case Role.BUS:
                self._buses[end.peer] = Bus(self.own.name, self.cursors.of(end.peer).position)
                self.links.aside(end, self._unconfirmed_frames())
            case _:
                assert_never(end.role)
        self._present_soon()
        self._flush()

    def unlinked(self, end: End, now: Now) -> None:
        self._now = now
        self.links.ends.pop(end, None)
        match end.role:
            case Role.READER:
                self._readers.drop(end.peer)
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
            if end not in self.links.ends:
                raise Refused("not linked")
            if end.role is Role.BUS:
                self._hear([data], end)
            elif self.roster.member(end.peer) is None:
                raise Refused("of a stranger")
            else:
                self._read(read(data), end)
        except MessageError as exc:
            self.hearing.drop(exc)
        self._flush()

    def acked(self, end: End, position: Version, now: Now) -> None:
        """A bus holds safely all it was given up to `position`."""
        self._now = now
        if (bus := self._buses.get(end.peer)) is not None:
            bus.ack(position)
            self.cursors.advance(end.peer, Cursor(bus.acked), now)
        self._flush()

    def tick(self, now: Now) -> None:
        """Do what is due. To be called at `wake_at`, or whenever."""
        self._now = now
        self.log.catch_up()
        self.cursors.tick(now)
        if now.mono >= self._upkeep_at:
            self._upkeep()
        self._flush()

    def wake_at(self) -> Instant:
        due = [self._upkeep_at]
        if self.links.ends:
            due.append(self._presence_at)
        if self.cursors.due_at is not None:
            due.append(self.cursors.due_at)
        if self._readers.more or any(bus.more(self.log) for bus in self._buses.values()):
            due.append(self._now.mono)
        return min(due)

    def outbox(self) -> list[tuple[End, bytes]]:
        """What is to be sent, in this order over each link. Taken: it is not given again."""
        return self.links.outbox()

    def to_bus(self) -> list[Publication]:
        """What the bus is to be given. Taken: given again only when it is linked anew."""
        return self.links.to_bus()

    def close(self) -> None:
        """Write down how far others were heard. The shelf has written what it holds by now."""
        self.cursors.keep()
        self.log.close()

    # For whoever looks.

    @property
    def unheard(self) -> int:
        """Batches that readers have not said they applied."""
        return self._readers.unheard

    def current(self, source: NodeName) -> bool:
        """Do we hold all that a node's log holds for us, as far as we know?"""
        return source in self._sources and self._sources[source].current

    def check(self) -> None:
        """Audit; for tests and operators, O(n)."""
        self.log.check()
        self.cursors.check()
        assert set(self._readers) <= self.links.of(Role.READER)
        assert set(self._sources) == self.links.of(Role.SOURCE)
        assert set(self._buses) == self.links.of(Role.BUS)

    def __repr__(self) -> str:
        return f"<Replica {self.own.name} {self.state.name}: {self.links!r}; {self.log!r}>"

    # Links.

    def _greet(self, end: End, *, fill: bool) -> None:
        cursor = self.cursors.of(end.peer)
        self._sources[end.peer] = Source(cursor, _NOTHING)
        hello = Hello(
            cursor.position,
            cursor.run,
            self.log.confirmed,
            self.roster.digest,
            self.own.relayed,
            fill,
        )
        self.links.send(end, hello)

    def _read(self, message: DialogueMessage, end: End) -> None:
        if isinstance(message, Aside):
            self._hear(message.frames, end)
            return
        match message, end.role:
            case Hello(), Role.READER:
                self._start(message, end)
            case Heard(), Role.READER if end.peer in self._readers:
                self._readers.heard(end.peer, message.count)
            case Start(), Role.SOURCE:
                self._sources[end.peer] = Source.begun(message)
                self._note_current(end.peer)
            case Batch(), Role.SOURCE:
                self._batch(message, end)
            case _:
                raise Refused("not for this end of a link")

    def _start(self, hello: Hello, end: End) -> None:
        """Tell a reader what it lacks, then what the log holds beyond what it has heard."""
        self._voice.recall(hello.after, self._now)
        self._reclaim(hello.seen)
        self._readers.start(end.peer, hello)
        lacking = (*self._mending.lines(hello.roster), *self._mending.purges(hello.seen))
        self._say_to(end, lacking)

    def _batch(self, batch: Batch, end: End) -> None:
        source = self._sources[end.peer]
        source.check(batch, self._now)
        self._hear(batch.frames, end, logged=batch.position > 0)
        heard = source.applied(batch)
        if batch.position:
            self.cursors.advance(end.peer, source.cursor, self._now)
        self.links.send(end, heard)
        self._note_current(end.peer)

    def _note_current(self, name: NodeName) -> None:
        peer, source = self.peers.get(name), self._sources.get(name)
        if peer is not None and (source is None or source.cursor.position >= peer.presence.latest):
            peer.current_at = self._now.mono

    # What is heard.

    def _hear(self, frames: Iterable[bytes], end: End, *, logged: bool = False) -> None:
        for frame in frames:
            if (news := self.hearing.hear(frame, self._now)) is not None:
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
                self._tell_purges(self._purges.given(news.purges, self._now))
                self.links.tell(news.purges, end.peer, origin)
                self._present_soon()
            case Enrolments():
                self._let_go()
                self._present_soon()
                self.links.tell([frame], end.peer, origin)
                self._hear(self.hearing.no_strangers(), end, logged=True)
            case Presence():
                self._met(message, news, frame, end)
            case Grants():
                self._granted(origin, message)
                self._readers.relay(frame, end.peer, origin)
            case _:
                assert_never(message)

    def _met(self, presence: Presence, news: News, frame: bytes, end: End) -> None:
        origin = news.header.origin
        if origin == self.own.name or not self.peers.heard(
            origin, presence, news.header.version, self._now
        ):
            return
        self._note_current(origin)
        self._reclaim(presence.seen)
        self._readers.relay(frame, end.peer, origin)
        if end.peer == origin or end.role is Role.BUS:
            peer = self.peers.get(origin)
            assert peer is not None
            self._say_to(end, self._mending.due(peer, self._now, all_hear=end.role is Role.BUS))

    def _reclaim(self, seen: Seen) -> None:
        """Somebody says what it has applied; some of our purges it may have instead of others."""
        known = dict(seen).get(self.own.name, _NOTHING)
        self._tell_purges(self._purges.applied(known, self._now))

    # Saying it.

    def _tell(self, message: Message) -> None:
        """To everybody, what waits for nothing."""
        self.links.tell([self._voice.say(message, self._now)[1]])

    def _say_to(self, end: End, messages: Iterable[Message]) -> None:
        for message in messages:
            self.links.aside(end, [self._voice.say(message, self._now)[1]])

    def _tell_purges(self, frames: Iterable[bytes]) -> None:
        """Purges of ours, which we have applied."""
        for frame in frames:
            self.links.tell([frame])
            self._present_soon()

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
        self._tell(presence)

    def _unconfirmed_frames(self) -> list[bytes]:
        """Our latest purges that some node has not said it applied: a bus that comes back may
        never have had them, and keeps them for those who are away."""
        theirs = (
            dict(peer.presence.seen).get(self.own.name, 0)
            for peer in self.peers
            if self.roster.member(peer.name) is not None
        )
        return self._purges.beyond(Version(min(theirs, default=0)))

    def _flush(self) -> None:
        """Say what is due, and what has become possible to say."""
        if self.links.ends and self._now.mono >= self._presence_at:
            self._present()
        self._readers.turn(self._now)
        for bus in self._buses.values():
            for publication in bus.publications(self.log):
                self.links.publish(publication)

    # Keeping.

    def _let_go(self) -> None:
        """Say no more to who was revoked."""
        for end in [end for end in self.links.ends if end.role is not Role.BUS]:
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
