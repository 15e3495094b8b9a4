"""Two and three nodes, one behaviour at a time; all of them at once are in tests/sim."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from index.acceptance import fit
from index.clock import Now, at
from index.entry import (
    EVERYWHERE,
    LABELS_MAX,
    Entry,
    Hint,
    Instant,
    Purge,
    Reach,
    Scope,
    Timestamp,
    Version,
)
from sync.dialogue import Aside, read, written
from sync.frames import peek
from sync.links import End, Role
from sync.messages import Entries, Presence, State, Table, sayable
from sync.outbox import Outbox, OutboxSettings
from sync.replica import PurgeRefused, Replica
from sync.roster import Enrolment, enrol
from sync.seams import Logged
from sync.voice import Own
from tests.fakes import entries as fakes
from tests.fakes.fleet import OPERATOR, enrolment, key, node, roster
from tests.fakes.shelf import FakeShelf

WALL = fakes.NOW


class Fleet:
    """Nodes whose messages arrive at once, in order, when `settle` is called."""

    def __init__(self, directory: Path, *enrolments: Enrolment) -> None:
        self.directory = directory
        self.enrolments = enrolments or (enrolment("a"), enrolment("b"))
        self.seconds = 0.0
        self.nodes: dict[str, Replica] = {}
        self.shelves: dict[str, FakeShelf] = {}
        self.links: list[tuple[str, str]] = []
        self.sent: list[tuple[str, str, bytes]] = []
        """From, to, what: all that was ever sent."""
        self.news: list[Entry] = []

    @property
    def now(self) -> Now:
        return Now(Timestamp(WALL + self.seconds), Instant(100 + self.seconds))

    def start(
        self,
        name: str,
        settings: OutboxSettings | None = None,
        enrolled: Sequence[Enrolment] = (),
        **own: Any,
    ) -> Replica:
        """A node, on what is left on its disk."""
        directory = self.directory / name
        directory.mkdir(exist_ok=True)
        one = next(one for one in self.enrolments if one.name == node(name))
        run = f"{name}{self.seconds:.0f}".encode()[-8:].ljust(8, b".")
        self.shelves[name] = shelf = FakeShelf()
        self.nodes[name] = made = Replica(
            Own(node(name), key(name), one.region, f"{name}:1", **own),
            roster(*(enrolled or self.enrolments)),
            Outbox(directory, roster(one).fleet, run, settings),
            shelf,
            self.now,
            self.news.append,
        )
        return made

    def link(self, reader: str, source: str, *, fill: bool = True) -> None:
        self.links.append((reader, source))
        self.nodes[source].linked(End(node(reader), Role.READER), self.now)
        self.nodes[reader].linked(End(node(source), Role.SOURCE), self.now, fill=fill)

    def both(self, one: str, other: str) -> None:
        self.link(one, other)
        self.link(other, one)

    def cut(self, one: str, other: str) -> None:
        """All links between two, with what is on its way."""
        for reader, source in [pair for pair in self.links if {*pair} == {one, other}]:
            self.links.remove((reader, source))
            self.nodes[source].unlinked(End(node(reader), Role.READER), self.now)
            self.nodes[reader].unlinked(End(node(source), Role.SOURCE), self.now)

    def settle(self) -> None:
        for _ in range(1_000):
            at_once = [one for one in self.nodes.values() if one.wake_at() <= self.now.mono]
            for one in at_once:
                one.tick(self.now)
            if not self.step() and not at_once:
                return
        raise AssertionError("they never stop talking")

    def step(self) -> bool:
        said = [(name, *out) for name, one in self.nodes.items() for out in one.outbox()]
        for name, end, data in said:
            to = end.peer.split(".")[0]
            self.sent.append((name, to, data))
            role = Role.SOURCE if end.role is Role.READER else Role.READER
            pair = (name, to) if role is Role.READER else (to, name)
            if pair in self.links:
                self.nodes[to].receive(End(node(name), role), data, self.now)
        return bool(said)

    def wait(self, seconds: float) -> None:
        """Let time pass, waking whoever is due."""
        until = self.seconds + seconds
        while True:
            due = min(one.wake_at() for one in self.nodes.values()) - 100
            self.seconds = min(max(due, self.seconds), until)
            for one in self.nodes.values():
                if one.wake_at() <= self.now.mono:
                    one.tick(self.now)
            self.settle()
            if self.seconds >= until:
                return

    def fetch(self, name: str, what: str | int, **fields: Any) -> Entry:
        """A node asks its upstream and keeps the answer."""
        made = replace(
            fakes.entry(what, stored_at=self.now.wall),
            stored_by=node(name),
            seen=self.shelves[name].begin(),
            version=self.nodes[name].stamp(self.now),
            reach=EVERYWHERE,
        )
        made = replace(made, **fields)
        assert self.shelves[name].put(made)
        return made

    def publish(self, name: str, *entries: Entry) -> int:
        return self.nodes[name].publish([(one, None) for one in entries], self.now)

    def holds(self, name: str, entry: Entry) -> bool:
        held = self.shelves[name].recall(entry.scope, entry.key, self.now.wall)
        return held is not None and (held.version, held.stored_by) == (
            entry.version,
            entry.stored_by,
        )

    def close(self) -> None:
        for one in self.nodes.values():
            one.check()
            one.close()


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Callable[..., Fleet]]:
    made: list[Fleet] = []

    def build(*enrolments: Enrolment) -> Fleet:
        made.append(Fleet(tmp_path, *enrolments))
        return made[-1]

    yield build
    for one in made:
        one.close()


Build = Callable[..., Fleet]


@pytest.fixture
def two(fleet: Build) -> Fleet:
    made = fleet()
    made.start("a")
    made.start("b")
    made.both("a", "b")
    made.settle()
    return made


# Answers.


def test_what_is_published_is_held_by_all(two: Fleet) -> None:
    entries = [two.fetch("a", number) for number in range(200)]
    assert two.publish("a", *entries) == 200
    two.settle()
    assert all(two.holds("b", one) for one in entries)
    assert two.nodes["b"].hearing.taken == {"STORED": 200}


def test_a_hint_arrives_with_its_answer(two: Fleet) -> None:
    entry = two.fetch("a", 1)
    hint = Hint("encoder", bytes(384))
    two.nodes["a"].publish([(entry, hint)], two.now)
    two.settle()
    assert two.news == [entry]
    assert two.shelves["b"].hints == {(entry.scope, entry.key): hint}


def test_a_broken_link_goes_on_where_it_was(two: Fleet) -> None:
    first, lost = two.fetch("a", 1), two.fetch("a", 2)
    two.publish("a", first)
    two.settle()
    two.publish("a", lost)
    two.cut("a", "b")
    two.settle()
    assert not two.holds("b", lost)
    two.link("b", "a")
    two.settle()
    assert two.holds("b", lost)
    assert two.nodes["b"].hearing.dropped == {}, "nothing was told twice"


def test_after_a_kill_it_goes_on_from_what_was_kept(two: Fleet) -> None:
    entries = [two.fetch("a", number) for number in range(20)]
    for one in entries:
        two.publish("a", one)
        two.settle()
        two.wait(0.2)
    two.cut("a", "b")
    two.nodes.pop("b").log.close()
    two.start("b")
    two.both("a", "b")
    two.settle()
    told_again = two.nodes["b"].hearing.taken["STORED"]
    assert 5 <= told_again <= 15, "a second or two of it, not all"
    assert all(two.holds("b", one) for one in entries[-5:])


def test_a_window_holds_back_what_is_not_heard(two: Fleet) -> None:
    large = [two.fetch("a", number, body=bytes(100_000)) for number in range(100)]
    two.publish("a", *large)
    said = two.nodes["a"].outbox()
    assert 1 << 20 <= sum(len(data) for _, data in said) < 2 << 20
    two.cut("a", "b")
    two.both("a", "b")
    two.settle()
    assert all(two.holds("b", one) for one in large)


def test_a_purge_does_not_wait_for_answers(two: Fleet) -> None:
    large = [two.fetch("a", number, body=bytes(100_000)) for number in range(100)]
    two.publish("a", *large)
    two.nodes["a"].purge(Purge(label="model:m"), two.now)
    two.settle()
    assert not any(two.holds("b", one) for one in large)
    assert two.nodes["b"].hearing.taken.get("STORED", 0) < 20, "the rest was dead when it arrived"


def test_of_two_answers_the_later_is_held_by_both(two: Fleet) -> None:
    of_a = two.fetch("a", 1)
    two.seconds += 1
    of_b = two.fetch("b", 1)
    two.publish("b", of_b)
    two.settle()
    two.publish("a", of_a)
    two.settle()
    assert two.holds("a", of_b)
    assert two.holds("b", of_b)


def test_no_copy_lives_longer_than_its_answer(two: Fleet) -> None:
    entry = two.fetch("a", 1, expires_at=Timestamp(WALL + 60))
    two.publish("a", entry)
    two.settle()
    held = two.shelves["b"].entries[entry.scope, entry.key]
    assert (held.stored_at, held.expires_at) == (entry.stored_at, entry.expires_at)
    two.wait(61)
    assert not two.holds("b", entry)
    assert two.publish("a", entry) == 0


# Joining, and being away for long.


def test_a_new_node_is_told_the_purges_and_the_hottest_answers(two: Fleet) -> None:
    old = [two.fetch("a", number) for number in range(150)]
    two.nodes["a"].purge(Purge(key=old[0].key), two.now)
    two.publish("a", *old[1:])
    two.settle()
    two.enrolments += (enrolment("c"),)
    for name in "ab":
        two.nodes[name].enrol(enrol(enrolment("c"), OPERATOR), two.now)
    two.settle()
    two.start("c")
    two.both("c", "b")
    two.settle()
    assert two.nodes["c"].current(node("b"))
    assert all(two.holds("c", one) for one in old[1:])
    assert two.shelves["c"].seen == two.shelves["a"].seen != ()
    assert not two.holds("c", old[0])
    held = two.shelves["c"].entries[old[1].scope, old[1].key]
    assert held.has(f"by:{node('a')}")
    assert held.has(f"by:{node('b')}"), "who vouched for it may be purged too"
    later = two.fetch("b", "later")
    two.publish("b", later)
    two.settle()
    assert two.holds("c", later)


def test_who_was_away_longer_than_the_log_goes_back_gets_a_snapshot(fleet: Build) -> None:
    one = fleet()
    one.start("a", OutboxSettings(log_max_bytes=200_000))
    one.start("b")
    one.both("a", "b")
    one.settle()
    first = one.fetch("a", "first")
    one.publish("a", first)
    one.settle()
    one.cut("a", "b")
    missed = [one.fetch("a", number, body=bytes(10_000)) for number in range(60)]
    for entry in missed:
        one.publish("a", entry)
    purged = one.nodes["a"].purge(Purge(key=first.key), one.now)
    one.both("a", "b")
    one.settle()
    assert one.nodes["b"].current(node("a"))
    assert all(one.holds("b", entry) for entry in missed)
    assert not one.holds("b", first)
    one.wait(0.1)
    assert one.nodes["a"].unconfirmed(purged, one.now) == []


def test_a_slow_reader_whose_log_is_cut_gets_a_snapshot(fleet: Build) -> None:
    one = fleet()
    one.start("a", OutboxSettings(log_max_bytes=3_000_000))
    one.start("b")
    one.both("a", "b")
    one.settle()
    entries = [one.fetch("a", number, body=bytes(100_000)) for number in range(80)]
    for entry in entries:
        one.publish("a", entry)
    one.settle()
    assert all(one.holds("b", entry) for entry in entries)


def test_without_fill_only_what_comes_after_is_told(fleet: Build) -> None:
    one = fleet()
    one.start("a")
    one.start("b")
    before = one.fetch("a", "before")
    one.link("b", "a", fill=False)
    one.settle()
    assert not one.holds("b", before)
    assert one.nodes["b"].current(node("a"))
    after = one.fetch("a", "after")
    one.publish("a", after)
    one.settle()
    assert one.holds("b", after)


def test_one_turn_looks_at_little_of_a_shelf_that_is_not_for_the_reader(fleet: Build) -> None:
    one = fleet(enrolment("a"), enrolment("b", "us"))
    one.start("a")
    one.start("b")
    theirs = one.fetch("a", "theirs")
    for number in range(640):
        one.fetch("a", number, reach=("eu",))
    shelf, looked_at = one.shelves["a"], [0]
    hottest = shelf.hottest

    def counted(count_max: int, now: Timestamp) -> Iterator[tuple[Entry, Hint | None]]:
        for offer in hottest(count_max, now):
            looked_at[-1] += 1
            yield offer

    shelf.hottest = counted  # type: ignore[method-assign]
    one.link("b", "a")
    for _ in range(20):
        one.step()
        looked_at.append(0)
        one.nodes["a"].tick(one.now)
    one.settle()
    assert sum(looked_at) == 641
    assert max(looked_at) <= 2 * 64, "a tick, and what was received"
    assert one.holds("b", theirs)
    assert one.nodes["b"].current(node("a"))
    assert one.nodes["a"].wake_at() > one.now.mono, "it rests when all was looked at"


def test_one_turn_reads_little_of_a_log_that_is_not_for_the_reader(fleet: Build) -> None:
    one = fleet(enrolment("a"), enrolment("b", "us"))
    one.start("a")
    one.start("b")
    for number in range(200):
        one.publish("a", one.fetch("a", number, reach=("eu",), body=bytes(100_000)))
    one.publish("a", theirs := one.fetch("a", "theirs"))
    log, read_bytes = one.nodes["a"].log, [0]
    after = log.after

    def counted(position: Version, bytes_max: int) -> list[Logged]:
        rows = after(position, bytes_max)
        read_bytes[-1] += sum(len(row.frame) for row in rows)
        return rows

    log.after = counted  # type: ignore[method-assign]
    one.link("b", "a", fill=False)
    one.nodes["a"]._readers.begin(node("b"), log.floor, relay=False, fill=False)
    for _ in range(250):
        read_bytes.append(0)
        one.nodes["a"].tick(one.now)
    one.settle()
    assert sum(read_bytes) > 20_000_000
    assert max(read_bytes) <= 16 * (128 << 10)
    assert one.holds("b", theirs)
    assert one.nodes["a"].wake_at() > one.now.mono


def test_an_answer_with_all_its_labels_has_room_for_who_tells_it(two: Fleet) -> None:
    labels = tuple(sorted(f"label {number}" for number in range(LABELS_MAX)))
    entry = two.fetch("a", 1, labels=labels)
    frame = two.nodes["a"]._voice.say(entries_of(replace(entry, stored_by=node("b"))), two.now)[1]
    vouched = two.nodes["b"].hearing.take(frame, two.now)
    assert vouched is not None
    assert set(vouched.labels) == {*labels, f"by:{node('a')}"}
    assert fit(vouched, two.now.wall)
    assert sayable(vouched)


# Purges.


def test_a_purge_is_confirmed_in_one_round_trip(two: Fleet) -> None:
    entry = two.fetch("a", 1)
    two.publish("a", entry)
    two.settle()
    two.seconds += 1
    purged = two.nodes["b"].purge(Purge(key=entry.key), two.now)
    assert not two.holds("b", entry)
    assert two.nodes["b"].unconfirmed(purged, two.now) == [node("a")]
    two.step()
    assert not two.holds("a", entry)
    two.step()
    assert two.nodes["b"].unconfirmed(purged, two.now) == []


def test_an_answer_that_was_on_its_way_is_dead_on_arrival(two: Fleet) -> None:
    seen = two.shelves["a"].seen
    purged = two.nodes["b"].purge(Purge(), two.now)
    two.settle()
    late = two.fetch("a", 2)
    assert two.publish("a", replace(late, seen=seen)) == 0
    stale = replace(late, seen=seen, version=two.nodes["a"].stamp(two.now))
    assert two.shelves["b"].accept(stale, two.now.wall).name == "DEAD"
    two.publish("a", late)
    two.settle()
    assert two.holds("b", late), "its node had applied the purge"
    two.wait(0.1)
    assert two.nodes["b"].unconfirmed(purged, two.now) == []


def test_purges_made_apart_are_known_to_both_when_they_meet(two: Fleet) -> None:
    two.cut("a", "b")
    entries = [two.fetch(name, name) for name in "ab"]
    for name in "ab":
        for number in range(30):
            two.nodes[name].purge(Purge(key=fakes.key(number % 7)), two.now)
    two.both("a", "b")
    two.settle()
    a, b = two.nodes["a"], two.nodes["b"]
    assert a.log.digest == b.log.digest
    assert a.log.confirmed == b.log.confirmed == two.shelves["a"].seen
    assert len(list(a.log.purges())) == 14
    assert all(two.holds(name, one) for name, one in zip("ab", entries, strict=True))


def test_a_purge_survives_the_node_that_made_it(fleet: Build) -> None:
    three = fleet(enrolment("a"), enrolment("b"), enrolment("c"))
    for name in "abc":
        three.start(name)
    three.both("a", "b")
    three.both("b", "c")
    three.settle()
    purged = three.nodes["a"].purge(Purge(label="news"), three.now)
    three.settle()
    assert dict(three.shelves["c"].seen)[node("a")] == purged.version, "passed on, without a link"


def test_who_is_dead_is_not_waited_for(two: Fleet) -> None:
    two.cut("a", "b")
    purged = two.nodes["a"].purge(Purge(), two.now)
    assert two.nodes["a"].unconfirmed(purged, two.now) == [node("b")]
    two.wait(30)
    assert two.nodes["a"].unconfirmed(purged, two.now) == []


def test_a_soft_purge_marks_stale_on_all(two: Fleet) -> None:
    entry = two.fetch("a", 1)
    two.publish("a", entry)
    two.settle()
    two.seconds += 1
    two.nodes["b"].purge(Purge(key=entry.key), two.now, soft=True)
    two.settle()
    for name in "ab":
        assert not two.holds(name, entry)
        assert not two.shelves[name].dead(entry)


# Roles, reach, residency.

REACHES: list[tuple[Reach, bool]] = [
    (EVERYWHERE, True),
    (("us",), True),
    (("eu", "us"), True),
    (("eu",), False),
    ((), False),
]


@pytest.mark.parametrize(("reach", "arrives"), REACHES)
def test_an_answer_goes_as_far_as_its_reach(fleet: Build, reach: Reach, *, arrives: bool) -> None:
    one = fleet(enrolment("a", "eu"), enrolment("b", "us"))
    one.start("a")
    one.start("b")
    one.both("a", "b")
    one.settle()
    entry = one.fetch("a", 1, reach=reach)
    one.publish("a", entry)
    one.settle()
    assert one.holds("b", entry) == arrives
    assert one.nodes["b"].hearing.dropped == {}, "what must not arrive is not sent"
    assert one.nodes["b"].current(node("a"))
    assert (one.nodes["a"].telling.answer(node("b"), entry, one.now) is not None) == arrives


def test_an_answer_of_another_region_is_refused_by_who_is_told_it_all_the_same(
    fleet: Build,
) -> None:
    one = fleet(enrolment("a", "eu"), enrolment("b", "us"))
    one.start("a")
    one.start("b")
    one.both("a", "b")
    entry = one.fetch("a", 1, reach=("eu",))
    _, frame = one.nodes["a"]._voice.say(entries_of(entry), one.now)
    one.nodes["b"].receive(End(node("a"), Role.SOURCE), written(Aside((frame,))), one.now)
    assert not one.holds("b", entry)
    assert one.nodes["b"].hearing.dropped == {"not to be kept in this region": 1}


def test_scopes_are_kept_to_who_may_have_them(fleet: Build) -> None:
    one = fleet(enrolment("a"), enrolment("b", scopes=["tenant:b"]))
    one.start("a")
    one.start("b")
    one.both("a", "b")
    one.settle()
    mine = one.fetch("a", 1, scope=Scope("tenant:b"))
    others = one.fetch("a", 1, scope=Scope("tenant:a"))
    one.publish("a", mine, others)
    one.settle()
    assert one.holds("b", mine)
    assert not one.holds("b", others)
    assert one.nodes["b"].hearing.dropped == {}
    with pytest.raises(PurgeRefused):
        one.nodes["b"].purge(Purge(), one.now)
    one.nodes["b"].purge(Purge(scope=Scope("tenant:b")), one.now)
    one.settle()
    assert not one.holds("a", mine)
    assert one.holds("a", others)


def test_who_may_not_publish_is_not_heard(fleet: Build) -> None:
    one = fleet(enrolment("a", may_publish=False), enrolment("b"))
    one.start("a")
    one.start("b")
    one.both("a", "b")
    one.settle()
    entry = one.fetch("a", 1)
    assert one.publish("a", entry) == 0
    _, frame = one.nodes["a"]._voice.say(entries_of(entry), one.now)
    one.nodes["b"].receive(End(node("a"), Role.SOURCE), written(Aside((frame,))), one.now)
    assert one.nodes["b"].hearing.dropped == {"may not publish": 1}
    one.nodes["a"].purge(Purge(), one.now)
    one.settle()
    assert dict(one.shelves["b"].seen), "it may purge"


def test_a_revoked_node_is_not_heard_and_not_told(fleet: Build) -> None:
    three = fleet(enrolment("a"), enrolment("b"), enrolment("c"))
    for name in "abc":
        three.start(name)
    for pair in ("ab", "bc", "ac"):
        three.both(*pair)
    three.settle()
    bad = three.fetch("c", "bad")
    three.publish("c", bad)
    before = three.nodes["c"].purge(Purge(label="before"), three.now)
    three.settle()
    three.seconds += 1
    line = enrol(
        replace(enrolment("c", version=three.nodes["a"].stamp(three.now)), revoked=True), OPERATOR
    )
    three.nodes["a"].enrol(line, three.now)
    three.nodes["a"].purge(Purge(label=f"by:{node('c')}"), three.now)
    three.settle()
    assert not three.holds("a", bad)
    assert not three.holds("b", bad)
    three.seconds += 1
    worse = three.fetch("c", "worse")
    three.publish("c", worse)
    three.nodes["c"].purge(Purge(), three.now)
    sent = len(three.sent)
    three.publish("a", kept := three.fetch("a", "kept"))
    three.settle()
    assert three.holds("b", kept)
    assert not three.holds("b", worse)
    assert not three.holds("c", kept)
    assert not [one for one in three.sent[sent:] if one[:2] == ("a", "c")]
    assert dict(three.shelves["b"].seen)[node("c")] == before.version, "what it purged before holds"


def test_nobody_has_a_node_repeat_its_purges_again_and_again(fleet: Build) -> None:
    """C says that it applied what was never purged, up to the last that A said at all."""
    two = fleet(enrolment("a"), enrolment("c", may_publish=False))
    two.start("a")
    two.start("c")
    two.both("a", "c")
    two.settle()
    a, c = two.nodes["a"], two.nodes["c"]
    two.cut("a", "c")
    for number in range(50):
        a.purge(Purge(key=fakes.key(number)), two.now)
    made = max(one.purged.version for one in a.log.purges())
    a.linked(End(node("c"), Role.READER), two.now)
    repeats = 0
    for _ in range(100):
        two.seconds += 1
        lie = Presence(State.UP, "", "", ((node("a"), a.stamp(two.now)),), 0, Version(0), 0, 0)
        frame = c._voice.say(lie, two.now)[1]
        a.receive(End(node("c"), Role.READER), written(Aside((frame,))), two.now)
        latest = max(one.purged.version for one in a.log.purges())
        repeats += latest > made
        made = latest
    a.unlinked(End(node("c"), Role.READER), two.now)
    assert 1 <= repeats <= 5, "once, then after 10 s, 20 s, 40 s"


def test_what_a_node_in_quarantine_tells_is_dropped(two: Fleet) -> None:
    two.nodes["b"].hearing.quarantined[node("a")] = "its vectors are not of its texts"
    entry = two.fetch("a", 1)
    two.publish("a", entry)
    two.settle()
    assert not two.holds("b", entry)
    assert two.nodes["b"].hearing.dropped == {"of a node in quarantine": 1}
    assert two.nodes["b"].current(node("a"))


@pytest.mark.parametrize(
    ("lie", "why"),
    [
        ({"version": Version(1 << 62)}, "of an impossible version"),
        ({"seen": ((node("b"), Version(1 << 62)),)}, "of an impossible version"),
        ({"expires_at": Timestamp(WALL + 31 * 86_400)}, "of an impossible age"),
        (
            {"stored_at": Timestamp(WALL + 61), "expires_at": Timestamp(WALL + 90)},
            "of an impossible age",
        ),
        ({"stored_by": node("stranger")}, "fetched by one who may not publish it"),
    ],
    ids=["version", "seen", "ttl", "future", "by"],
)
def test_a_lie_is_dropped(two: Fleet, lie: dict[str, Any], why: str) -> None:
    entry = replace(two.fetch("a", 1), **lie)
    _, frame = two.nodes["a"]._voice.say(entries_of(entry), two.now)
    two.nodes["b"].receive(End(node("a"), Role.SOURCE), written(Aside((frame,))), two.now)
    assert two.nodes["b"].hearing.dropped == {why: 1}


def test_a_clock_that_is_far_ahead_is_not_followed(two: Fleet) -> None:
    before = two.nodes["b"].stamp(two.now)
    two.seconds += 100
    purged = two.nodes["a"].purge(Purge(), two.now)
    said = two.nodes["a"].outbox()
    two.seconds -= 100
    for _, data in said:
        two.nodes["b"].receive(End(node("a"), Role.SOURCE), data, two.now)
    assert two.nodes["b"].hearing.dropped["a clock ahead"]
    assert two.shelves["b"].seen == ()
    assert two.nodes["b"].stamp(two.now) < before + (2_000 << 16) < purged.version


def test_whose_clock_is_wrong_is_known_on_both_sides(two: Fleet) -> None:
    a, b = two.nodes["a"], two.nodes["b"]
    two.settle()
    assert a.hearing.skewed(two.now) == b.hearing.skewed(two.now) == {}
    two.seconds += 100  # on a
    a.tick(two.now)
    for _, data in a.outbox():
        two.seconds -= 100  # on b
        b.receive(End(a.own.name, Role.SOURCE), data, two.now)
        two.seconds += 100
    two.seconds -= 97
    b.tick(two.now)
    assert b.hearing.skewed(two.now) == {a.own.name: pytest.approx(100)}
    assert a.hearing.skewed(two.now) == {a.own.name: pytest.approx(97)}, "it remembers what it said"
    for _, data in b.outbox():
        two.seconds += 100
        a.receive(End(b.own.name, Role.SOURCE), data, two.now)
        assert a.hearing.skewed(two.now) == {b.own.name: pytest.approx(-100)}
        two.seconds -= 100
    two.seconds += 200
    assert a.hearing.skewed(two.now) == b.hearing.skewed(two.now) == {}, (
        "of who is not heard nothing is known"
    )


def test_nobody_has_purges_of_others_taken_for_known_before_they_are_made(fleet: Build) -> None:
    three = fleet(enrolment("a"), enrolment("b"), enrolment("c", may_publish=False))
    for name in ("a", "b", "c"):
        three.start(name)
    three.both("a", "b")
    three.both("b", "c")
    three.settle()
    tomorrow = at(Timestamp(WALL + 86_400))
    lie = Table(((node("a"), Version(0)),), ((node("a"), tomorrow),), ())
    _, frame = three.nodes["c"]._voice.say(lie, three.now)
    three.nodes["b"].receive(End(node("c"), Role.SOURCE), written(Aside((frame,))), three.now)
    entry = three.fetch("b", 1)
    purged = three.nodes["a"].purge(Purge(), three.now)
    three.wait(3)
    assert not three.holds("b", entry)
    assert three.nodes["a"].unconfirmed(purged, three.now) == []
    assert three.nodes["b"].hearing.dropped["a clock ahead"] == 1


# Relays.


def test_a_relay_passes_on_answers_and_presence_to_who_asks(fleet: Build) -> None:
    names = [enrolment(name) for name in "abcd"]
    four = fleet(*names)
    for name in "ac":
        four.start(name)
    four.start("b", relay=True)
    four.start("d", relayed=True)
    for pair in ("ab", "bc", "bd"):
        four.both(*pair)
    four.settle()
    entry = four.fetch("a", 1)
    four.publish("a", entry)
    four.settle()
    assert four.holds("b", entry)
    assert four.holds("d", entry)
    assert not four.holds("c", entry), "it did not ask for others'"
    four.wait(0.1)
    assert {peer.name for peer in four.nodes["d"].peers} == {node(name) for name in "abc"}
    purged = four.nodes["a"].purge(Purge(), four.now)
    four.settle()
    four.wait(3)
    assert four.nodes["a"].unconfirmed(purged, four.now) == []


def test_relays_in_a_ring_tell_everything_once(fleet: Build) -> None:
    names = "abcd"
    ring = fleet(*(enrolment(name) for name in names))
    for name in names:
        ring.start(name, relay=True, relayed=True)
    for pair in ("ab", "bc", "cd", "da"):
        ring.both(*pair)
    ring.settle()
    ring.publish("a", entry := ring.fetch("a", 1))
    ring.settle()
    assert all(ring.holds(name, entry) for name in names)
    assert all(ring.nodes[name].hearing.taken == {"STORED": 1} for name in "bcd")


# Presence, and quiet.


def test_who_is_silent_is_suspect_and_then_dead(two: Fleet) -> None:
    peers = two.nodes["a"].peers
    assert peers.health(node("b"), two.now).value == "alive"
    two.cut("a", "b")
    two.wait(7)
    assert peers.health(node("b"), two.now).value == "suspect"
    assert peers.lag_s(node("b"), two.now) == pytest.approx(7)
    two.wait(20)
    assert peers.health(node("b"), two.now).value == "dead"
    two.both("a", "b")
    two.settle()
    assert peers.health(node("b"), two.now).value == "alive"
    assert peers.lag_s(node("b"), two.now) == 0
    two.nodes["b"].turn(State.LEAVING, two.now)
    two.wait(0.1)
    assert peers.health(node("b"), two.now).value == "leaving"


def test_nodes_that_hold_the_same_say_so_and_nothing_else(two: Fleet) -> None:
    two.publish("a", *(two.fetch("a", number) for number in range(10)))
    two.nodes["b"].purge(Purge(key=fakes.key(1)), two.now)
    two.settle()
    two.wait(20)
    sent = len(two.sent)
    two.wait(100)
    for _, _, data in two.sent[sent:]:
        message = read(data)
        assert isinstance(message, Aside)
        assert [peek(frame).kind for frame in message.frames] == [4]
    assert 95 <= len(two.sent) - sent <= 105


def test_readings_go_on_after_a_kill_whatever_the_clock_says(two: Fleet) -> None:
    given = [two.nodes["a"].stamp(two.now) for _ in range(10)]
    two.cut("a", "b")
    two.nodes.pop("a").log.close()
    two.seconds -= 30
    two.start("a")
    again = two.nodes["a"].stamp(two.now)
    assert again > max(given)
    for _ in range(50):
        two.nodes.pop("a").log.close()
        two.start("a")
        again = two.nodes["a"].stamp(two.now)
    assert again < max(given) + (11_000 << 16), "restarts do not drive the clock on"


def entries_of(entry: Entry) -> Entries:
    return Entries(((entry, None),))


# Answers that lay somewhere in the region.


def test_a_frame_that_lay_somewhere_is_taken_as_often_as_it_is_needed(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    a, b = fleet.start("a"), fleet.start("b")
    entry = fleet.fetch("a", "x")
    frame = a.telling.in_region(entry, fleet.now)
    assert frame is not None
    for name, replica in (("b", b), ("b", b), ("a", a)):
        fleet.shelves[name].entries.clear()  # for room
        assert replica.hearing.found(frame, fleet.now) == entry
        assert fleet.holds(name, entry)
    assert b.hearing.found(frame, fleet.now) is None, "it is here, and no news"


def test_a_frame_that_lay_somewhere_is_judged_as_if_it_was_heard_now(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, enrolment("a"), enrolment("b"), enrolment("c", region="us"))
    a, b, c = fleet.start("a"), fleet.start("b"), fleet.start("c")
    here, old, dead = (
        fleet.fetch("a", "here", reach=("eu",)),
        fleet.fetch("a", "old", expires_at=Timestamp(WALL + 10)),
        fleet.fetch("a", "dead", labels=("bad",)),
    )
    frames = [a.telling.in_region(one, fleet.now) for one in (here, old, dead)]
    assert all(frames)
    first, second, third = (frame or b"" for frame in frames)
    assert c.hearing.found(first, fleet.now) is None, "it is of another region"
    b.purge(Purge(label="bad"), fleet.now)
    assert b.hearing.found(third, fleet.now) is None
    fleet.seconds = 11
    assert b.hearing.found(second, fleet.now) is None
    presence = next(data for _, _, data in fleet.sent) if fleet.sent else first
    assert b.hearing.found(presence[:-1] + bytes((presence[-1] ^ 1,)), fleet.now) is None
    assert b.hearing.dropped["forged"] == 1
    revoked = replace(enrolment("a", version=9), revoked=True)
    b.enrol(enrol(revoked, OPERATOR), fleet.now)
    assert b.hearing.found(first, fleet.now) is None
    assert not fleet.shelves["b"].entries


def test_what_the_region_may_not_have_is_not_framed_for_it(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, enrolment("a", scopes=("shared",)), enrolment("b", may_publish=False))
    a, b = fleet.start("a"), fleet.start("b")
    assert a.telling.in_region(fleet.fetch("a", 1), fleet.now) is not None
    assert a.telling.in_region(fleet.fetch("a", 2, reach=()), fleet.now) is None
    assert a.telling.in_region(fleet.fetch("a", 3, reach=("us",)), fleet.now) is None
    assert a.telling.in_region(fleet.fetch("a", 4, scope=Scope("tenant:other")), fleet.now) is None
    assert b.telling.in_region(fleet.fetch("b", 5), fleet.now) is None
    assert a.telling.in_region(fleet.fetch("a", 6, stored_by=node("b")), fleet.now) is None


def test_who_is_not_known_yet_is_heard_when_it_is(fleet: Build) -> None:
    one = fleet(enrolment("a"), enrolment("b"), enrolment("c"))
    for name in "ac":
        one.start(name)
    b = one.start("b", enrolled=(enrolment("a"), enrolment("b")))
    entry = one.fetch("c", 1)
    _, frame = one.nodes["c"]._voice.say(entries_of(entry), one.now)
    one.both("a", "b")
    b.receive(End(node("a"), Role.SOURCE), written(Aside((frame,))), one.now)
    assert b.hearing.dropped == {"of a stranger": 1}
    assert not one.holds("b", entry)
    b.enrol(enrol(enrolment("c"), OPERATOR), one.now)
    assert one.holds("b", entry)


# Disks that are older than what was said.


def test_what_was_purged_before_an_old_copy_took_the_place_of_the_disk_confirms_nothing(
    two: Fleet,
) -> None:
    shutil.copytree(two.directory / "a", two.directory / "copy")
    ahead = Now(Timestamp(two.now.wall + 30), two.now.mono)
    two.nodes["a"].purge(Purge(label="forgotten"), ahead)
    two.settle()
    two.cut("a", "b")
    two.nodes.pop("a").log.close()
    shutil.rmtree(two.directory / "a")
    shutil.move(two.directory / "copy", two.directory / "a")
    two.seconds += 1
    entry = two.fetch("b", 1)
    a = two.start("a")
    purged = a.purge(Purge(key=entry.key), two.now)
    last = dict(two.shelves["b"].seen)[node("a")]
    assert purged.version < last, "which looks as if it was applied"
    two.seconds += 1
    presence = Presence(State.UP, "", "", two.nodes["b"].log.confirmed, 0, Version(0), 0, 0)
    _, frame = two.nodes["b"]._voice.say(presence, two.now)
    a._hear([frame], End(node("b"), Role.SOURCE))
    assert a.unconfirmed(purged, two.now) == [node("b")]
    two.both("a", "b")
    two.settle()
    assert not two.holds("b", entry)
    two.wait(1)
    assert a.unconfirmed(purged, two.now) == []
    two.wait(60)
    assert [one.purged.purge.label for one in a.log.purges()].count("forgotten") == 1


def test_a_link_that_breaks_often_does_not_make_others_wait_to_be_told(two: Fleet) -> None:
    for _ in range(8):
        two.cut("a", "b")
        two.nodes["a"].purge(Purge(label="news"), two.now)
        two.both("a", "b")
        two.step()
        two.step()
    two.settle()
    peer = two.nodes["a"].peers.get(node("b"))
    assert peer is not None
    assert peer.repairs <= 1
