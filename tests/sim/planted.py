"""Mistakes that somebody might make, each a few lines, to see that the simulator finds it."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

import sync.admission
import sync.mending
from index.clock import Now
from index.entry import Entry, Hint, NodeName, Purged, Seen, Timestamp, Version
from index.generations import Generations
from sync.cursors import Cursors
from sync.frames import Header, payload_of
from sync.hearing import Hearing
from sync.mending import Mending
from sync.messages import Entries, Message, unpack
from sync.outbox import Outbox
from sync.own_purges import OwnPurges
from sync.replica import Replica
from sync.rows import name_of
from sync.seams import Cursor, Kept
from sync.tables import tables
from sync.telling import Telling
from tests.fakes.shelf import FakeShelf

Plant = Callable[[pytest.MonkeyPatch], None]
PLANTED: dict[str, Plant] = {}


def planted(plant: Plant) -> Plant:
    PLANTED[plant.__name__] = plant
    return plant


# Those of testing a store and a replica before there was this one.


@planted
def an_answer_is_kept_without_asking_whether_it_is_dead(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Generations, "dead", lambda self, entry: False)


@planted
def whatever_is_told_last_is_kept(patch: pytest.MonkeyPatch) -> None:
    accept = FakeShelf.accept

    def careless(self: FakeShelf, entry: Entry, now: Timestamp, hint: Hint | None = None) -> Any:
        held = self.entries.pop((entry.scope, entry.key), None)
        became = accept(self, entry, now, hint)
        if became.name != "STORED" and held is not None:
            self.entries[entry.scope, entry.key] = held
        return became

    patch.setattr(FakeShelf, "accept", careless)


@planted
def the_digest_leaves_out_purges(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("sync.outbox._hash", lambda name, version: 0)
    patch.setattr(sync.mending, "lacks", lambda theirs, ours: False)


@planted
def an_older_purge_takes_the_place_of_a_newer_one(patch: pytest.MonkeyPatch) -> None:
    keep = Outbox.keep_purges

    def careless(self: Outbox, kept: Sequence[Kept], seen: Seen) -> bool:
        for one in kept:
            known = self._purges.get(name_of(one.purged))
            if known is not None and known.purged.version > one.purged.version:
                self._hold(name_of(one.purged), one)
        return keep(self, kept, seen)

    patch.setattr(Outbox, "keep_purges", careless)


@planted
def the_log_does_not_give_back_the_bytes_of_what_it_drops(patch: pytest.MonkeyPatch) -> None:
    drop = Outbox._drop

    def forgetful(self: Outbox, until: Version) -> None:
        size = self._log_bytes
        drop(self, until)
        self._log_bytes = size

    patch.setattr(Outbox, "_drop", forgetful)


@planted
def presence_is_said_once(patch: pytest.MonkeyPatch) -> None:
    present = Replica._present

    def once(self: Replica) -> None:
        present(self)
        self._presence_at = self._upkeep_at

    patch.setattr(Replica, "_present", once)


@planted
def what_both_hold_is_told_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sync.mending, "lacks", lambda theirs, ours: True)
    patch.setattr(sync.mending, "tables", lambda kept, ours, theirs: tables(kept, ours, ()))


# Purges.


@planted
def a_purge_is_confirmed_before_it_is_applied(patch: pytest.MonkeyPatch) -> None:
    apply = Hearing.apply
    late: list[Any] = []

    def lazy(self: Hearing, purges: list[Kept], table: Any = None) -> list[bytes]:
        seen = dict(self._shelf.seen)
        for one in purges:
            seen[one.purged.by] = max(seen.get(one.purged.by, Version(0)), one.purged.version)
        self._log.keep_purges(purges, tuple(sorted(seen.items())))
        late.append((self, purges, table))
        if len(late) < 2:
            return [one.frame for one in purges]
        return apply(*late.pop(0)) or [one.frame for one in purges]

    patch.setattr(Hearing, "apply", lazy)


@planted
def a_purge_is_not_forced_to_disk(patch: pytest.MonkeyPatch) -> None:
    keep = Outbox.keep_purges

    def lazy(self: Outbox, kept: Sequence[Kept], seen: Seen) -> bool:
        write = self._write

        def later(*statements: Any, durable: bool) -> bool:
            return write(*statements)

        with pytest.MonkeyPatch.context() as briefly:
            briefly.setattr(self, "_write", later)
            return keep(self, kept, seen)

    patch.setattr(Outbox, "keep_purges", lazy)


@planted
def seen_is_advanced_over_a_gap(patch: pytest.MonkeyPatch) -> None:
    merge = Generations.merge

    def careless(self: Generations, purged: Purged) -> bool:
        return merge(self, replace(purged, previous=Version(0)))

    patch.setattr(Generations, "merge", careless)


@planted
def nobody_is_told_what_it_lacks(patch: pytest.MonkeyPatch) -> None:
    """Nor who joins: a snapshot without the purges."""
    patch.setattr(Mending, "purges", lambda self, theirs: [])


@planted
def a_node_with_an_old_disk_does_not_purge_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(OwnPurges, "applied", lambda self, known, now, given=(): [])


@planted
def what_was_taken_for_applied_is_not_applied(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Generations, "_said", lambda self, purged: True)


# Answers.


@planted
def a_cursor_is_written_down_before_its_answers(patch: pytest.MonkeyPatch) -> None:
    def hasty(self: Cursors, source: NodeName, cursor: Cursor, now: Now) -> None:
        self._log.keep_cursors({source: cursor})

    patch.setattr(Cursors, "advance", hasty)


@planted
def reach_is_not_checked_by_who_is_told(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sync.admission, "entries_refused", lambda told, origin, own: None)


@planted
def a_copy_lives_as_long_again(patch: pytest.MonkeyPatch) -> None:
    accept = FakeShelf.accept

    def generous(self: FakeShelf, entry: Entry, now: Timestamp, hint: Hint | None = None) -> Any:
        life_s = entry.expires_at - entry.stored_at
        return accept(self, replace(entry, expires_at=Timestamp(now + life_s)), now, hint)

    patch.setattr(FakeShelf, "accept", generous)


@planted
def a_relay_keeps_what_it_hears_to_itself(patch: pytest.MonkeyPatch) -> None:
    pass_on = Replica._pass_on

    def selfish(self: Replica, news: Any, frame: bytes, end: Any, *, logged: bool) -> None:
        if not isinstance(news.message, Entries):
            pass_on(self, news, frame, end, logged=logged)

    patch.setattr(Replica, "_pass_on", selfish)


@planted
def a_log_that_was_cut_goes_on_without_a_snapshot(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Telling, "snapshot", lambda self, peer, now: iter(()))


@planted
def a_reader_that_heard_more_than_is_remembered_is_believed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Outbox, "told_until", lambda self, run: Version(1 << 62))


# Who may say what.


@planted
def signatures_are_not_verified(patch: pytest.MonkeyPatch) -> None:
    def gullible(frame: bytes, header: Header, key: Any, fleet: bytes) -> Message:
        return unpack(header.kind, payload_of(frame, header), header.origin, header.version)

    patch.setattr("sync.hearing.opened", gullible)


@planted
def who_was_revoked_is_still_heard(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        sync.admission, "frame_refused", lambda header, origin: None if origin else "of a stranger"
    )
    patch.setattr("sync.roster.Roster.member", lambda self, name: self.get(name))


@planted
def what_an_answer_claims_to_have_seen_is_believed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sync.admission, "latest", lambda entry: 0)


@planted
def a_clock_that_is_far_ahead_is_followed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("index.clock.AHEAD_MAX_S", 1e9)
    patch.setattr("sync.sources.AHEAD_MAX_S", 1e9)
