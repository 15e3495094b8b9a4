"""Purges in any order, any number of times: the same answers live, everywhere."""

from dataclasses import replace
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from index.clock import at, wall_of
from index.entry import Entry, NodeName, Purge, Purged, Scope, Seen, Timestamp, Version
from index.generations import AHEAD_MAX, FOREIGN_S, SEEN_KEPT_S, Generations
from tests.fakes.entries import NOW, SHARED, entry, key

A, B = NodeName("a"), NodeName("b")
EVERYTHING = Purge()


def purged(by: NodeName, version: int, previous: int = 0, purge: Purge = EVERYTHING) -> Purged:
    return Purged(purge, by, Version(version), Version(previous))


def knowing(*seen: tuple[NodeName, int]) -> Entry:
    return replace(entry("q"), seen=tuple((by, Version(version)) for by, version in seen))


# What a fetch began with decides.


def test_who_knew_of_a_purge_lives_and_who_did_not_is_dead() -> None:
    table = Generations()
    assert not table.dead(knowing())
    assert table.merge(purged(A, 5))
    assert table.seen == ((A, 5),)
    assert table.dead(knowing())
    assert table.dead(knowing((A, 4)))
    assert not table.dead(knowing((A, 5)))
    assert not table.dead(knowing((A, 5), (B, 3)))
    assert table.dead(knowing((B, 9))), "versions of two nodes are never compared"


def test_a_purge_of_another_fleet_covers_what_this_one_fetched_before_it_by_the_clocks() -> None:
    table = Generations()
    moment = at(NOW)
    table.merge(replace(purged(A, moment), foreign_to=frozenset((B, NodeName("c")))))

    def fetched(after_s: float, by: str = "b", *labels: str, seen: Seen = ()) -> Entry:
        version = at(Timestamp(NOW + after_s))
        told = replace(knowing(*seen), stored_by=NodeName(by), labels=labels)
        return replace(told, version=version)

    assert table.dead(fetched(-1.0))
    assert table.dead(fetched(FOREIGN_S)), "clocks differ, and fetches take their time"
    assert not table.dead(fetched(FOREIGN_S + 1.0))
    assert not table.dead(fetched(FOREIGN_S + 1.0, "c", "by:b", "news"))
    assert not table.dead(fetched(FOREIGN_S + 1.0, seen=((A, Version(5)),)))
    assert not table.dead(fetched(-1.0, seen=((A, moment),)))
    assert table.dead(fetched(FOREIGN_S + 1.0, "x")), "of that fleet, and it did not note it"
    assert table.dead(fetched(FOREIGN_S + 1.0, "b", "by:x"))


def test_told_twice_is_told_once() -> None:
    table = Generations()
    assert table.merge(purged(A, 5))
    changes, seen = table.changes, table.seen
    assert not table.merge(purged(A, 5))
    assert (table.changes, len(table)) == (changes, 1)
    assert table.seen is seen, "one tuple for all who note it"


def test_labels_scopes_and_keys_narrow() -> None:
    one = replace(
        entry("q", model="gpt", scope=Scope("tenant:a")), stored_by=A, labels=("news", "route:x*")
    )
    covering = [
        Purge(),
        Purge(scope=Scope("tenant:a")),
        Purge(key=key("q")),
        Purge(scope=Scope("tenant:a"), label="news", key=key("q")),
        *(Purge(label=label) for label in ("news", "route:x*", "model:gpt", "by:a")),
    ]
    others = [
        Purge(scope=SHARED),
        Purge(key=key("r")),
        Purge(scope=SHARED, key=key("q")),
        *(Purge(label=label) for label in ("new", "gpt", "model:gp", "by:b", "model:", "")),
        Purge(label="news", key=key("r")),
    ]
    for purge in (*covering, *others):
        table = Generations()
        table.merge(purged(B, 1, purge=purge))
        assert table.dead(one) == purge.covers(one) == (purge in covering), purge


def test_a_gap_confirms_nothing_and_is_closed() -> None:
    table = Generations()
    assert table.merge(purged(A, 9, previous=5))
    assert not table.seen
    assert table.known == ((A, 9),), "what is fetched from now on is fetched after 5, too"
    assert not table.dead(replace(knowing(), seen=table.known))
    assert table.dead(knowing()), "applied at once"
    assert table.dead(knowing((A, 5)))
    assert not table.dead(knowing((A, 9)))
    assert table.merge(purged(A, 12, previous=9))
    assert table.merge(purged(A, 5, purge=Purge(key=key("r"))))
    assert table.seen == ((A, 12),)
    assert table.known is table.seen
    assert not table.dead(knowing((A, 12)))


