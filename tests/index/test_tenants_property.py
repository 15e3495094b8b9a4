"""No tenant is ever served another's answer, nor anybody what was purged: tried, not argued.

Tenants ask for the same things at the same time, in the worst case under the same cache keys and in
the same partition, so that the scope alone is between them. Every answer carries the canary of
whom it was made for. Memory and file are so small that both evict; the node is restarted and
killed; answers are still on their way when others are purged.

A few dozen histories run each time. Ten thousand, in ten to twenty minutes:

    HYPOTHESIS_PROFILE=nightly TMPDIR=/dev/shm pytest tests/index/test_tenants_property.py
"""

import os
import shutil
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from numpy.typing import NDArray

from index.acceptance import Accepted
from index.answers import Answers
from index.decision import DecisionSettings, Miss
from index.entry import (
    CacheKey,
    Entry,
    NodeName,
    PartitionKey,
    Purge,
    Purged,
    Question,
    Scope,
    Timestamp,
    Version,
)
from index.hints import hint
from index.memory import MemorySettings
from index.store import StoreSettings
from tests.fakes.entries import DIMENSIONS, NOW, Purger, as_after_kill, entry, key, vector

NIGHTLY = os.environ.get("HYPOTHESIS_PROFILE") == "nightly"

SCOPES = [Scope("shared"), *(Scope(f"tenant:{name}") for name in ("a", "b", "ab"))]
TOPICS = ["france", "spain", "poland", "kenya"]
TENANTS = st.sampled_from(SCOPES)
NAMES = st.integers(0, len(TOPICS) - 1)
MODELS = st.sampled_from(["m", "n"])

MEMORY = MemorySettings(max_bytes=9_000, entry_share=0.5)
"""Room for eight small answers of sixteen."""
FILE = StoreSettings(max_bytes=(1 << 20) + 1)
KIND = "all"
"""The class of prompts: one, so that all share one record."""
LARGE_BYTES = 150_000
"""Seven of these are more than the file holds."""


