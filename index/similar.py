"""Answers to other questions that may stand for this one: found by meaning, judged, and proven.

Whatever led here, the border is proven on the entry itself: scope, partition, and that its text is
the one that was judged. On worker threads.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from time import sleep

import numpy as np
from numpy.typing import NDArray

from index.decision import Judged, Match, Miss, decide, doubtful, reconsidered, weigh
from index.entry import Entry, Hint, NodeName, Question, Scope, Timestamp
from index.hints import agree, hint, hinted, judged_by
from index.labels import Labels
from index.memory import Memory
from index.questions import Nearest, Questions
from index.queue import StoreClosed
from index.rows import Stored, rounded
from index.store import Store
from index.sweeps import Purges

log = logging.getLogger("promptedge.answers")

TEXTS_MAX_BYTES = 40 << 20
"""Of questions and their readings: some 50,000."""
_TURN_S = 0.0005
"""A lock that is let go and taken again at once is not given to who waits for it: the writer."""
DOUBTS = 2
"""Candidates that a second opinion is asked about; each costs two runs of a cross-encoder."""

LIARS_MAX = 1_024
"""Nodes whose false hints are counted."""

Embed = Callable[[str], NDArray[np.float32] | None]
"""The vector of a text, made here; None when the encoder cannot read all of it."""

Opinion = Callable[[str, Sequence[str]], Sequence[float]]
"""Probabilities that a question has the same answer as each of some others; none if it is late."""


class Similar:
    def __init__(
        self,
        store: Store,
        memory: Memory,
        purges: Purges,
        labels: Labels,
        vectors: Callable[[int], Nearest],
        admit: Callable[[Stored, Timestamp], Entry | None],
        follow: Callable[[Questions], None],
    ) -> None:
        """`admit` makes an entry resident, unless it may not be served; `follow` is told of the
        questions that are to be kept in step with the file, once there is an encoder."""
        self._store = store
        self._memory = memory
        self._purges = purges
        self._labels = labels
        self._vectors = vectors
        self._admit = admit
        self._follow = follow
        self.questions: Questions | None = None
        self.ready = False
        """True once all stored vectors can be found; until then some are, and new ones."""
        self.hits = 0
        self.refused = 0
        """Candidates that were chosen, and then were not of the scope, partition or text asked."""
        self.stored = self.loaded = 0
        """Vectors that the file held when they began to be rebuilt, and those that are ready."""
        self.false_hints: Counter[NodeName] = Counter()
        """Answers dropped because their vector was not of their question, by who fetched them."""
        self.on_false_hint: Callable[[Entry], None] = lambda _: None
        """Called for each of them, on the thread that embeds."""
        self._encoder = ""
        self._looked_through = 0
        self._closing = False

    def load(self, fingerprint: str, dimensions: int) -> None:
        """The encoder is loaded: answer by meaning from now on, and rebuild what was stored.

        Vectors of another encoder are dropped. Returns when all that were stored can be found.
        """
        self._store.use_encoder(fingerprint)
        self._encoder = fingerprint
        questions = Questions(self._store, self._vectors, dimensions, TEXTS_MAX_BYTES)
        self.stored = self._store.count_vectors()
        with self._purges.lock:  # no put meanwhile
            self._follow(questions)
            self.questions = questions
            last_id = self._store.last_id
        reached = 0
        while not self._closing:
            if not (reached := questions.load(last_id, reached)):
                break
            self.loaded = len(questions)
            sleep(_TURN_S)
        while not self._closing and questions.settle():
            sleep(_TURN_S)
        self.ready = not self._closing

    def find(
        self,
        scope: Scope,
        question: Question,
        vector: NDArray[np.float32],
        now: Timestamp,
        kind: str,
        opinion: Opinion | None = None,
        embed: Embed | None = None,
    ) -> Match | Miss:
        """The answered question that may best stand for this one, and its answer.

        `kind` names the class of prompts whose record the decision rests on (`index.control`);
        `opinion` is asked about candidates that would be a miss without it; with `embed`, those
        that came from other nodes with a vector are proven, without it they are passed over.
        """
        questions = self.questions
        if questions is None:
            return Miss("warming")
        near = questions.candidates(question, rounded(vector))
        cut = self._labels.cut(kind)
        while True:
            candidates = self._labels.known(question, near)
            decision = decide(question.text, candidates, self._labels.calibration, cut)
            if isinstance(decision, Miss) and opinion and (doubts := doubtful(decision, DOUBTS)):
                opinions = opinion(question.text, [one.candidate.text for one in doubts])
                if opinions:
                    decision = reconsidered(decision, doubts, opinions, cut)
            if isinstance(decision, Miss):
                return decision
            chosen = decision.chosen.candidate
            stored = self._by_id(chosen.id)
            if stored is not None and self._may_stand_for(stored, scope, question, chosen.text):
                if not questions.is_proven(chosen.id):
                    ours = self._prove(questions, stored, embed)
                    near = judged_by(ours, vector, chosen, near)
                    continue
                entry = self._admit(stored, now)
                if entry is not None:
                    self.hits += 1
                    return Match(entry, "semantic", decision)
            near = judged_by(None, vector, chosen, near)

    def weigh(
        self, question: Question, vector: NDArray[np.float32], kind: str
    ) -> tuple[Judged, ...]:
        """How `find` would judge now; nothing is served, counted or fetched."""
        if self.questions is None:
            return ()
        near = self._labels.known(question, self.questions.candidates(question, rounded(vector)))
        return weigh(
            question.text, near, self._labels.calibration, self._labels.cut(kind, counts=False)
        )

    def weighed(
        self, scope: Scope, question: Question, judged: Sequence[Judged]
    ) -> Iterator[tuple[Judged, Entry]]:
        """The entries of candidates that were weighed, those that are still there."""
        for one in judged:
            stored = self._by_id(one.candidate.id)
            if (
                stored
                and self.questions is not None
                and self.questions.is_proven(stored.id)
                and self._may_stand_for(stored, scope, question, one.candidate.text)
                and not self._purges.dead(stored.entry)
            ):
                yield one, stored.entry

    def unembedded(self, count_max: int) -> list[tuple[int, Question]]:
        """Stored questions that have no vector, to be embedded when there is time; each is named
        once, and once more after a restart."""
        if not self.ready:
            return []
        found = self._store.unembedded(self._looked_through, count_max)
        if found:
            self._looked_through = found[-1][0]
        return found

    def embedded(self, id_: int, asked: Question, vector: NDArray[np.float32]) -> None:
        """From soon on the entry is found by meaning, if it is there still."""
        questions = self.questions
        if questions is None or self.usable(vector) is None:
            return

        def add() -> None:  # on the writer's thread, in step with the file
            if self._store.put_vector(id_, asked.partition, vector):
                questions.embedded(id_, asked.partition, vector)

        self._aside(add)

    # Vectors that travel with answers.

    def hinted(self, hint: Hint | None) -> NDArray[np.float32] | None:
        """The vector that came with an answer, if it is of our encoder."""
        if hint is None or self.questions is None or hint.encoder != self._encoder:
            return None
        return hinted(hint, self.questions.dimensions)

    def hint(self, stored: Stored) -> Hint | None:
        """What others are told of the vector of an answer, if it was made or proven here."""
        found = self.questions and self._store.vector(stored, self.questions.dimensions)
        return hint(self._encoder, found[0]) if found and found[1] else None

    def usable(self, vector: NDArray[np.float32] | None) -> NDArray[np.float32] | None:
        """None unless it is of unit length, and there is an encoder to compare it with; NaN is
        not."""
        if vector is None or self.questions is None:
            return None
        if vector.shape != (self.questions.dimensions,):
            return None
        return vector if abs(float(vector @ vector) - 1) < 0.01 else None

    # Anyone.

    def check(self, with_vector: set[int]) -> None:
        """Audit against the ids that have a vector in the file; O(n)."""
        if self.questions is not None and self.ready:
            self.questions.check(with_vector)

    def close(self) -> None:
        """Whatever goes on ends early."""
        self._closing = True

    @property
    def unproven(self) -> int:
        """Vectors that came from other nodes and were not compared yet."""
        return self.questions.unproven if self.questions else 0

    def __len__(self) -> int:
        """Questions that can be found."""
        return len(self.questions or ())

    def _prove(
        self, questions: Questions, stored: Stored, embed: Embed | None
    ) -> NDArray[np.float32] | None:
        """Our own vector of the question of an entry whose vector came with it.

        None when there is none; when the two do not agree, the entry goes.
        """
        found = embed and self._store.vector(stored, questions.dimensions)
        asked = stored.entry.question
        if not embed or not found or asked is None:
            return None
        ours = embed(asked.text)
        if ours is None or not agree(ours, found[0]):
            self._drop(stored)
            return None
        questions.prove(stored.id, asked.partition, ours)
        self._aside(lambda: self._store.put_vector(stored.id, asked.partition, ours))
        return ours

    def _drop(self, stored: Stored) -> None:
        self._memory.remove([stored.id])
        self._store.drop(stored.id)
        by = stored.entry.stored_by
        if by in self.false_hints or len(self.false_hints) < LIARS_MAX:
            self.false_hints[by] += 1
        log.warning("event=false_hint stored_by=%s action=dropped", by)
        self.on_false_hint(stored.entry)

    def _aside(self, work: Callable[[], object]) -> None:
        with suppress(StoreClosed):
            self._store.aside(work)

    def _by_id(self, id_: int) -> Stored | None:
        if (hot := self._memory.by_id(id_)) is not None:
            return Stored(id_, hot.entry)
        return self._store.by_id(id_)

    def _may_stand_for(self, stored: Stored, scope: Scope, asked: Question, judged: str) -> bool:
        """The border, proven on the entry itself whatever led here; and it is what was judged."""
        of = stored.entry.question
        proven = (
            stored.entry.scope == scope
            and of is not None
            and of.partition == asked.partition
            and of.text == judged
        )
        self.refused += not proven
        return proven
