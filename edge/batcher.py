"""Answers by meaning: prompts that arrive together are embedded in one call, off the loop.

A single worker thread embeds and searches. While it works, newcomers queue; when it is free it
takes up to `BATCH_MAX` of them at once. Nobody waits for a batch to fill: a lone prompt goes.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from index.decision import Match, Miss
from index.embedding import Embedder
from index.entry import Question, Scope, Timestamp
from index.similar import Embed, Opinion
from index.verifier import Verifier

log = logging.getLogger("semantic")

BATCH_MAX = 8
QUEUE_MAX = 256

Vector = NDArray[np.float32]
Similar = Callable[
    [Scope, Question, Vector, Timestamp, str, Opinion | None, Embed | None], Match | Miss
]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What meaning had to say. `vector` is there for the answer that will be stored."""

    found: Match | Miss
    vector: Vector | None = None
    embed_s: float = 0.0
    search_s: float = 0.0


@dataclass(slots=True, eq=False)
class _Job:
    scope: Scope
    question: Question
    kind: str
    search: bool
    done: asyncio.Future[Verdict]


class Batcher:
    """Given the embedder when it has loaded; until then every answer is `Miss("warming")`."""

    def __init__(
        self,
        similar: Similar,
        worker: Executor,
        clock: Callable[[], Timestamp],
        stopwatch: Callable[[], float],
    ) -> None:
        self._similar = similar
        self._worker = worker
        self._clock = clock
        self._stopwatch = stopwatch
        self._embedder: Embedder | None = None
        self._verifier: Verifier | None = None
        self._deadline_s = 0.0
        self._queue: deque[_Job] = deque()
        self._busy = False
        self._began = 0.0
        self._rests_until = 0.0
        self.batches = 0
        self.embedded = 0

    @property
    def ready(self) -> bool:
        return self._embedder is not None

    @property
    def fingerprint(self) -> str:
        """Which encoder makes the vectors."""
        return self._embedder.fingerprint if self._embedder else ""

    def load(self, embedder: Embedder) -> None:
        self._embedder = embedder

    def use(self, verifier: Verifier, deadline_s: float) -> None:
        """Ask for second opinions from now on."""
        self._verifier = verifier
        self._deadline_s = deadline_s

    def gauges(self) -> Iterator[tuple[str, str, Callable[[], float]]]:
        yield "embedded", "Prompts embedded.", lambda: self.embedded
        yield "embed_batches", "Calls of the encoder.", lambda: self.batches

    async def similar(
        self,
        scope: Scope,
        question: Question,
        kind: str,
        *,
        search: bool = True,
        hurry: bool = False,
    ) -> Verdict:
        """The stored answer to the nearest question that may stand for this one.

        `kind` names the class of prompts it belongs to. With `search` false only the vector is
        made, for an answer that is to be replaced; with `hurry` nobody is waited for.
        """
        if self._embedder is None:
            return Verdict(Miss("warming"))
        if len(self._queue) >= QUEUE_MAX or (hurry and not self._rested()):
            return Verdict(Miss("busy"))
        job = _Job(scope, question, kind, search, asyncio.get_running_loop().create_future())
        self._queue.append(job)
        self._start()
        return await job.done

    async def likeness(self, one: str, other: str) -> float | None:
        """The cosine of two texts; None if the encoder cannot read them whole, or has no time."""
        embedder = self._embedder
        if embedder is None or self._busy:
            return None

        def embedded() -> float | None:
            tokens = [embedder.read(text) for text in (one, other)]
            if any(each.reason for each in tokens):
                return None
            first, second = embedder.embed_tokens(tokens)
            return float(first @ second)

        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._worker, embedded)

    def _rested(self) -> bool:
        """Is the worker idle, and has it been for as long as it worked before? Then it has half of
        its core at most, and the loop, which answers from memory and refuses, the other half."""
        return not self._busy and self._stopwatch() >= self._rests_until

    def _start(self) -> None:
        if self._busy:
            return
        batch: list[_Job] = []
        while self._queue and len(batch) < BATCH_MAX:
            job = self._queue.popleft()
            if not job.done.cancelled():
                batch.append(job)
        if not batch:
            return
        self._busy = True
        self._began = self._stopwatch()
        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(self._worker, self._run, batch)
        work.add_done_callback(lambda done: self._finish(batch, done))

    def _finish(self, batch: list[_Job], work: asyncio.Future[list[Verdict]]) -> None:
        self._busy = False
        ended = self._stopwatch()
        self._rests_until = ended + (ended - self._began)
        verdicts = _verdicts(work) or [Verdict(Miss("failed"))] * len(batch)
        for job, verdict in zip(batch, verdicts, strict=True):
            if not job.done.done():
                job.done.set_result(verdict)
        self._start()

    def _run(self, batch: list[_Job]) -> list[Verdict]:
        """On the worker thread."""
        embedder = self._embedder
        assert embedder is not None
        began = self._stopwatch()
        tokens = [embedder.read(job.question.text) for job in batch]
        fit = [one for one in tokens if one.reason is None]
        vectors = iter(embedder.embed_tokens(fit) if fit else ())
        embed_s = self._stopwatch() - began
        self.batches += 1
        self.embedded += len(fit)
        return [
            Verdict(Miss(one.reason)) if one.reason else self._search(job, next(vectors), embed_s)
            for job, one in zip(batch, tokens, strict=True)
        ]

    def _embed(self, text: str) -> Vector | None:
        """The vector of a stored question, on the worker thread."""
        assert self._embedder is not None
        tokens = self._embedder.read(text)
        return None if tokens.reason else self._embedder.embed_tokens([tokens])[0]

    async def embed_idly(self, questions: Sequence[Question]) -> list[Vector | None] | None:
        """Vectors of stored questions, made while nobody waits; None when somebody does."""
        if self._embedder is None or self._busy:
            return None

        def embedded() -> list[Vector | None]:
            return [self._embed(asked.text) for asked in questions]

        return await asyncio.get_running_loop().run_in_executor(self._worker, embedded)

    def _opinion(self, asked: str, cached: Sequence[str]) -> Sequence[float]:
        """What the verifier says; nothing when it is late or falls over: then it is a miss."""
        assert self._verifier is not None
        began = self._stopwatch()
        try:
            opinions = self._verifier.score(asked, cached)
        except Exception:
            log.exception("event=bug part=verifier")
            return ()
        return opinions if self._stopwatch() - began <= self._deadline_s else ()

    def _search(self, job: _Job, vector: Vector, embed_s: float) -> Verdict:
        if not job.search:
            return Verdict(Miss("not-asked"), vector, embed_s)
        began = self._stopwatch()
        opinion = self._opinion if self._verifier else None
        found = self._similar(
            job.scope, job.question, vector, self._clock(), job.kind, opinion, self._embed
        )
        return Verdict(found, vector, embed_s, self._stopwatch() - began)


def _verdicts(work: asyncio.Future[list[Verdict]]) -> list[Verdict]:
    """What the worker found; nothing if it failed: then meaning has no answer, an upstream may."""
    if work.cancelled():
        return []
    if error := work.exception():
        log.error("event=bug part=batcher", exc_info=error)
        return []
    return work.result()
