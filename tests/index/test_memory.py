"""The hot tier: bounded, fair between scopes, and not emptied by a scan."""

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from index.entry import Entry, Purge, Scope, Timestamp
from index.memory import OVERHEAD_BYTES, Memory, MemorySettings
from tests.fakes.entries import NOW, SHARED, entry, key

A, B = Scope("tenant:a"), Scope("tenant:b")
BODY = b"x" * 600
COST = OVERHEAD_BYTES + len(BODY)


def room_for(count: int) -> Memory:
    return Memory(MemorySettings(max_bytes=count * COST))


def fill(memory: Memory, scope: Scope, names: range, *, hit: bool = False) -> None:
    for name in names:
        hot = memory.put(name + 1, entry(name, BODY, scope=scope))
        if hit:
            memory.touch(hot)


def held(memory: Memory, scope: Scope, names: range) -> int:
    return sum(memory.get(scope, key(name), NOW) is not None for name in names)


def test_returns_what_was_put_to_its_scope_alone() -> None:
    memory = room_for(10)
    put = entry("q", scope=A)
    memory.put(1, put)
    hot = memory.get(A, key("q"), NOW)
    assert hot is not None
    assert hot.entry is put
    assert memory.get(B, key("q"), NOW) is None


def test_expired_is_a_miss_and_leaves() -> None:
    memory = room_for(10)
    memory.put(1, entry("q", ttl_s=10))
    assert memory.get(SHARED, key("q"), Timestamp(NOW + 9.9)) is not None
    assert memory.get(SHARED, key("q"), Timestamp(NOW + 10)) is None
    assert len(memory) == 0
    memory.check()


def test_a_newer_entry_replaces_and_an_older_one_does_not() -> None:
    memory = room_for(10)
    old, new = entry("q", b"old"), entry("q", b"new")
    memory.put(2, new)
    assert memory.put(1, old).entry is new
    assert memory.put(3, old).entry is old
    memory.check()


def test_a_scan_does_not_displace_what_is_asked_for() -> None:
    memory = room_for(100)
    fill(memory, A, range(60), hit=True)
    fill(memory, A, range(1_000, 3_000))
    assert held(memory, A, range(60)) >= 54
    assert memory.stats.evictions > 1_900


def test_what_comes_back_from_disk_is_proven() -> None:
    memory = room_for(100)
    fill(memory, A, range(100))
    for name in range(200, 250):
        memory.put(name, entry(name, BODY, scope=A), proven=True)
    fill(memory, A, range(1_000, 1_100))
    assert held(memory, A, range(200, 250)) == 50


def test_one_scope_may_fill_the_memory_and_gives_when_others_come() -> None:
    memory = room_for(100)
    fill(memory, A, range(100), hit=True)
    assert held(memory, A, range(100)) == 100
    fill(memory, B, range(1_000, 1_400), hit=True)
    assert 45 <= held(memory, B, range(1_000, 1_400)) <= 55


def test_newcomers_that_nobody_asks_for_again_take_a_tenth() -> None:
    memory = room_for(100)
    fill(memory, A, range(100))
    fill(memory, B, range(1_000, 1_400))
    assert 10 <= held(memory, B, range(1_000, 1_400)) <= 11
    for name in range(2_000, 2_400):  # asked for again: they come from the disk
        memory.put(name, entry(name, BODY, scope=B), proven=True)
    assert 45 <= held(memory, B, range(2_000, 2_400)) <= 55
    memory.check()


def test_a_flood_leaves_a_smaller_scope_alone() -> None:
    memory = room_for(100)
    fill(memory, A, range(40))
    fill(memory, B, range(1_000, 2_000), hit=True)
    assert held(memory, A, range(40)) == 40


def test_an_idle_scope_gives_its_room() -> None:
    memory = room_for(100)
    fill(memory, A, range(40))
    later = NOW + 3_600
    for name in range(1_000, 1_300):
        memory.put(name, entry(name, BODY, scope=B, stored_at=later))
    assert held(memory, B, range(1_000, 1_300)) == 100


def test_renderings_count_and_leave_with_their_entry() -> None:
    memory = room_for(20)
    hot = memory.put(1, entry("q", BODY))
    before = memory.stats.nbytes
    hot.attach("events", (b"e" * 1_000, "etag"))
    assert hot.forms["events"] == (b"e" * 1_000, "etag")
    assert memory.stats.nbytes - before >= 1_000
    hot.attach("json", (hot.entry.body, "etag"))
    assert memory.stats.nbytes - before < 2_000, "the body itself was counted before"
    memory.check()
    memory.remove([1])
    assert memory.stats.nbytes == 0
    hot.attach("late", b"x" * 100)
    assert memory.stats.nbytes == 0
    memory.check()


def test_too_large_is_not_resident() -> None:
    memory = room_for(20)
    hot = memory.put(1, entry("q", b"x" * 20 * COST))
    assert hot.entry.body
    assert memory.get(SHARED, key("q"), NOW) is None
    hot.attach("json", b"y" * 20 * COST)
    assert memory.stats.nbytes == 0


def test_hits_are_reported_once() -> None:
    memory = room_for(20)
    hot, other = memory.put(1, entry("q")), memory.put(2, entry("r"))
    for _ in range(3):
        memory.touch(hot)
    memory.touch(other)
    assert memory.touched() == [(1, 3), (2, 1)]
    assert memory.touched() == []


def test_sweeps_what_is_doomed() -> None:
    memory = room_for(1_000)
    fill(memory, A, range(400))
    fill(memory, B, range(400, 800))
    removed = memory.sweep([Purge(scope=A)], lambda id_, one: one.scope == A and id_ <= 300)
    assert sorted(removed) == list(range(1, 301))
    assert held(memory, A, range(400)) == 100
    assert held(memory, B, range(400, 800)) == 400
    memory.check()


@settings(max_examples=40, deadline=None)
@given(st.randoms(use_true_random=False))
def test_bookkeeping_survives_anything(random: Random) -> None:
    memory = room_for(random.randint(1, 12))
    known: dict[tuple[Scope, bytes], Entry] = {}
    for id_ in range(1, 120):
        scope, name = random.choice([A, B, SHARED]), random.randrange(12)
        match random.randrange(6):
            case 0 | 1:
                put = entry(name, b"x" * random.randrange(3_000), scope=scope)
                memory.put(id_, put, proven=random.random() < 0.3, room_only=random.random() < 0.2)
                known[scope, put.key] = put
            case 2:
                hot = memory.get(scope, key(name), NOW)
                if hot is not None:
                    assert hot.entry == known[scope, hot.entry.key]
                    memory.touch(hot)
            case 3:
                hot = memory.get(scope, key(name), NOW)
                if hot is not None:
                    hot.attach(str(random.randrange(3)), b"f" * random.randrange(2_000))
            case 4:
                memory.remove([random.randrange(1, id_ + 1)])
            case _:
                list(memory.sweep([Purge(scope=scope, key=key(name))], lambda *_: True))
                assert memory.get(scope, key(name), NOW) is None
        memory.check()
