"""What outlives the process: whole or not at all, within its bounds, whatever the disk does."""

import os
import resource
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from random import Random
from threading import Event

import numpy as np
import pytest

from index.entry import Entry, NodeName, Purge, Scope, Version
from index.store import DirectoryInUse, Store, StoreSettings
from tests.fakes.entries import (
    DIMENSIONS,
    NOW,
    SHARED,
    Purger,
    as_after_kill,
    entry,
    key,
    swept,
    vector,
)

SEEDS = int(os.environ.get("BIT_ROT_SEEDS", "120"))
CUTS = int(os.environ.get("WAL_CUTS", "60"))


@contextmanager
def opened(
    directory: Path,
    settings: StoreSettings | None = None,
    *,
    normaliser: str = "1",
    clock: Callable[[], float] = lambda: NOW,
) -> Iterator[Store]:
    store = Store(directory, settings, normaliser=normaliser, clock=clock)
    try:
        yield store
    finally:
        store.close()


def put(store: Store, *entries: Entry) -> None:
    for one in entries:
        assert store.put(store.next_id(), one, None)


def got(store: Store, name: str | int, scope: Scope = SHARED) -> Entry | None:
    stored = store.get(scope, key(name))
    return stored.entry if stored else None


def eventually(holds: Callable[[], bool]) -> None:
    """Wait for the writer's own timers; it works on a thread that nobody here can step."""
    waiting = Event()
    for _ in range(1_000):
        if holds():
            return
        waiting.wait(0.01)
    raise AssertionError("it never came to hold")


# Whole, and after a restart the same.


def test_an_entry_comes_back_as_it_was(tmp_path: Path) -> None:
    odd = entry("odd", bytes(range(256)), question="\ud800 née\x00 漢字", model="m\ud800")
    plain = entry("plain", b"")
    with opened(tmp_path) as store:
        put(store, odd, plain)
        assert got(store, "odd") == odd, "read before it is committed"
        store.flush()
        assert got(store, "odd") == odd
        assert got(store, "plain") == plain
    with opened(tmp_path) as store:
        assert got(store, "odd") == odd
        assert got(store, "plain") == plain
        assert store.last_id == 2
        store.check()


def test_where_it_came_from_comes_back_and_costs_little(tmp_path: Path) -> None:
    seen = tuple((NodeName(f"{place}-1.3f9c2a1b"), Version(1 << 56)) for place in ("fra", "sin"))
    told = replace(
        entry("q"),
        stored_by=seen[0][0],
        version=Version((1 << 57) + 1),
        seen=seen,
        reach=("eu", "us"),
        labels=("news", "route:gpt*", "übel\ud800"),
        pinned=True,
    )
    with opened(tmp_path) as store:
        put(store, told, entry("plain"), replace(told, key=key("r")))
        store.flush()
        assert got(store, "q") == told
        other, plain = got(store, "r"), got(store, "plain")
        assert other is not None
        assert plain == entry("plain")
        assert other.seen is store.newest(SHARED, key("q")).seen  # type: ignore[union-attr]
        ((nbytes,),) = store._rows("SELECT length(origin) FROM entry WHERE id=1", ())
        assert nbytes < 150
        ((nbytes,),) = store._rows("SELECT length(origin) FROM entry WHERE id=2", ())
        assert nbytes < 12


def test_replaces_by_scope_and_key(tmp_path: Path) -> None:
    other = entry("q", scope=Scope("tenant:a"))
    with opened(tmp_path) as store:
        put(store, entry("q", b"old"), other, entry("q", b"newer"), entry("q", b"newest"))
        store.flush()
        stored = got(store, "q")
        assert stored is not None
        assert stored.body == b"newest"
        assert got(store, "q", Scope("tenant:a")) == other
        assert store.stats.entries == 2
        store.check()