class Tenants(RuleBasedStateMachine):
    @initialize(apart=st.booleans())
    def open(self, apart: bool) -> None:
        """`apart`: partitions hold the scope, as they should; or not, and it must not matter."""
        self.apart = apart
        self.root = Path(tempfile.mkdtemp())
        self.directory = self.root / "first"
        self.directory.mkdir()
        self.now = NOW
        self.made = 0
        self.latest: dict[tuple[Scope, CacheKey], Entry] = {}
        self.purger = Purger()
        self.purges: list[Purged] = []
        self.on_their_way: list[Entry] = []
        self.purged: set[bytes] = set()
        self.served: Counter[str] = Counter()
        self.start()

    def start(self) -> None:
        self.answers = Answers.open(self.directory, FILE, MEMORY, DecisionSettings())
        self.answers.similar.load("one-hot", DIMENSIONS)
        self.answers.restore(self.purges)

    def question(self, scope: Scope, name: int) -> Question:
        partition = scope.encode().ljust(32) if self.apart else b"everybody's".ljust(32)
        return Question(PartitionKey(partition), f"what is the capital of {TOPICS[name]}?")

    def answer(self, scope: Scope, name: int, model: str, nbytes: int = 0) -> Entry:
        self.made += 1
        question = self.question(scope, name)
        return entry(
            name,
            canary(scope) + b"%d." % self.made + bytes(nbytes),
            scope=scope,
            model=model,
            stored_at=self.now,
            ttl_s=1_000,
            question=question.text,
            partition=question.partition,
            seen=self.answers.begin(),
        )

    def sees(self, how: str, scope: Scope, found: Entry) -> None:
        assert found.body.startswith(canary(scope)), f"{how}: another tenant's answer"
        latest = self.latest.get((scope, found.key))
        assert found == latest, f"{how}: purged, or replaced"
        assert found.expires_at > self.now, f"{how}: expired"
        self.served[how] += 1

    # What tenants do.

    def keep(self, one: Entry, name: int) -> None:
        if self.answers.put(one, vector(name)):
            assert one.body not in self.purged, "it was on its way when it was purged"
            self.latest[one.scope, one.key] = one

    @rule(scope=TENANTS, name=NAMES, model=MODELS)
    def put(self, scope: Scope, name: int, model: str) -> None:
        self.keep(self.answer(scope, name, model), name)

    @rule(scope=TENANTS, model=MODELS)
    def flood(self, scope: Scope, model: str) -> None:
        """More than there is room for: others have to leave, or the first of these."""
        for n in range(8):
            one = self.answer(scope, n % len(TOPICS), model, LARGE_BYTES)
            self.keep(renamed(one, f"flood-{n}"), n % len(TOPICS))
            self.answers.flush()

    @rule(scope=TENANTS, name=NAMES, model=MODELS)
    def set_out(self, scope: Scope, name: int, model: str) -> None:
        self.on_their_way.append(self.answer(scope, name, model))

    @rule()
    def arrive(self) -> None:
        if self.on_their_way:
            self.keep(self.on_their_way.pop(0), 0)

    @rule(scope=TENANTS, name=NAMES)
    def recall(self, scope: Scope, name: int) -> None:
        hot = self.answers.recall(scope, key(name), self.now)
        if hot is not None:
            self.sees("recall", scope, hot.entry)
            self.answers.touch(hot)

    @rule(scope=TENANTS, name=NAMES)
    def fetch(self, scope: Scope, name: int) -> None:
        found = self.answers.fetch(scope, key(name), self.now)
        if found is not None:
            self.sees("fetch", scope, found)

    @rule(scope=TENANTS, name=NAMES)
    def similar(self, scope: Scope, name: int) -> None:
        found = self.answers.similar.find(
            scope, self.question(scope, name), vector(name), self.now, KIND, None, embedded
        )
        if not isinstance(found, Miss):
            self.sees("similar", scope, found.entry)

    @rule(scope=TENANTS, name=NAMES)
    def stale(self, scope: Scope, name: int) -> None:
        found = self.answers.stale(scope, key(name))
        if found is not None:
            assert found.body.startswith(canary(scope)), "stale: another tenant's answer"
            assert found == self.latest.get((scope, found.key)), "stale: purged, or replaced"

    @rule(
        scope=TENANTS,
        name=NAMES,
        model=MODELS,
        version=st.integers(1, 9),
        knowing=st.booleans(),
        honest=st.booleans(),
    )
    def told(
        self, scope: Scope, name: int, model: str, version: int, knowing: bool, honest: bool
    ) -> None:
        """Another node fetched it, and knew of all purges or of none; its vector may lie."""
        one = replace(
            self.answer(scope, name, model),
            stored_by=NodeName("b"),
            version=Version(version),
            seen=self.answers.begin() if knowing else (),
        )
        came_with = hint("one-hot", vector(name if honest else name + 1))
        if self.answers.accept(one, self.now, came_with) == Accepted.STORED:
            assert not any(purged.reaches(one) for purged in self.purges)
            self.latest[scope, one.key] = one

    @rule(scope=TENANTS, name=NAMES)
    def explain(self, scope: Scope, name: int) -> None:
        question = self.question(scope, name)
        judged = self.answers.similar.weigh(question, vector(name), KIND)
        for _, found in self.answers.similar.weighed(scope, question, judged):
            assert found.body.startswith(canary(scope)), "explain: another tenant's answer"
            assert found == self.latest.get((scope, found.key)), "explain: purged, or replaced"

    @rule(
        scope=st.none() | TENANTS,
        model=st.none() | MODELS,
        name=st.none() | NAMES,
        swept=st.booleans(),
    )
    def purge(
        self, scope: Scope | None, model: str | None, name: int | None, swept: bool = True
    ) -> None:
        label = None if model is None else f"model:{model}"
        purge = Purge(scope, label, None if name is None else key(name))
        self.purges.append(self.purger(purge))
        (self.answers.purge if swept else self.answers.merge)(self.purges[-1])
        self.purged.update(one.body for one in self.on_their_way if purge.covers(one))
        gone = [where for where, one in self.latest.items() if purge.covers(one)]
        for where in gone:
            del self.latest[where]
            assert self.answers.recall(*where, self.now) is None
            assert self.answers.fetch(*where, self.now) is None

    @rule(scope=TENANTS, name=NAMES, model=MODELS, all_of_it=st.booleans())
    def overtaken(self, scope: Scope, name: int, model: str, all_of_it: bool) -> None:
        self.set_out(scope, name, model)
        self.purge(scope, None, None if all_of_it else name)
        while self.on_their_way:
            self.arrive()

    # What befalls the node.

    @rule()
    def restart(self) -> None:
        self.answers.close()
        self.on_their_way.clear()
        self.start()

    @rule()
    def killed(self) -> None:
        """What was purged may not be back."""
        alive, self.directory = self.directory, self.root / f"{len(list(self.root.iterdir()))}"
        # By the writer, so that it is not writing meanwhile: two copies at once are no moment.
        writer = self.answers._store._writer
        writer.run(lambda: as_after_kill(alive, self.directory)).result()
        self.restart()

    @rule()
    def warm(self) -> None:
        self.answers.warm_memory(self.now)

    @rule()
    def flush(self) -> None:
        self.answers.flush()

    @rule(seconds=st.sampled_from([1, 999]))
    def wait(self, seconds: float) -> None:
        self.now = Timestamp(self.now + seconds)

    @invariant()
    def bounded(self) -> None:
        if hasattr(self, "answers"):
            stats = self.answers.stats
            assert stats.memory.nbytes <= MEMORY.max_bytes
            assert stats.store.file_bytes <= FILE.max_bytes
            assert not stats.store.failed
            assert not stats.store.set_aside

    def teardown(self) -> None:
        if hasattr(self, "answers"):
            self.answers.check()
            self.answers.close()
            shutil.rmtree(self.root)


def embedded(text: str) -> NDArray[np.float32] | None:
    """The vector of a question, made here."""
    return vector(next(n for n, topic in enumerate(TOPICS) if topic in text))


def canary(scope: Scope) -> bytes:
    return f"made for {scope} alone: ".encode()


def renamed(one: Entry, name: str) -> Entry:
    return replace(one, key=key(name))


TestTenants = Tenants.TestCase
TestTenants.settings = settings(max_examples=10_000 if NIGHTLY else 25, stateful_step_count=25)


def test_every_way_to_an_answer_is_taken() -> None:
    """Or the machine would show nothing."""
    for apart in (True, False):
        tenants = Tenants()
        tenants.open(apart)
        for scope in SCOPES:
            tenants.put(scope, 0, "m")
        tenants.flush()
        for step in (tenants.recall, tenants.fetch, tenants.similar):
            for scope in SCOPES:
                step(scope, 0)
        assert tenants.served == {"recall": 4, "fetch": 4, "similar": 4}
        for scope in SCOPES:
            for name in range(len(TOPICS)):
                tenants.put(scope, name, "m")
        assert tenants.answers.stats.memory.evictions
        tenants.purge(SCOPES[1], None, None)
        tenants.flood(SCOPES[0], "m")
        assert tenants.answers.stats.store.evicted
        tenants.killed()
        for scope in SCOPES:
            tenants.fetch(scope, 0)
        assert tenants.served["fetch"] >= 6
        tenants.teardown()
