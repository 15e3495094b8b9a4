"""Which answers others may be told, as they would take them; and the frames that tell them."""

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from index.clock import Now
from index.entry import Entry, NodeName
from sync import admission
from sync.messages import BODY_BYTES_MAX, Entries, Item, sayable
from sync.roster import Roster
from sync.seams import Logged, Shelf
from sync.voice import Voice, together

SNAPSHOT_ENTRIES: Final = 10_000
"""Told to who joins, or was away for longer than the log goes back: 19 MB of usual answers."""
ROWS_AT_ONCE: Final = 64
"""Of a snapshot looked at in one turn: none of them may be for who asks."""
ENTRY_BYTES_MAX: Final = 256 << 10
"""A larger answer is not pushed: others learn from the digest that it can be asked for."""


class Telling:
    def __init__(self, voice: Voice, roster: Roster, shelf: Shelf) -> None:
        self._voice = voice
        self._own = voice.own.name
        self._roster = roster
        self._shelf = shelf

    def published(self, items: Iterable[Item], now: Now) -> Iterator[tuple[int, Logged]]:
        """Frames for the log, each with how many answers it tells.

        Left out: what is dead or expired, of no reach, too large, or of who may not publish it.
        """
        for group in together(self._tellable(items, ENTRY_BYTES_MAX, now)):
            version, frame = self._voice.say(Entries(group), now)
            scope, reach = group[0][0].scope, group[0][0].reach
            yield len(group), Logged(version, self._own, scope, reach, frame)

    def snapshot(self, peer: NodeName, now: Callable[[], Now]) -> Iterator[tuple[bytes, ...]]:
        """The hottest answers that a peer may have, in frames of ours; and nothing, to pause.

        It is told over a long time: `now` is asked for what it is whenever it goes on.
        """
        for group in together(self._hottest(peer, now)):
            yield (self._voice.say(Entries(group), now())[1],) if group else ()

    def answer(self, peer: NodeName, entry: Entry, now: Now) -> bytes | None:
        """The frame that gives a peer what it asked for; None if it may not have it."""
        if not admission.may_keep(self._roster.member(peer), entry.scope, entry.reach):
            return None
        told = tuple(self._tellable([(entry, None)], BODY_BYTES_MAX, now))
        return self._voice.say(Entries(told), now)[1] if told else None

    def in_region(self, entry: Entry, now: Now) -> bytes | None:
        """The frame of an answer for any node of this region; None if they may not have it."""
        own = self._roster.member(self._own)
        if own is None or not own.may_publish or entry.stored_by != self._own:
            return None
        may = admission.may_keep(own, entry.scope, entry.reach)
        if not may or not self._fit(entry, BODY_BYTES_MAX, now):
            return None
        return self._voice.say(Entries(((entry, None),)), now)[1]

    def _hottest(self, peer: NodeName, now: Callable[[], Now]) -> Iterator[Item | None]:
        hottest = self._shelf.hottest(SNAPSHOT_ENTRIES, now().wall)
        for looked_at, (entry, hint) in enumerate(hottest, start=1):
            if admission.may_keep(self._roster.member(peer), entry.scope, entry.reach):
                yield from self._tellable([(entry, hint)], ENTRY_BYTES_MAX, now())
            if looked_at % ROWS_AT_ONCE == 0:
                yield None

    def _tellable(self, items: Iterable[Item], bytes_max: int, now: Now) -> Iterator[Item]:
        """What of these others would take, as they would take it."""
        own = self._roster.member(self._own)
        for entry, hint in items:
            told = admission.tellable(entry, own, self._roster) if own else None
            if told is not None and self._fit(told, bytes_max, now):
                self._voice.recall(told.version, now)  # the frame's has to be above it
                yield told, hint

    def _fit(self, entry: Entry, bytes_max: int, now: Now) -> bool:
        return (
            sayable(entry)
            and len(entry.body) <= bytes_max
            and entry.expires_at > now.wall
            and not self._shelf.dead(entry)
        )
