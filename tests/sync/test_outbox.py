"""What must not be forgotten is not, whatever happens to the process or the file."""

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from index.entry import EVERYWHERE, CacheKey, NodeName, Purge, Purged, Scope, Version
from sync.frames import signed
from sync.outbox import Outbox, OutboxSettings
from sync.roster import enrol
from sync.rows import NAME
from sync.seams import Cursor, Kept, Logged
from tests.fakes.fleet import FLEET, OPERATOR, enrolment, key, node

RUN = b"run one."
A = node("a")


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    made = Outbox(tmp_path, FLEET, RUN)
    yield made
    made.check()
    made.close()


def again(directory: Path, settings: OutboxSettings | None = None) -> Outbox:
    return Outbox(directory, FLEET, b"run two.", settings)


def killed(directory: Path, to: Path) -> Path:
    """The files as a process killed now would leave them."""
    to.mkdir()
    for found in directory.glob(f"{NAME}*"):
        shutil.copyfile(found, to / found.name)
    return to


def purged(version: int, name: int = 0, by: str = "a", *, soft: bool = False) -> Kept:
    purge = Purge(key=CacheKey(bytes([name]) * 32))
    made = Purged(purge, node(by), Version(version), Version(version - 1), soft)
    return Kept(made, signed(made, node(by), Version(version), key(by), FLEET))


def logged(position: int, frame: bytes = b"frame", origin: NodeName = A) -> Logged:
    return Logged(Version(position), origin, Scope("shared"), ("eu", "us"), frame)


# The log.


def test_the_log_is_read_in_order_from_anywhere(outbox: Outbox) -> None:
    outbox.begin(Version(5))
    rows = [logged(position, bytes(100)) for position in (6, 9, 12, 20)]
    for row in rows:
        assert outbox.append(row)
    assert outbox.latest == 20
    assert outbox.after(Version(0), 1_000) == rows
    assert outbox.after(Version(9), 1_000) == rows[2:]
    assert outbox.after(Version(5), 250) == rows[:2]
    assert outbox.after(Version(5), 1) == rows[:1], "one at least, however large"
    assert outbox.after(Version(20), 1_000) == []


def test_the_log_is_bounded_in_bytes_and_knows_where_it_begins(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path, FLEET, RUN, OutboxSettings(log_max_bytes=10_000))
    outbox.begin(Version(1))
    for position in range(2, 200):
        outbox.append(logged(position, bytes(500)))
        outbox.check()
    assert outbox.floor > 150
    assert [row.position for row in outbox.after(outbox.floor, 1 << 20)] == [
        *range(outbox.floor + 1, 200)
    ]
    floor = outbox.floor
    outbox.close()
    reopened = again(tmp_path, OutboxSettings(log_max_bytes=10_000))
    assert (reopened.floor, reopened.latest) == (floor, 199)
    reopened.check()
    reopened.close()


def test_what_is_old_leaves_the_log(outbox: Outbox) -> None:
    outbox.begin(Version(1))
    for position in range(2, 10):
        outbox.append(logged(position))
    outbox.forget_log(Version(6))
    assert outbox.floor == 6
    assert [row.position for row in outbox.after(Version(0), 1 << 20)] == [7, 8, 9]
    outbox.forget_log(Version(100))
    assert (outbox.floor, outbox.latest) == (9, 9)
    assert outbox.append(logged(110))
    assert [row.position for row in outbox.after(Version(0), 1 << 20)] == [110]


def test_each_run_is_remembered_with_what_was_told_in_it(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path, FLEET, RUN)
    outbox.begin(Version(5))
    outbox.append(logged(7))
    assert outbox.told_until(RUN) == 7
    assert outbox.told_until(b"unknown.") is None
    outbox.close()
    for number in range(100):
        outbox = Outbox(tmp_path, FLEET, f"run {number:4}".encode())
        assert outbox.told_until(f"run {number:4}".encode()) == 7 + number
        outbox.append(logged(8 + number))
        outbox.close()
    outbox = again(tmp_path)
    assert outbox.told_until(b"run    0") is None, "long ago"
    assert outbox.told_until(b"run   90") == 98
    assert outbox.told_until(b"run   99") == 107
    outbox.close()


# What outlives the process.


