"""Answers and purges from other nodes: the last writer wins, and nothing dead is let in."""

import os
from collections.abc import Iterator
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from random import Random
from threading import Event

import pytest

from index.acceptance import AHEAD_MAX_S, Accepted
from index.answers import Answers
from index.decision import DecisionSettings
from index.entry import (
    LABEL_CHARS_MAX,
    LABELS_TOLD_MAX,
    TTL_MAX_S,
    CacheKey,
    Entry,
    NodeName,
    Purge,
    Purged,
    Scope,
    Timestamp,
    Version,
)
from index.memory import MemorySettings
from index.store import StoreSettings
from tests.fakes.entries import DIMENSIONS, NOW, SHARED, Purger, entry, key

A, B = NodeName("a"), NodeName("b")
EVERYTHING = Purge()


@pytest.fixture
def answers(tmp_path: Path) -> Iterator[Answers]:
    opened = open_(tmp_path)
    yield opened
    opened.check()
    opened.close()


def open_(directory: Path, memory: MemorySettings | None = None) -> Answers:
    opened = Answers.open(
        directory, StoreSettings(), memory or MemorySettings(), DecisionSettings()
    )
    opened.similar.load("e", DIMENSIONS)
    return opened


def hold(answers: Answers, held: Event, free: Event) -> None:
    """Have the writer wait until it is free."""

    def wait() -> None:
        held.set()
        free.wait()

    answers._store.aside(wait)
    held.wait()