def test_a_whole_table_closes_gaps() -> None:
    table, other = Generations(), Generations()
    for version in (3, 4, 8):
        other.merge(purged(A, version, previous=0 if version == 3 else version - 1))
    other.adopt(((A, Version(8)),))
    for one in other.purges():
        table.merge(one)
    assert not table.seen
    table.adopt(other.seen)
    assert table.seen == other.seen == ((A, 8),)
    assert not table.dead(knowing((A, 8)))
    assert table.dead(knowing((A, 7)))


def test_a_soft_purge_dates_and_does_not_kill() -> None:
    table = Generations()
    early, late = (at(Timestamp(NOW + s)) for s in (1, 5))
    table.merge(Purged(Purge(label="model:m"), A, early, soft=True))
    table.merge(Purged(Purge(), B, late, soft=True))
    assert not table.dead(knowing())
    assert table.stale_at(knowing()) == NOW + 1
    assert table.stale_at(knowing((A, early))) == NOW + 5
    assert table.stale_at(knowing((A, early), (B, late))) is None
    table.merge(Purged(Purge(), A, Version(late + 1), early))
    assert table.dead(knowing((A, early)))


def test_a_soft_purge_by_a_clock_that_is_ahead_holds_at_once() -> None:
    table = Generations()
    table.merge(Purged(Purge(), A, at(Timestamp(NOW + 50)), soft=True))
    assert not table.fresh(knowing(), NOW)
    assert not table.dead(knowing())
    assert table.fresh(replace(knowing(), seen=table.known), NOW)


def test_what_was_taken_for_applied_and_was_not_is_applied_when_it_comes() -> None:
    table = Generations()
    table.merge(purged(A, 5, purge=Purge(label="news")))
    # Its node forgot 7, as its disk is an old one, and went on from 5.
    table.merge(purged(A, 9, previous=5, purge=Purge(label="sport")))
    assert table.seen == ((A, 9),)
    one = replace(knowing((A, 5)), labels=("art",))
    assert not table.dead(one)
    lost = purged(A, 7, previous=5, purge=Purge(label="art"))
    assert table.merge(lost)
    assert table.dead(one)
    assert table.seen == ((A, 9),)
    assert not table.merge(lost)
    assert not table.merge(purged(A, 6, previous=5, purge=Purge(label="art")))
    assert not table.dead(replace(one, seen=table.seen))


def test_of_the_same_purge_repeated_one_is_kept() -> None:
    table = Generations()
    for version in range(1, 1_000):
        table.merge(purged(A, version, previous=version - 1, purge=Purge(label="news")))
    assert len(table) == 1
    assert table.seen == ((A, 999),)


def test_who_invents_gaps_has_its_purges_applied_and_no_more_of_them_remembered() -> None:
    table = Generations()
    acts = [
        purged(A, 3 * number, 3 * number - 1, Purge(key=key(number))) for number in range(1, 2_000)
    ]
    for act in acts:
        assert table.merge(act)
        assert not table.merge(act), "told twice is told once"
    assert repr(table) == f"<Generations {len(acts)} purges of 1 nodes, {AHEAD_MAX} gaps>"
    assert not table.seen
    assert table.known == ((A, acts[-1].version),)
    covered = [replace(knowing(), key=key(number)) for number in (1, 1_999)]
    assert all(table.dead(one) for one in covered)
    assert not any(table.dead(replace(one, seen=table.known)) for one in covered)
    table.adopt(((A, acts[-1].version),))
    assert repr(table).endswith(" 0 gaps>")
    assert table.merge(purged(A, 6_001, acts[-1].version))
    assert table.seen == ((A, 6_001),)


def test_what_follows_is_counted_however_many_wait_beyond_a_gap() -> None:
    table = Generations()
    for version in range(1_000, 1_000 + 2 * AHEAD_MAX, 2):
        table.merge(purged(A, version, version - 1))
    assert table.merge(purged(A, 5))
    assert table.seen == ((A, 5),)


# What is forgotten.