def test_everything_is_there_after_a_kill(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    outbox = Outbox(tmp_path / "one", FLEET, RUN)
    outbox.begin(Version(3))
    outbox.append(logged(7))
    seen = ((A, Version(11)),)
    assert outbox.keep_purges([purged(10), purged(11, 1, soft=True)], seen)
    outbox.keep_line(A, line := enrol(enrolment("a"), OPERATOR))
    outbox.keep_cursors({node("b"): Cursor(Version(44), b"run of b")})
    outbox.reserve(Version(1 << 62))
    left = again(killed(tmp_path / "one", tmp_path / "two"))
    assert [row.position for row in left.after(Version(0), 100)] == [7]
    assert {one.purged.version for one in left.purges()} == {10, 11}
    assert list(left.purges()) == list(outbox.purges())
    assert (left.confirmed, left.digest) == (seen, outbox.digest)
    assert left.lines() == [line]
    assert left.cursor(node("b")) == Cursor(Version(44), b"run of b")
    assert left.cursor(node("c")) == Cursor()
    assert (left.reserved, left.floor, left.latest) == (1 << 62, 3, 7)
    assert not left.lost
    left.check()
    left.close()
    outbox.close()


def test_a_purge_is_forced_to_disk_and_an_answer_is_not(tmp_path: Path) -> None:
    """SQLite syncs its log after a commit only when it is told to: seen in what it is told."""
    outbox = Outbox(tmp_path, FLEET, RUN)
    told: list[str] = []
    outbox._file.set_trace_callback(told.append)
    outbox.append(logged(7))
    assert not [one for one in told if "synchronous" in one]
    outbox.keep_purges([purged(10)], ((A, Version(10)),))
    wanted = ["PRAGMA synchronous=FULL", "BEGIN IMMEDIATE", "COMMIT", "PRAGMA synchronous=NORMAL"]
    assert [one for one in told if one in wanted][-4:] == wanted
    outbox.close()


def test_of_a_repeated_purge_the_last_is_kept_and_soft_and_hard_are_two(outbox: Outbox) -> None:
    kept = [purged(10), purged(12), purged(11), purged(13, soft=True), purged(9, by="b")]
    digests = set()
    for seed in range(5):
        one = kept.copy()
        Random(seed).shuffle(one)
        outbox.keep_purges(one, ())
        digests.add(outbox.digest)
        versions = sorted(held.purged.version for held in outbox.purges())
        assert versions == [9, 12, 13]
    assert len(digests) == 1


def test_purges_are_forgotten_when_they_are_old(outbox: Outbox) -> None:
    outbox.keep_purges([purged(10), purged(20, 1)], ((A, Version(20)),))
    outbox.forget_purges(Version(10), ((A, Version(20)),))
    only = outbox.digest
    assert [one.purged.version for one in outbox.purges()] == [20]
    outbox.forget_purges(Version(20), ())
    assert (outbox.digest, outbox.confirmed) == (0, ())
    outbox.keep_purges([purged(20, 1)], ())
    assert outbox.digest == only


# Trouble.


@pytest.mark.parametrize("place", [0, 20, 100, 5_000])
def test_a_damaged_file_is_set_aside_and_the_node_starts(tmp_path: Path, place: int) -> None:
    outbox = Outbox(tmp_path, FLEET, RUN)
    outbox.keep_purges([purged(version, version) for version in range(1, 100)], ())
    outbox._file.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    outbox.close()
    data = bytearray((tmp_path / NAME).read_bytes())
    data[place : place + 64] = b"\xa5" * 64
    (tmp_path / NAME).write_bytes(data)
    after = again(tmp_path)
    held = len(list(after.purges()))
    assert after.lost == (held == 0)
    assert held in (0, 99)
    assert after.keep_purges([purged(5)], ())
    after.check()
    after.close()


def test_a_flipped_bit_in_a_purge_is_noticed(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path, FLEET, RUN)
    outbox.keep_purges([purged(5)], ())
    outbox.close()
    file = sqlite3.connect(tmp_path / NAME)
    (frame,) = file.execute("SELECT frame FROM purge").fetchone()
    file.execute("UPDATE purge SET frame=?", (frame[:-1] + bytes([frame[-1] ^ 1]),))
    file.commit()
    file.close()
    after = again(tmp_path)
    assert after.lost
    assert not list(after.purges())
    after.close()


def test_a_file_of_another_fleet_is_set_aside(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path, FLEET, RUN)
    outbox.keep_purges([purged(5)], ())
    outbox.close()
    after = Outbox(tmp_path, bytes(16), RUN)
    assert after.lost
    assert not list(after.purges())
    after.close()


def test_a_disk_that_fails_loses_nothing_and_confirms_nothing(outbox: Outbox) -> None:
    outbox.begin(Version(1))
    outbox.keep_purges([purged(5)], ((A, Version(5)),))
    outbox._file.execute("PRAGMA query_only=ON")  # what a full disk says, without one
    assert not outbox.keep_purges([purged(6, 1)], ((A, Version(6)),))
    assert not outbox.append(logged(7))
    outbox.keep_line(A, line := enrol(enrolment("a"), OPERATOR))
    assert not outbox.catch_up()
    assert outbox.confirmed == ((A, 5),), "what is not on disk is not confirmed"
    assert [one.purged.version for one in outbox.purges()] == [5, 6], "but it holds"
    outbox._file.execute("PRAGMA query_only=OFF")
    assert outbox.catch_up()
    assert outbox.confirmed == ((A, 6),)
    assert outbox.lines() == [line]
    assert outbox.unwritten
    assert "behind" not in repr(outbox)


def test_a_file_that_is_damaged_while_in_use_is_begun_again_with_all_that_is_known(
    tmp_path: Path,
) -> None:
    outbox = Outbox(tmp_path, FLEET, RUN)
    outbox.begin(Version(1))
    outbox.append(logged(7))
    outbox.keep_purges([purged(5)], ((A, Version(5)),))
    outbox.keep_cursors({A: Cursor(Version(3), RUN)})
    outbox._file.execute("DROP TABLE log")  # an error that says the file is at fault
    assert outbox.after(Version(0), 100) == []
    assert not outbox.lost
    assert outbox.floor == 7, "what was in the log is no longer"
    assert outbox.keep_purges([purged(6, 1)], ((A, Version(6)),))
    assert outbox.append(logged(8))
    outbox.check()
    outbox.close()
    after = again(tmp_path)
    assert [one.purged.version for one in after.purges()] == [5, 6]
    assert after.cursor(A) == Cursor(Version(3), RUN)
    assert (after.floor, after.latest) == (7, 8)
    after.close()


def test_reach_and_scope_are_kept_as_they_are(outbox: Outbox) -> None:
    outbox.append(Logged(Version(4), A, Scope("tenant:ä"), EVERYWHERE, b"x"))
    outbox.append(logged(5))
    assert [(row.scope, row.reach) for row in outbox.after(Version(0), 100)] == [
        ("tenant:ä", EVERYWHERE),
        ("shared", ("eu", "us")),
    ]