def test_what_comes_while_an_older_answer_is_looked_at_stays(
    answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An import runs on a thread beside the event loop, which stores what is fetched meanwhile."""
    look = answers._held

    def meanwhile(scope: Scope, key: CacheKey) -> Entry | None:
        found = look(scope, key)
        answers.put(of(A, 9), None)
        return found

    monkeypatch.setattr(answers, "_held", meanwhile)
    assert answers.accept(of(B, 5), NOW) is Accepted.OLDER
    assert body(answers) == b"9 of a"


def of(by: NodeName, version: int, name: str = "q", **fields: object) -> Entry:
    made = entry(name, f"{version} of {by}".encode())
    return replace(made, stored_by=by, version=Version(version), **fields)  # type: ignore[arg-type]


def body(answers: Answers, name: str = "q") -> bytes | None:
    hot = answers.recall(SHARED, key(name), NOW)
    found = hot.entry if hot else answers.fetch(SHARED, key(name), NOW)
    return found.body if found else None


# The last writer wins.


def test_in_any_order_the_last_writer_wins(tmp_path: Path) -> None:
    told = [of(A, 5), of(B, 5), of(A, 7), of(B, 6)]
    for number, order in enumerate(permutations(told)):
        if number % 4:
            continue
        answers = open_(tmp_path / str(number))
        for one in order:
            answers.accept(one, NOW)
            assert answers.accept(one, NOW) == Accepted.OLDER, "told twice is told once"
        assert body(answers) == b"7 of a"
        assert answers.newest(SHARED, key("q")) == (7, A)
        answers.close()


@pytest.mark.parametrize("kept", ["memory", "queue", "disk"])
def test_an_older_one_is_seen_to_be_older_wherever_the_newer_one_is(
    tmp_path: Path, kept: str
) -> None:
    memory = MemorySettings(max_bytes=1 if kept != "memory" else 1 << 20, entry_share=1)
    answers, held, free = open_(tmp_path, memory), Event(), Event()
    if kept == "queue":
        hold(answers, held, free)
    assert answers.accept(of(A, 7), NOW) == Accepted.STORED
    if kept != "queue":
        answers.flush()
    assert answers.accept(of(A, 6), NOW) == Accepted.OLDER
    assert answers.accept(of(B, 7), NOW) == Accepted.STORED
    free.set()
    answers.flush()
    assert body(answers) == b"7 of b"
    answers.close()


def test_what_was_fetched_here_is_replaced_by_what_is_newer_only(answers: Answers) -> None:
    assert answers.put(of(A, 7), None)
    assert answers.accept(of(B, 6), NOW) == Accepted.OLDER
    assert answers.accept(of(B, 8), NOW) == Accepted.STORED
    assert body(answers) == b"8 of b"


def test_a_dead_one_stands_in_nobodys_way(answers: Answers) -> None:
    purged = Purger()(EVERYTHING)
    answers.accept(of(A, 9), NOW)
    answers.merge(purged)
    assert answers.newest(SHARED, key("q")) is None
    knowing = of(B, 3, seen=((purged.by, purged.version),))
    assert answers.accept(knowing, NOW) == Accepted.STORED
    assert body(answers) == b"3 of b"


# What is not let in.


def test_what_no_honest_node_says_is_not_let_in(answers: Answers) -> None:
    good = of(A, 1, stored_at=Timestamp(NOW + AHEAD_MAX_S), expires_at=Timestamp(NOW + TTL_MAX_S))
    for spoilt in (
        {"expires_at": Timestamp(NOW + 61 + TTL_MAX_S)},
        {"expires_at": Timestamp(float("nan"))},
        {"expires_at": Timestamp(float("inf"))},
        {"stored_at": Timestamp(NOW + AHEAD_MAX_S + 1)},
        {"labels": ("x",) * (LABELS_TOLD_MAX + 1)},
        {"labels": ("x" * (LABEL_CHARS_MAX + 1),)},
        {"body": bytes(StoreSettings().entry_max_bytes + 1)},
    ):
        assert answers.accept(replace(good, **spoilt), NOW) == Accepted.UNFIT
    past = replace(good, stored_at=Timestamp(NOW - 10), expires_at=NOW)
    assert answers.accept(past, NOW) == Accepted.EXPIRED
    assert answers.accept(good, NOW) == Accepted.STORED


def test_no_copy_lives_longer_than_the_first(answers: Answers) -> None:
    answers.accept(of(A, 1, expires_at=Timestamp(NOW + 5)), NOW)
    assert answers.recall(SHARED, key("q"), Timestamp(NOW + 4.9)) is not None
    assert answers.recall(SHARED, key("q"), Timestamp(NOW + 5)) is None


def test_what_was_purged_elsewhere_is_dead_on_arrival(answers: Answers) -> None:
    purger = Purger()
    first, second = purger(EVERYTHING), purger(Purge(label="news"))
    answers.merge(second)
    news = of(A, 1, labels=("news",))
    assert answers.accept(news, NOW) == Accepted.DEAD
    assert answers.accept(of(A, 1, name="r"), NOW) == Accepted.STORED
    answers.merge(first)
    assert body(answers, "r") is None
    assert answers.seen == ((first.by, second.version),)
    assert answers.accept(replace(news, seen=answers.seen), NOW) == Accepted.STORED


# A purge is true at once.


def test_a_purge_is_true_before_it_is_swept(tmp_path: Path) -> None:
    """For memory, disk and meaning alike, while the writer is busy with something else."""
    answers, held, free = open_(tmp_path), Event(), Event()
    kept = replace(entry("kept"), labels=("weather",))
    for one in (entry("q"), kept):
        answers.put(one, None)
    answers.flush()
    hold(answers, held, free)
    purged = Purger()(Purge(key=key("q")))
    assert answers.merge(purged)
    assert not answers.merge(purged)
    assert body(answers) is None
    assert body(answers, "kept") is not None
    assert answers.dead(entry("q"))
    free.set()
    assert answers.purge(purged) == 1, "what the sweep removed that was begun by `merge`"
    assert answers.stats.store.entries == 1
    answers.close()


def test_a_table_is_restored_before_anything_is_served(tmp_path: Path) -> None:
    """Killed between a purge and its sweep, a node does not serve what is on its disk."""
    answers = open_(tmp_path)
    for name in ("q", "r"):
        answers.put(entry(name, scope=Scope("tenant:a")), None)
    answers.close()
    purger = Purger()
    told = [purger(Purge(label=f"none-{n}")) for n in range(20)]
    told += [purger(Purge(scope=Scope("tenant:a"), key=key("q")))]
    again = open_(tmp_path)
    again.restore(told)
    assert again.fetch(Scope("tenant:a"), key("q"), NOW) is None
    assert again.fetch(Scope("tenant:a"), key("r"), NOW) is not None
    again.flush()
    assert again.stats.store.entries == 1, "and it leaves the disk"
    again.close()


def test_counts_are_of_each_purge_alone(answers: Answers) -> None:
    for n in range(30):
        labels = ("news", "sport") if n % 3 else ("sport",)
        answers.put(replace(entry(n), labels=labels), None)
    answers.flush()
    purger = Purger()
    assert answers.count(Purge(label="news")) == 20
    assert answers.count(Purge(label="model:m")) == answers.count(EVERYTHING) == 30
    news, sport = purger(Purge(label="news")), purger(Purge(label="sport"))
    for one in (news, sport):
        answers.merge(one)
    assert (answers.purge(news), answers.purge(sport)) == (20, 10)


def test_labels_that_look_alike_are_told_apart(answers: Answers) -> None:
    """The file is looked through for the bytes of a label; what is found is then read."""
    for name, labels in {"q": ("news",), "r": ("newspaper",), "s": ("x", "breaking-news")}.items():
        answers.put(replace(entry(name), labels=labels, stored_by=A), None)
    answers.put(replace(entry("t", model="news"), stored_by=B), None)
    answers.flush()
    purger = Purger()
    assert answers.count(Purge(label="news")) == 1
    assert answers.purge(purger(Purge(label="news"))) == 1
    assert answers.purge(purger(Purge(label="by:b"))) == 1
    assert {name for name in "qrst" if body(answers, name)} == {"r", "s"}


# Soft purges.


def test_a_soft_purge_makes_stale_and_removes_nothing(answers: Answers) -> None:
    answers.put(entry("q"), None)
    answers.flush()
    hot = answers.recall(SHARED, key("q"), NOW)
    assert hot is not None
    assert answers.purge(Purger()(Purge(label="model:m"), soft=True)) == 1
    assert answers.recall(SHARED, key("q"), NOW) is None
    assert answers.fetch(SHARED, key("q"), NOW) is None
    assert answers.stats.store.entries == 1
    assert answers.put(replace(entry("q"), seen=answers.begin()), None)
    assert body(answers) is not None


def test_what_a_soft_purge_elsewhere_made_stale_is_not_taken_for_fresh(answers: Answers) -> None:
    answers.merge(Purger()(EVERYTHING, soft=True))
    assert answers.accept(of(A, 1), NOW) == Accepted.EXPIRED


# Any order of everything.


@pytest.mark.parametrize("seed", range(int(os.environ.get("ACCEPT_SEEDS", "12"))))
def test_nodes_that_heard_the_same_hold_the_same(tmp_path: Path, seed: int) -> None:
    """Whatever the order, however often: of each key the last, if no purge that it did not know of
    covers it. When one does, an earlier one that lives may have been refused before: a miss."""
    random = Random(seed)
    purgers = {by: Purger(by) for by in (A, B)}
    labels = [(), ("news",), ("news", "sport")]
    history: list[Purged | Entry] = []
    for version in range(1, 25):
        by = random.choice([A, B])
        if random.random() < 0.3:
            label = random.choice([None, "news", "sport", f"by:{by}"])
            name = random.choice([None, key(0)])
            history.append(purgers[by](Purge(label=label, key=name)))
        else:
            known = [one for one in history if isinstance(one, Purged) and random.random() < 0.7]
            seen = {one.by: one.version for one in known}
            one = replace(
                of(by, version, str(random.randrange(3))),
                labels=random.choice(labels),
                seen=tuple(sorted(seen.items())),
            )
            history.append(one)
    purges = [one for one in history if isinstance(one, Purged)]
    entries = [one for one in history if isinstance(one, Entry)]
    living = [one for one in entries if not any(purged.reaches(one) for purged in purges)]
    last = {one.key: one for one in entries}
    for node in range(2):
        small = MemorySettings(max_bytes=4_000 if node else 1 << 20, entry_share=1)
        answers = open_(tmp_path / str(node), small)
        order = [*history, *random.choices(history, k=10)]
        random.shuffle(order)
        for told in order:
            if isinstance(told, Purged):
                answers.merge(told)
            else:
                answers.accept(told, NOW)
            if random.random() < 0.2:
                answers.flush()
        for n in range(3):
            found, wanted = body(answers, str(n)), last.get(key(n))
            if wanted in living:
                assert wanted is not None
                assert found == wanted.body
            else:
                assert found is None or found in [one.body for one in living]
        answers.check()
        answers.close()
