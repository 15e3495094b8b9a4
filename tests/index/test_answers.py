"""Memory, store and vectors in step: against a model, and in the races that purges bring."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from index.answers import Answers
from index.decision import DecisionSettings, Match, Miss
from index.entry import CacheKey, Entry, PartitionKey, Purge, Purged, Question, Scope, Timestamp
from index.memory import MemorySettings
from index.reading import read
from index.store import StoreSettings
from tests.fakes.entries import (
    DIMENSIONS,
    NOW,
    PARTITION,
    SHARED,
    Purger,
    as_after_kill,
    entry,
    key,
    vector,
)

A, B = Scope("tenant:a"), Scope("tenant:b")
QUESTION = "what is the capital of france?"


@contextmanager
def opened(directory: Path, memory: MemorySettings | None = None) -> Iterator[Answers]:
    answers = Answers.open(
        directory, StoreSettings(), memory or MemorySettings(), DecisionSettings()
    )
    try:
        answers.similar.load("e", DIMENSIONS)
        yield answers
    finally:
        answers.close()


def put(answers: Answers, one: Entry, axis: int = 0) -> None:
    assert answers.put(one, vector(axis))


def ask(answers: Answers, scope: Scope = SHARED, partition: PartitionKey = PARTITION) -> object:
    return answers.similar.find(scope, Question(partition, QUESTION), vector(0), NOW, "all")


def remembers(answers: Answers, name: str | int, scope: Scope = SHARED) -> bool:
    in_memory = answers.recall(scope, key(name), NOW)
    on_disk = answers.fetch(scope, key(name), NOW)
    return in_memory is not None or on_disk is not None


# A day in the life.


def test_put_is_recalled_at_once_and_found_by_meaning_soon(tmp_path: Path) -> None:
    one = entry("q", question=QUESTION)
    with opened(tmp_path) as answers:
        put(answers, one)
        hot = answers.recall(SHARED, one.key, NOW)
        assert hot is not None
        assert hot.entry is one
        answers.flush()
        match = ask(answers)
        assert isinstance(match, Match)
        assert (match.entry, match.kind) == (one, "semantic")
        assert match.similarity > 0.99
        answers.check()


def test_what_waits_to_be_written_is_found_by_meaning(tmp_path: Path) -> None:
    """Who asks again at once, in other words, does not wait for the disk: the newest is found."""
    patient = StoreSettings(linger_s=60.0)
    answers = Answers.open(tmp_path, patient, MemorySettings(), DecisionSettings())
    answers.similar.load("e", DIMENSIONS)
    first = entry("q", question=QUESTION)
    second = replace(first, body=b"second")
    for one in (first, second):
        put(answers, one)
        match = ask(answers)
        assert isinstance(match, Match)
        assert match.entry is one
    assert isinstance(ask(answers, partition=PartitionKey(b"other")), Miss)
    answers.flush()
    refreshed = replace(first, body=b"third")
    put(answers, refreshed)
    match = ask(answers)
    assert isinstance(match, Match)
    assert match.entry is refreshed
    assert answers.purge(Purger()(Purge())) == 1
    assert isinstance(ask(answers), Miss)
    answers.close()


def test_a_restart_knows_it_all(tmp_path: Path) -> None:
    one = entry("q", question=QUESTION)
    with opened(tmp_path) as answers:
        put(answers, one)
    answers = Answers.open(tmp_path, StoreSettings(), MemorySettings(), DecisionSettings())
    assert answers.fetch(SHARED, one.key, NOW) == one
    assert ask(answers) == Miss("warming")
    answers.similar.load("e", DIMENSIONS)
    assert answers.similar.ready
    assert isinstance(ask(answers), Match)
    assert answers.report()["vectors_loaded"] == 1
    answers.check()
    answers.close()


def test_rules_may_have_changed_since_a_question_was_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path) as answers:
        put(answers, entry("q", question=QUESTION))
    monkeypatch.setattr("index.reading._FINGERPRINT", bytes(32))
    read.cache_clear()
    with opened(tmp_path) as answers:
        assert isinstance(ask(answers), Match)
        read.cache_clear()
        assert isinstance(ask(answers), Match)
        answers.check()


def test_memory_is_filled_with_the_hottest(tmp_path: Path) -> None:
    with opened(tmp_path) as answers:
        for n in range(60):
            put(answers, entry(n, b"x" * 2_000))
        for n in range(5):
            hot = answers.recall(SHARED, key(n), NOW)
            assert hot is not None
            answers.touch(hot)
        put(answers, entry("stale", ttl_s=5))
    with opened(tmp_path, MemorySettings(max_bytes=40_000, entry_share=0.25)) as answers:
        assert 5 < answers.warm_memory(Timestamp(NOW + 10)) < 20
        held = [n for n in range(60) if answers.recall(SHARED, key(n), NOW)]
        assert set(range(5)) <= set(held)
        assert answers.recall(SHARED, key("stale"), NOW) is None
        answers.check()


def test_what_was_fetched_is_then_in_memory(tmp_path: Path) -> None:
    one = entry("q")
    with opened(tmp_path) as answers:
        put(answers, one)
    with opened(tmp_path) as answers:
        assert answers.recall(SHARED, one.key, NOW) is None
        fetched = answers.fetch(SHARED, one.key, NOW)
        assert fetched == one
        hot = answers.recall(SHARED, one.key, NOW)
        assert hot is not None
        assert hot is answers.keep(fetched)
        hot.attach("events", b"data: ...")
        again = answers.recall(SHARED, one.key, NOW)
        assert again is not None
        assert again.forms == {"events": b"data: ..."}
        assert answers.fetch(SHARED, one.key, one.expires_at) is None
        assert answers.keep(entry("elsewhere")).id == 0


def test_a_vector_that_is_none_is_not_stored(tmp_path: Path) -> None:
    with opened(tmp_path) as answers:
        for axis, spoilt in enumerate([vector(0) * 2, vector(0) * float("nan"), vector(0)[:3]]):
            one = entry(axis, question=QUESTION)
            assert answers.put(one, spoilt)
        answers.flush()
        assert ask(answers) == Miss("no-candidate")
        answers.check()


def test_a_replaced_answer_is_not_found_by_meaning_any_more(tmp_path: Path) -> None:
    with opened(tmp_path) as answers:
        put(answers, entry("q", b"old", question=QUESTION))
        put(answers, entry("q", b"new", question=QUESTION))
        answers.flush()
        match = ask(answers)
        assert isinstance(match, Match)
        assert match.entry.body == b"new"
        assert answers.stats.vectors == 1
        answers.check()


# The border.


def test_another_scope_or_partition_finds_nothing(tmp_path: Path) -> None:
    with opened(tmp_path) as answers:
        put(answers, entry("q", scope=A, question=QUESTION))
        answers.flush()
        assert isinstance(ask(answers, A), Match)
        # The partition key holds the scope. Were it ever wrong, the entry itself is asked again.
        assert ask(answers, B) == Miss("no-candidate")
        assert answers.stats.refused == 1
        assert ask(answers, A, PartitionKey(b"other" * 6)) == Miss("no-candidate")
        assert answers.recall(B, key("q"), NOW) is None
        assert answers.fetch(B, key("q"), NOW) is None


# Purges.


def test_purged_is_gone_from_everywhere(tmp_path: Path) -> None:
    with opened(tmp_path / "alive") as answers:
        put(answers, entry("q", scope=A, question=QUESTION))
        put(answers, entry("r", scope=B, question=QUESTION, partition=PartitionKey(b"b")))
        answers.flush()
        put(answers, entry("s", scope=A))  # still on its way to disk
        assert answers.count(Purge(scope=B)) == 1
        assert answers.purge(Purger()(Purge(scope=A))) == 2
        assert not remembers(answers, "q", A)
        assert not remembers(answers, "s", A)
        assert ask(answers, A) == Miss("no-candidate")
        assert remembers(answers, "r", B)
        answers.check()
        copy = as_after_kill(tmp_path / "alive", tmp_path / "copy")
    with opened(copy) as answers:
        assert not remembers(answers, "q", A)
        assert not remembers(answers, "s", A)
        assert remembers(answers, "r", B)


def test_an_answer_on_its_way_since_before_a_purge_is_not_kept(tmp_path: Path) -> None:
    with opened(tmp_path) as answers:
        seen = answers.begin()
        answers.purge(Purger()(Purge(label="model:m")))
        assert not answers.put(entry("q", seen=seen), None)
        assert not remembers(answers, "q")
        assert answers.put(entry("q", model="other", seen=seen), None)
        assert answers.put(entry("r", seen=answers.begin()), None)
        assert remembers(answers, "r")


def test_a_row_read_before_a_purge_does_not_come_back_after_it(tmp_path: Path) -> None:
    """The schedule at the head of index/generations.py, forced."""
    with opened(tmp_path) as answers:
        put(answers, entry("q"))
    with opened(tmp_path) as answers:
        read, purged = Event(), Event()
        get = answers._store.get

        def slow_get(scope: Scope, wanted: CacheKey) -> object:
            found = get(scope, wanted)
            read.set()
            purged.wait()
            return found

        answers._store.get = slow_get  # type: ignore[method-assign, assignment]
        results: list[object] = []
        worker = Thread(target=lambda: results.append(answers.fetch(SHARED, key("q"), NOW)))
        worker.start()
        read.wait()
        assert answers.purge(Purger()(Purge())) == 1
        purged.set()
        worker.join()
        assert results == [None]
        assert answers.recall(SHARED, key("q"), NOW) is None


def test_a_fetch_during_a_purge_does_not_outlive_it(tmp_path: Path) -> None:
    """1. a purge begins  2. a worker reads the row  3. the row is deleted, the purge returns."""
    with opened(tmp_path) as answers:
        put(answers, entry("q"))
    with opened(tmp_path) as answers:
        held, free = Event(), Event()

        def hold() -> None:
            held.set()
            free.wait()

        answers._store._writer.run(hold)
        held.wait()
        purger = Thread(target=answers.purge, args=[Purger()(Purge())])
        purger.start()
        while not answers.begin():
            held.wait(0.001)
        fetched = answers.fetch(SHARED, key("q"), NOW)
        put(answers, entry("r", seen=answers.begin()))
        free.set()
        purger.join()
        assert fetched is None
        assert answers.recall(SHARED, key("q"), NOW) is None
        assert remembers(answers, "r"), "put after the purge began"


def test_what_is_in_memory_alone_is_purged_as_well(tmp_path: Path) -> None:
    answers = Answers.open(
        tmp_path, StoreSettings(entry_max_bytes=10), MemorySettings(), DecisionSettings()
    )
    assert not answers.put(entry("q", b"x" * 11), None)
    assert answers.recall(SHARED, key("q"), NOW) is not None
    assert answers.purge(Purger()(Purge())) == 1
    assert not remembers(answers, "q")
    answers.close()


# Against a model. A store may forget; it may not invent.

SCOPES = st.sampled_from([SHARED, A, B])
TOPICS = ["france", "spain", "poland", "norway", "kenya", "peru"]
NAMES = st.integers(0, len(TOPICS) - 1)
MODELS = st.sampled_from(["m", "n"])


def partition_of(scope: Scope) -> PartitionKey:
    return PartitionKey(scope.encode().ljust(32))


class AnswersAgainstDict(RuleBasedStateMachine):
    @initialize(small=st.booleans())
    def open(self, small: bool) -> None:
        self.directory = Path(tempfile.mkdtemp())
        self.memory = MemorySettings(max_bytes=6_000 if small else 1 << 20, entry_share=0.5)
        self.now = NOW
        self.version = 0
        self.model: dict[tuple[Scope, CacheKey], Entry] = {}
        self.purger = Purger()
        self.told: list[Purged] = []
        self.on_their_way: list[Entry] = []
        self.start()

    def start(self) -> None:
        # The real clock deletes what expired, an hour late: far from what these times say.
        self.answers = Answers.open(
            self.directory, StoreSettings(), self.memory, DecisionSettings()
        )
        self.answers.similar.load("e", DIMENSIONS)
        self.answers.restore(self.told)

    def entry(self, scope: Scope, name: int, model: str, ttl_s: float) -> Entry:
        self.version += 1
        return entry(
            name,
            f"{self.version} for {scope} only".encode(),
            scope=scope,
            model=model,
            stored_at=self.now,
            ttl_s=ttl_s,
            question=f"what is the capital of {TOPICS[name]}?",
            partition=partition_of(scope),
            seen=self.answers.begin(),
        )

    @rule(scope=SCOPES, name=NAMES, model=MODELS, ttl_s=st.sampled_from([10, 1_000]))
    def put(self, scope: Scope, name: int, model: str, ttl_s: float) -> None:
        one = self.entry(scope, name, model, ttl_s)
        assert self.answers.put(one, vector(name))
        self.model[scope, one.key] = one

    @rule(scope=SCOPES, name=NAMES, model=MODELS)
    def set_out(self, scope: Scope, name: int, model: str) -> None:
        self.on_their_way.append(self.entry(scope, name, model, 1_000))

    @rule()
    def arrive(self) -> None:
        if self.on_their_way:
            one = self.on_their_way.pop()
            if self.answers.put(one, None):
                self.model[one.scope, one.key] = one

    @rule(scope=SCOPES, name=NAMES)
    def recall(self, scope: Scope, name: int) -> None:
        hot = self.answers.recall(scope, key(name), self.now)
        if hot is not None:
            self.true(scope, hot.entry)
            self.answers.touch(hot)

    @rule(scope=SCOPES, name=NAMES)
    def fetch(self, scope: Scope, name: int) -> None:
        found = self.answers.fetch(scope, key(name), self.now)
        known = self.model.get((scope, key(name)))
        fresh = known is not None and known.expires_at > self.now
        assert (found is not None) == fresh, "the file has room for all of this"
        if found is not None:
            self.true(scope, found)

    @rule(scope=SCOPES, name=NAMES)
    def similar(self, scope: Scope, name: int) -> None:
        asked = Question(partition_of(scope), f"what is the capital of {TOPICS[name]}?")
        found = self.answers.similar.find(scope, asked, vector(name), self.now, "all")
        if isinstance(found, Match):
            assert found.entry.question == asked
            self.true(scope, found.entry)

    def true(self, scope: Scope, found: Entry) -> None:
        assert found.scope == scope
        assert found == self.model.get((scope, found.key)), "invented, purged or replaced"
        assert found.expires_at > self.now

    @rule(
        scope=st.none() | SCOPES,
        label=st.none() | MODELS.map("model:{}".format),
        name=st.none() | NAMES,
    )
    def purge(self, scope: Scope | None, label: str | None, name: int | None) -> None:
        purge = Purge(scope, label, None if name is None else key(name))
        gone = [where for where, one in self.model.items() if purge.covers(one)]
        assert self.answers.count(purge) == len(gone)
        self.told.append(self.purger(purge))
        counted = self.answers.purge(self.told[-1])
        assert counted == len(gone)
        for where in gone:
            del self.model[where]
        self.on_their_way = [one for one in self.on_their_way if self.outlives(one, purge)]

    def outlives(self, one: Entry, purge: Purge) -> bool:
        if not purge.covers(one):
            return True
        assert not self.answers.put(one, None)
        return False

    @rule()
    def restart(self) -> None:
        self.answers.close()
        self.on_their_way.clear()
        self.start()

    @rule()
    def warm(self) -> None:
        self.answers.warm_memory(self.now)

    @rule(seconds=st.sampled_from([1, 11, 500]))
    def wait(self, seconds: float) -> None:
        self.now = Timestamp(self.now + seconds)

    @rule()
    def check(self) -> None:
        self.answers.check()

    @invariant()
    def bounded(self) -> None:
        if hasattr(self, "answers"):
            assert self.answers.stats.memory.nbytes <= self.memory.max_bytes

    def teardown(self) -> None:
        if hasattr(self, "answers"):
            self.answers.check()
            self.answers.close()
            shutil.rmtree(self.directory)


TestAnswersAgainstDict = AnswersAgainstDict.TestCase
TestAnswersAgainstDict.settings = settings(
    max_examples=int(os.environ.get("STATEFUL_EXAMPLES", "20")),
    stateful_step_count=40,
    deadline=None,
)