def test_reads_from_threads_see_whole_entries_while_they_are_replaced(tmp_path: Path) -> None:
    bodies = {bytes([n]) * 3_000 for n in range(8)}
    with opened(tmp_path) as store, ThreadPoolExecutor(2) as workers:
        put(store, entry("q", b"\0" * 3_000))
        done = Event()

        def read() -> int:
            count = 0
            while not done.is_set():
                found = got(store, "q")
                assert found is not None
                assert found.body in bodies
                count += 1
            return count

        readers = [workers.submit(read) for _ in range(2)]
        for body in sorted(bodies):
            put(store, entry("q", body))
            store.flush()
        done.set()
        assert all(reader.result() for reader in readers)


def test_one_process_owns_a_directory(tmp_path: Path) -> None:
    with opened(tmp_path), pytest.raises(DirectoryInUse, match="--data") as raised:
        Store(tmp_path, normaliser="1")
    assert str(tmp_path) in str(raised.value)
    assert str(os.getpid()) in str(raised.value)
    with opened(tmp_path):
        pass


# Vectors.


def test_vectors_come_back_by_partition(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.use_encoder("e1")
        for n in range(5):
            store.put(store.next_id(), entry(n, question=f"q{n}"), vector(n))
        put(store, entry("exact only"))
        store.flush()
        (batch,), reached = store.vectors(DIMENSIONS, store.last_id, 0)
        assert (batch.ids, reached) == ([1, 2, 3, 4, 5], 5)
        assert np.array_equal(batch.vectors, np.stack([vector(n) for n in range(5)]))
        assert store.vectors(DIMENSIONS, store.last_id, reached) == ([], 0)
        found = store.texts([1, 6, 3])
        assert {id_: text for id_, (text, _) in found.items()} == {1: "q0", 3: "q2"}


def test_another_encoder_drops_vectors_and_keeps_entries(tmp_path: Path) -> None:
    for fingerprint, expected in (("e1", 0), ("e1", 1), ("e2", 0)):
        with opened(tmp_path) as store:
            store.use_encoder(fingerprint)
            assert store.count_vectors() == expected
            if fingerprint == "e1":
                store.put(store.next_id(), entry("q", question="?"), vector(0))
            assert got(store, "q") is not None


# Files that are not ours to read.


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda db: db.execute("PRAGMA user_version=99"), "format99"),
        (lambda db: db.execute("PRAGMA application_id=7"), "foreign"),
        (lambda db: db.execute("DELETE FROM stamp"), "corrupt"),
        (lambda db: db.execute("DROP INDEX entry_turn"), "corrupt"),
        (lambda db: db.execute("UPDATE entry SET id = 4611686018427387904"), "corrupt"),
    ],
)
def test_a_file_of_another_kind_is_set_aside(
    tmp_path: Path, spoil: Callable[[sqlite3.Connection], object], why: str
) -> None:
    with opened(tmp_path) as store:
        put(store, entry("q"))
    with sqlite3.connect(tmp_path / "cache.db") as db:
        spoil(db)
    db.close()
    with opened(tmp_path) as store:
        assert got(store, "q") is None
        assert store.stats.set_aside == 1
        put(store, entry("q"))
        store.flush()
        assert got(store, "q") == entry("q")
    (aside,) = tmp_path.glob("cache.db.*")
    assert aside.name == f"cache.db.{why}-20270115T080000Z"