def test_what_is_old_is_forgotten_and_does_not_come_back() -> None:
    table = Generations()
    old, young = at(NOW), at(Timestamp(NOW + 100))
    table.merge(purged(A, old))
    table.merge(purged(B, young))
    table.forget(Timestamp(NOW + 50))
    assert len(table) == 1
    assert not table.dead(knowing((B, young)))
    assert dict(table.seen) == {A: old, B: young}, "for those who have not forgotten yet"
    table.forget(Timestamp(NOW + 50 + SEEN_KEPT_S))
    assert dict(table.seen) == {B: young}
    assert not table.merge(purged(A, old)), "what it covered has expired"
    later = at(Timestamp(NOW + 60 + SEEN_KEPT_S))
    assert table.merge(purged(A, later, previous=old))
    assert dict(table.seen) == {A: later, B: young}, "what came before left no gap"


def test_when_there_are_too_many_the_oldest_go_and_take_the_answers_with_them() -> None:
    table = Generations(purges_max=32)
    for version in range(1, 34):
        table.merge(purged(A, version, version - 1, Purge(key=key(version))))
    assert len(table) <= 32
    assert table.dead(knowing((A, 2))), "who knows what it was covered by?"
    other = Generations()
    for one in table.purges():
        other.merge(one)
    other.adopt(table.seen)
    assert other.dead(knowing((A, 2))), "nor does who is told the table"
    assert not table.dead(knowing((A, 33)))
    assert table.seen == ((A, 33),)


# Any order.

NODES = [NodeName(name) for name in ("a", "b", "c")]
PURGES = st.builds(
    Purge,
    st.sampled_from([None, SHARED, Scope("tenant:a")]),
    st.sampled_from([None, "model:m", "by:a", "news"]),
    st.sampled_from([None, key(0), key(1)]),
)
ACTS = st.lists(st.tuples(st.sampled_from(NODES), PURGES, st.booleans()), min_size=1, max_size=12)


@settings(max_examples=300, deadline=None)
@given(ACTS, st.randoms(use_true_random=False), st.data())
def test_any_order_and_repetition_comes_to_the_same(
    acts: list[tuple[NodeName, Purge, bool]], random: Random, data: st.DataObject
) -> None:
    last: dict[NodeName, Version] = {}
    told: list[Purged] = []
    for number, (by, purge, soft) in enumerate(acts, start=1):
        version = at(Timestamp(NOW + number))
        told.append(Purged(purge, by, version, last.get(by, Version(0)), soft))
        last[by] = version
    entries = [entry_of(data, told, number) for number in range(6)]

    def dead(one: Entry) -> bool:
        """The rule, in one line."""
        return any(
            act.purge.covers(one) and act.version > dict(one.seen).get(act.by, 0)
            for act in told
            if not act.soft
        )

    tables = []
    for _ in range(3):
        order = [*told, *random.choices(told, k=random.randrange(6))]
        random.shuffle(order)
        table = Generations()
        for act in order:
            table.merge(act)
            # Whatever came so far: nothing is alive that what has come so far kills.
            for one in entries:
                assert not table.dead(one) or dead(one)
        assert [table.dead(one) for one in entries] == [dead(one) for one in entries]
        assert table.seen == tuple(sorted(last.items()))
        assert not any(table.dead(replace(one, seen=table.seen)) for one in entries)
        tables.append(table)
    stale = {tuple(table.stale_at(one) for one in entries) for table in tables}
    assert len(stale) == 1
    for one, moment in zip(entries, stale.pop(), strict=True):
        moments = [
            wall_of(act.version)
            for act in told
            if act.soft and act.purge.covers(one) and act.version > dict(one.seen).get(act.by, 0)
        ]
        assert (moment is None) == (not moments)
        assert moment is None or moment in moments


def entry_of(data: st.DataObject, told: list[Purged], number: int) -> Entry:
    """An answer fetched by a node that knew any of what was told."""
    seen: dict[NodeName, Version] = {}
    for by in NODES:
        versions = [act.version for act in told if act.by == by]
        if versions and (version := data.draw(st.none() | st.sampled_from(versions))):
            seen[by] = version
    return replace(
        entry(number % 2, model=data.draw(st.sampled_from(["m", "n"]))),
        scope=data.draw(st.sampled_from([SHARED, Scope("tenant:a")])),
        stored_by=data.draw(st.sampled_from(NODES)),
        labels=data.draw(st.sampled_from([(), ("news",), ("news", "sport")])),
        seen=tuple(sorted(seen.items())),
    )
