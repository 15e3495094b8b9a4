"""What others say, proven, judged and applied: each frame once, in any order.

Here is decided what a node believes. A frame passes its signature first, then the roster, then the
rules on what it says; what passes is applied and, if it is a purge or a line of the roster, on disk
before anything else is heard. Everything else is dropped and counted by its reason.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, assert_never

from index.clock import AHEAD_MAX_S, ClockSkew, Now, at, wall_of
from index.entry import Entry, Instant, NodeName, Purged, Timestamp, Version
from sync import admission
from sync.admission import PURGES_KEPT_S
from sync.frames import Header, opened, peek
from sync.keybook import KeyRecord
from sync.messages import (
    Enrolments,
    Entries,
    Grants,
    Kind,
    Message,
    MessageError,
    Presence,
    Table,
)
from sync.peers import DEAD_S
from sync.roster import Enrolment, Roster
from sync.seams import Kept, Log, Shelf
from sync.tables import closed
from sync.voice import Voice

UNWRITTEN_S: Final = 2.0
UNWRITTEN_BYTES: Final = 8 << 20
"""Of what was told just before the last run ended, which the shelf may not have written."""
STRANGERS_BYTES_MAX: Final = 1 << 20
"""Of frames whose origin is not enrolled, as far as is known here."""


class Refused(MessageError):  # noqa: N818  reads as what happened
    """Well said, by one who may not, or of what may not be kept here."""


@dataclass(frozen=True, slots=True)
class News:
    """What a frame said that was not known."""

    header: Header
    message: Message
    entries: tuple[Entry, ...] = ()
    """Of those told, which were news and are now held."""
    purges: tuple[bytes, ...] = ()
    """Frames of purges that were applied just now."""


class Hearing:
    def __init__(
        self,
        voice: Voice,
        roster: Roster,
        log: Log,
        shelf: Shelf,
        accepted: Callable[[Entry], None],
    ) -> None:
        self.dropped: Counter[str] = Counter()
        """Messages, frames and answers that were not taken, by reason."""
        self.taken: Counter[str] = Counter()
        """Answers of others, by what became of them."""
        self.quarantined: dict[NodeName, str] = {}
        """Nodes whose answers are not taken, and why."""
        self._clocks: dict[NodeName, tuple[float, Instant]] = {}
        """How far ahead of ours each node's clock was when it last said how it is, taken or not."""
        self._voice = voice
        self._roster = roster
        self._log = log
        self._shelf = shelf
        self._accepted = accepted
        self._recent = voice.recent
        self._strangers: deque[bytes] = deque()
        self._strangers_bytes = 0
        self._restore()

    def hear(self, frame: bytes, now: Now) -> News | None:
        """What is new in a frame. Nothing is, if it was heard before or is not taken."""
        try:
            header = peek(frame)
            name = (header.origin, header.version)
            if name in self._recent:
                return None
            if header.origin not in self._roster:
                self._set_aside(frame)
            message = self._opened(frame, header, now)
            self._recent.add(*name)
            return self._taken(message, header, frame, now)
        except (MessageError, ClockSkew) as exc:
            self.drop(exc)
            return None

    def take(self, frame: bytes, now: Now) -> Entry | None:
        """What a peer answered, if it was news and is now held."""
        news = self.hear(frame, now)
        return news.entries[0] if news and news.entries else None

    def found(self, frame: bytes, now: Now) -> Entry | None:
        """The answer in a frame that lay somewhere for us, if it may be had and is now held; heard
        before or not, as what it told may have been forgotten since."""
        try:
            header = peek(frame)
            message = self._opened(frame, header, now)
            if not isinstance(message, Entries):
                raise Refused("no answer")
            if any(entry.version <= self._log.forgot for entry, _ in message.items):
                raise Refused("of before purges were forgotten")  # it may be one that was purged
            news = self._entries(message, header, now)
        except (MessageError, ClockSkew) as exc:
            self.drop(exc)
            return None
        return news.entries[0] if news is not None and news.entries else None

    def _set_aside(self, frame: bytes) -> None:
        """Its origin may be enrolled by what is on its way by another path."""
        self._strangers.append(frame)
        self._strangers_bytes += len(frame)
        while self._strangers_bytes > STRANGERS_BYTES_MAX:
            self._strangers_bytes -= len(self._strangers.popleft())

    def no_strangers(self) -> list[bytes]:
        """Frames that were not taken as nobody knew of their origins, and now somebody does."""
        known = [frame for frame in self._strangers if peek(frame).origin in self._roster]
        if known:
            others = [frame for frame in self._strangers if peek(frame).origin not in self._roster]
            self._strangers = deque(others)
            self._strangers_bytes = sum(map(len, others))
        return known

    def apply(self, purges: list[Kept], table: Table | None = None) -> list[bytes]:
        """Apply purges, then write them down; the frames of those that were not known."""
        news = [one.frame for one in purges if self._shelf.merge(one.purged)]
        if table is not None:
            self._shelf.restore((), closed(table, self._shelf.seen))
        self._close(one.purged for one in purges if self._no_more_of(one.purged.by))
        self._log.keep_purges(purges, self._shelf.seen)
        return news

    def _no_more_of(self, node: NodeName) -> bool:
        """Will it never tell what came before a purge of its that is here? Revoked nodes will not;
        nor will this one, when others give back to it what an old copy of its disk lacked."""
        return node == self._voice.own.name or self._roster.member(node) is None

    def _close(self, purges: Iterable[Purged]) -> None:
        """There is nothing to wait for before these."""
        self._shelf.restore((), tuple((one.by, one.version) for one in purges))

    def enrol(self, line: bytes) -> Enrolment | KeyRecord | None:
        """Take a line of the roster, if it is news. Raises MessageError."""
        said = self._roster.merge(line)
        if said is not None:
            self._log.keep_line(said.name, line)
        return said

    def skewed(self, now: Now) -> dict[NodeName, float]:
        """Clocks that are too far ahead of another for its node to be listened to, in seconds ahead
        of ours: of nodes that speak, and our own."""
        found = {
            name: ahead_s
            for name, (ahead_s, heard_at) in self._clocks.items()
            if abs(ahead_s) > AHEAD_MAX_S and now.mono - heard_at < DEAD_S
        }
        own_s = wall_of(self._voice.clock.latest) - now.wall
        return {**found, self._voice.own.name: own_s} if own_s > AHEAD_MAX_S else found

    def drop(self, why: Exception) -> None:
        self.dropped["a clock ahead" if isinstance(why, ClockSkew) else str(why)] += 1

    def _restore(self) -> None:
        """What was known when the last run ended."""
        for line in self._log.lines():
            self._roster.merge(line)
        kept = [one.purged for one in self._log.purges()]
        self._shelf.restore(kept, self._log.confirmed)
        readings = [*(one.version for one in kept), *(last for _, last in self._log.confirmed)]
        self._voice.clock.latest = max(self._voice.clock.latest, *readings, Version(0))

    def take_back(self, now: Now) -> None:
        """What was told just before the last run ended the shelf may not have written."""
        since = Version(max(0, self._log.latest - at(Timestamp(UNWRITTEN_S))))
        for logged in self._log.after(since, UNWRITTEN_BYTES):
            self.hear(logged.frame, now)

    def _opened(self, frame: bytes, header: Header, now: Now) -> Message:
        """What a frame says, proven to be said by its origin. Raises MessageError, ClockSkew."""
        if why := admission.frame_refused(header, self._roster.get(header.origin)):
            raise Refused(why)
        key = self._roster.key(header.origin)
        message = opened(frame, header, key, self._roster.fleet)
        if header.kind == Kind.PRESENCE:
            self._clocks[header.origin] = wall_of(header.version) - now.wall, now.mono
        self._voice.clock.observe(header.version, now.wall)
        return message

    def _taken(self, message: Message, header: Header, frame: bytes, now: Now) -> News | None:
        match message:
            case Entries():
                return self._entries(message, header, now)
            case Purged():
                kept = self._purge(message, frame, now)
                news = self.apply([kept])
                return News(header, message, purges=tuple(news)) if news else None
            case Table():
                return News(header, message, purges=tuple(self._table(message, now)))
            case Enrolments():
                news_of = [line for line in message.lines if self.enrol(line)]
                return News(header, message) if news_of else None
            case Presence() | Grants():
                return News(header, message)
            case _:
                assert_never(message)

    def _entries(self, told: Entries, header: Header, now: Now) -> News | None:
        """Keep what may be kept; None if nothing of it is any good, here or elsewhere."""
        origin = self._roster.member(header.origin)
        if origin is None or header.origin in self.quarantined:
            raise Refused("of a node in quarantine")
        own = self._roster.member(self._voice.own.name)
        if why := admission.entries_refused(told, origin, own):
            raise Refused(why)
        news = []
        became: Counter[str] = Counter()
        for entry, hint in told.items:
            if why := admission.entry_refused(entry, header, self._roster, now.wall):
                self.dropped[why] += 1
            elif entry.stored_by in self.quarantined:
                self.dropped["of a node in quarantine"] += 1
            else:
                kept = admission.vouched(entry, header.origin)
                verdict = self._shelf.accept(kept, now.wall, hint).name
                became[verdict] += 1
                if verdict == "STORED":
                    news.append(kept)
                    self._accepted(kept)
        self.taken += became
        good = became["STORED"] or became["OLDER"]
        return News(header, told, entries=tuple(news)) if good else None

    def _purge(self, purged: Purged, frame: bytes, now: Now) -> Kept:
        """A purge that may be applied. Raises Refused."""
        by = self._roster.get(purged.by)
        if by is None or (why := admission.purge_refused(purged.purge, by)):
            raise Refused(why if by else "of a stranger")
        if wall_of(purged.version) < now.wall - PURGES_KEPT_S:
            raise Refused("of a purge long forgotten")
        return Kept(purged, frame)

    def _table(self, table: Table, now: Now) -> list[bytes]:
        """Apply a table; only one that is good throughout closes gaps."""
        kept: list[Kept] = []
        # A reading that no clock can have given yet would have us take for known what that node
        # purges until then; and the node could not tell it from one of its own that it forgot.
        whole = all(version <= at(Timestamp(now.wall + AHEAD_MAX_S)) for _, version in table.seen)
        if not whole:
            self.dropped["a clock ahead"] += 1
        for frame in table.purges:
            try:
                header = peek(frame)
                purged = self._opened(frame, header, now)
                if not isinstance(purged, Purged):
                    raise Refused("no purge in a table of purges")
                kept.append(self._purge(purged, frame, now))
                self._recent.add(header.origin, header.version)
            except (MessageError, ClockSkew) as exc:
                whole = False
                self.drop(exc)
        return self.apply(kept, table if whole else None)