def test_other_key_rules_start_empty(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        put(store, entry("q"))
    with opened(tmp_path, normaliser="2") as store:
        assert got(store, "q") is None
    assert list(tmp_path.glob("cache.db.otherkeys-*"))


def test_no_more_than_two_files_are_kept_aside(tmp_path: Path) -> None:
    for n in range(5):
        (tmp_path / "cache.db").write_bytes(b"%d is no database" % n * 100)
        with opened(tmp_path) as store:
            assert store.stats.set_aside == 1
    aside = list(tmp_path.glob("cache.db.corrupt-*"))
    assert sorted(one.read_bytes()[:1] for one in aside) == [b"3", b"4"]


# Damage. A flipped bit or a lost page may cost entries, never make one.


def test_bit_rot_costs_entries_and_invents_none(tmp_path: Path) -> None:
    before = [entry(n, bytes([n]) * (n * 97), question=f"q{n}") for n in range(60)]
    with opened(tmp_path / "whole") as store:
        store.use_encoder("e")
        for n, one in enumerate(before):
            store.put(store.next_id(), one, vector(n))
    whole = (tmp_path / "whole" / "cache.db").read_bytes()
    found = missed = 0
    for seed in range(SEEDS):
        directory = tmp_path / "spoilt"
        directory.mkdir()
        (directory / "cache.db").write_bytes(rotten(whole, Random(seed)))
        with opened(directory) as store:
            for one, now in [(one, got(store, n)) for n, one in enumerate(before)]:
                assert now in (None, one), f"seed {seed} made something up"
                found += now is not None
                missed += now is None
            after = 0
            while True:
                batches, after = store.vectors(DIMENSIONS, 100, after)
                for batch in batches:
                    for id_, stored in zip(batch.ids, batch.vectors, strict=True):
                        assert np.array_equal(stored, vector(id_ - 1)), f"seed {seed}"
                if not after:
                    break
            store.examine()
            put(store, entry("new"))
            store.flush()
            assert got(store, "new") == entry("new"), f"seed {seed} cannot store any more"
        shutil.rmtree(directory)
    assert found > missed > 0


def test_who_reads_while_a_file_is_set_aside_reads_the_next_one_afterwards(tmp_path: Path) -> None:
    """The date of its new name is read when it is about to be renamed."""
    stores: list[Store] = []

    def clock() -> float:
        for store in stores:
            list(store.all())
        return NOW

    with opened(tmp_path, clock=clock) as store:
        put(store, *(entry(n, os.urandom(5_000)) for n in range(20)))
        store.flush()
        stores.append(store)
        store.aside(store._writer.set_aside).result()
        stores.clear()
        assert store.stats.set_aside == 1
        put(store, entry("new"))
        store.flush()
        assert got(store, "new") == entry("new")
        assert store.stats.set_aside == 1
        store.check()


def rotten(whole: bytes, random: Random) -> bytes:
    spoilt = bytearray(whole)
    at = random.randrange(len(spoilt))
    match random.randrange(4):
        case 0:
            spoilt[at] ^= 1 << random.randrange(8)
        case 1:
            spoilt[at : at + 64] = random.randbytes(len(spoilt[at : at + 64]))
        case 2:
            page = at // 4096 * 4096
            spoilt[page : page + 4096] = bytes(4096)
        case _:
            del spoilt[at:]
    return bytes(spoilt)


def test_a_rotten_row_is_deleted_and_counted(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        put(store, entry("good"), entry("bad", b"unmistakable" * 10))
    file = tmp_path / "cache.db"
    file.write_bytes(file.read_bytes().replace(b"unmistakable", b"unmistakeable"[:12], 1))
    with opened(tmp_path) as store:
        assert got(store, "bad") is None
        store.flush()
        assert store.stats.rotten == 1
        assert store.stats.entries == 1
        assert got(store, "good") == entry("good")
        store.check()


def test_a_rotten_vector_is_deleted_with_its_row(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.use_encoder("e")
        store.put(store.next_id(), entry("q", question="?"), vector(0))
        store.put(store.next_id(), entry("r", question="?"), vector(0))
    with sqlite3.connect(tmp_path / "cache.db") as db:
        db.execute("UPDATE vec SET emb=? WHERE id=1", (vector(1).astype(np.float16).tobytes(),))
    db.close()
    with opened(tmp_path) as store:
        (batch,), _ = store.vectors(DIMENSIONS, store.last_id, 0)
        assert batch.ids == [2]
        store.flush()
        assert (store.stats.rotten, store.stats.entries) == (1, 1)
        store.check()


def test_an_index_that_leads_to_a_wrong_row_is_damage(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        put(store, entry("q"))
    file = tmp_path / "cache.db"
    pages = [file.read_bytes()[at : at + 4096] for at in range(0, file.stat().st_size, 4096)]
    index_leaf = 10  # https://www.sqlite.org/fileformat.html, 1.6
    file.write_bytes(
        b"".join(
            page.replace(key("q"), key("r")) if page[0] == index_leaf else page for page in pages
        )
    )
    with opened(tmp_path) as store:
        assert got(store, "r") is None
        store.flush()
        assert store.stats.set_aside == 1


def test_a_rotten_schema_is_damage_before_and_after_it_is_read(tmp_path: Path) -> None:
    """SQLite quotes it in its message, and Python cannot read that."""
    file = tmp_path / "cache.db"

    def rot() -> None:
        with open(file, "r+b") as opened_file:
            opened_file.seek(file.read_bytes().index(b"ABLE body"))
            opened_file.write(b"\x8a")

    with opened(tmp_path) as store:
        put(store, entry("q"))
    rot()
    with opened(tmp_path) as store:
        assert store.stats.set_aside == 1
        rot()
        assert got(store, "q") is None
        store.flush()
        assert store.stats.set_aside == 2
        put(store, entry("q"))
        store.flush()
        assert got(store, "q") == entry("q")


def test_an_unforeseen_error_costs_its_group_alone(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        spoilt = entry("q")
        object.__setattr__(spoilt, "key", None)
        assert store.put(store.next_id(), spoilt, None)
        store.flush()
        assert store.stats.failed == 1
        put(store, entry("r"))
        store.flush()
        assert got(store, "r") == entry("r")
        assert store.stats.set_aside == 0
        store.check()


def test_damage_found_while_running_starts_over(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        put(store, *(entry(n, b"x" * 2_000) for n in range(200)))
        store.flush()
        assert got(store, 1) is not None
        store._writer.run(lambda: None).result()
    whole = (tmp_path / "cache.db").read_bytes()
    (tmp_path / "cache.db").write_bytes(whole[:8192] + bytes(len(whole) - 8192))
    with opened(tmp_path) as store:
        assert [got(store, n) for n in range(200)] == [None] * 200
        store.flush()
        put(store, entry("q"))
        store.flush()
        assert got(store, "q") == entry("q")
        assert store.stats.set_aside == 1
        store.check()
    with opened(tmp_path) as store:
        assert got(store, "q") == entry("q")


def test_examining_finds_what_no_lookup_met(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        put(store, *(entry(n, b"x" * 2_000) for n in range(100)))
    file = tmp_path / "cache.db"
    whole = file.read_bytes()
    answer = whole.index(b"x" * 1_000, len(whole) // 2) // 4096 * 4096
    file.write_bytes(whole[:answer] + bytes(4096) + whole[answer + 4096 :])
    with opened(tmp_path) as store:
        assert not store.examine()
        store.flush()
        assert store.stats.set_aside == 1
        assert store.examine()


def test_of_a_cut_log_a_prefix_is_left(tmp_path: Path) -> None:
    alive = tmp_path / "alive"
    with opened(alive) as store:
        for n in range(30):
            put(store, entry(n, b"x" * 500))
            store.flush()
        left = as_after_kill(alive, tmp_path / "left")
    log = (left / "cache.db-wal").read_bytes()
    random = Random(7)
    frames = [32 + 4120 * n for n in range(0, len(log) // 4120, max(1, len(log) // 4120 // CUTS))]
    counts = set()
    for cut in [*frames, *(random.randrange(len(log)) for _ in range(CUTS // 2)), len(log)]:
        copy = as_after_kill(left, tmp_path / "copy")
        os.truncate(copy / "cache.db-wal", cut)
        with opened(copy) as store:
            assert store.stats.set_aside == 0
            held = [got(store, n) is not None for n in range(30)]
            assert held == sorted(held, reverse=True), f"cut at {cut}: not a prefix"
            counts.add(sum(held))
            store.check()
        shutil.rmtree(copy)
    assert {0, 30} < counts


# Bounds.


def test_the_file_stays_within_its_budget(tmp_path: Path) -> None:
    settings = StoreSettings(max_bytes=2 << 20)
    with opened(tmp_path, settings) as store:
        for n in range(2_000):
            put(store, entry(n, b"x" * 4_000))
            if n % 100 == 99:
                store.flush()
        store.flush()
        assert (tmp_path / "cache.db").stat().st_size <= 2 << 20
        assert 300 < store.stats.entries < 520
        assert store.stats.evicted == 2_000 - store.stats.entries
        assert got(store, 1_999) is not None
        assert not store.stats.unwritable
        store.check()


class Hits:
    """A follower that says what was asked for, as the memory does."""

    def __init__(self) -> None:
        self.ids: tuple[int, ...] = ()
        self.gone: set[int] = set()

    def stored(self, puts: object) -> None: ...
    def emptied(self) -> None: ...

    def removed(self, ids: Sequence[int]) -> None:
        self.gone.update(ids)

    def touched(self) -> list[tuple[int, int]]:
        hits, self.ids = self.ids, ()
        return [(id_, 3) for id_ in hits]


def test_what_was_asked_for_again_survives_a_flood(tmp_path: Path) -> None:
    hits = Hits()
    settings = StoreSettings(max_bytes=2 << 20, tick_s=0.001)
    store = Store(tmp_path, settings, normaliser="1", follower=hits, clock=lambda: NOW)
    put(store, *(entry(n, b"x" * 4_000) for n in range(10)))
    store.flush()
    hits.ids = (1, 2, 3)
    eventually(lambda: not hits.ids)
    store.flush()
    for n in range(1_000, 1_800):
        put(store, entry(n, b"x" * 4_000))
        if n % 100 == 99:
            store.flush()
    assert [got(store, n) is not None for n in range(5)] == [True, True, True, False, False]
    assert hits.gone.isdisjoint({1, 2, 3})
    assert next(store.hottest(1))[0].id in {1, 2, 3}
    store.close()


def test_what_expired_long_ago_is_deleted(tmp_path: Path) -> None:
    settings = StoreSettings(tick_s=0.001)
    clock = [NOW + 100.0]
    with opened(tmp_path, settings, clock=lambda: clock[0]) as store:
        put(store, entry("short", ttl_s=10), entry("long"))
        store.flush()
        assert got(store, "short") is not None, "a clock that is an hour off deletes nothing"
        clock[0] += 3_600
        eventually(lambda: store.stats.expired == 1)
        assert got(store, "short") is None
        assert got(store, "long") is not None


def test_freed_pages_are_given_back(tmp_path: Path) -> None:
    with opened(tmp_path, StoreSettings(tick_s=0.001)) as store:
        put(store, *(entry(n, b"x" * 4_000) for n in range(500)))
        store.flush()
        assert swept(store, Purger()(Purge())).result() == set(range(1, 501))

        def small() -> bool:
            pages = store._rows("PRAGMA page_count", ())[0][0]
            return bool(pages < 50)

        eventually(small)


def test_what_the_writer_cannot_take_is_dropped_and_counted(tmp_path: Path) -> None:
    settings = StoreSettings(queue_entries_max=10, entry_max_bytes=1_000)
    with opened(tmp_path, settings) as store:
        held, free = Event(), Event()

        def hold() -> None:
            held.set()
            free.wait()

        store._writer.run(hold)
        held.wait()
        results = [store.put(store.next_id(), entry(n), None) for n in range(15)]
        free.set()
        assert results == [True] * 10 + [False] * 5
        assert not store.put(store.next_id(), entry("large", b"x" * 1_001), None)
        store.flush()
        assert store.stats.dropped_busy == 5
        assert store.stats.entries == 10


def test_a_queue_of_large_answers_is_bounded_by_bytes(tmp_path: Path) -> None:
    settings = StoreSettings(queue_bytes_max=1 << 20)
    with opened(tmp_path, settings) as store:
        held, free = Event(), Event()

        def hold() -> None:
            held.set()
            free.wait()

        store._writer.run(hold)
        held.wait()
        taken = sum(store.put(store.next_id(), entry(n, bytes(200_000)), None) for n in range(10))
        free.set()
        assert taken == 5


# Purges.


def test_a_purge_is_on_disk_when_it_returns(tmp_path: Path) -> None:
    a = Scope("tenant:a")
    with opened(tmp_path / "alive") as store:
        put(store, entry(1, scope=a), entry(2), entry(3, model="other"), entry(4, scope=a))
        purged = Purger()(Purge(scope=a))
        ids = swept(store, purged)
        after = entry(5, scope=a, seen=((purged.by, purged.version),))
        put(store, after)
        assert ids.result() == {1, 4}
        assert store.count(Purge(label="model:other")) == 1
        assert swept(store, Purger()(Purge(label="model:other"))).result() == {3}
        store.flush()
        copy = as_after_kill(tmp_path / "alive", tmp_path / "copy")
        store.check()
    with opened(copy) as store:
        assert [got(store, 1, a), got(store, 4, a), got(store, 3)] == [None] * 3
        assert got(store, 2) == entry(2)
        assert got(store, 5, a) == after, "put after the purge"


# A disk that takes nothing.


def survives(store: Store, refuse: Callable[[], None], allow: Callable[[], None]) -> None:
    """Refuse space, see that hits go on and puts are counted; allow it, see that puts come back."""
    put(store, entry("before"))
    store.flush()
    refuse()
    for n in range(400):
        store.put(store.next_id(), entry(n, os.urandom(30_000)), None)
        if store.stats.unwritable:
            break
        store.flush()
    assert store.stats.unwritable
    assert not store.put(store.next_id(), entry("dropped"), None)
    assert store.stats.dropped_unwritable >= 2
    assert got(store, "before") == entry("before")
    assert got(store, "dropped") is None
    allow()
    eventually(lambda: not store.stats.unwritable)
    put(store, entry("after"))
    store.flush()
    assert got(store, "after") == entry("after")
    store.check()


def test_a_refusing_disk_stops_storing_until_it_takes_again(tmp_path: Path) -> None:
    """A limit on the size of files stands for a full disk: writes fail in mid-commit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with opened(tmp_path, StoreSettings(retry_s=0.05)) as store:
        try:
            survives(
                store,
                lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4 << 20, hard)),
                lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard)),
            )
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    mount = tmp_path / "disk"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(mount)]
    if not shutil.which("mount") or subprocess.run(command, check=False).returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        yield mount
    finally:
        subprocess.run(["umount", str(mount)], check=True)


@pytest.mark.parametrize("min_free_bytes", [1, 1 << 20])
def test_a_full_disk_stops_storing_until_space_returns(
    small_disk: Path, min_free_bytes: int
) -> None:
    ballast = small_disk / "ballast"
    settings = StoreSettings(retry_s=0.05, min_free_bytes=min_free_bytes)
    with opened(small_disk, settings) as store:
        survives(store, lambda: fill_up(ballast), ballast.unlink)


def fill_up(ballast: Path) -> None:
    with open(ballast, "wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(1 << 12)):
            pass


def test_a_purge_wins_on_a_full_disk(small_disk: Path) -> None:
    with opened(small_disk, StoreSettings(retry_s=0.05, min_free_bytes=1)) as store:
        put(store, *(entry(n, os.urandom(20_000)) for n in range(150)))
        store.flush()
        fill_up(small_disk / "ballast")
        swept(store, Purger()(Purge(label="model:m"))).result()
        assert [got(store, n) for n in range(150)] == [None] * 150
        store.check()
