"""Finds out what answers by meaning are worth, beside serving: labels for `index.control`.

    a miss      the fresh answer is compared with what each candidate would have served
    a hit       with the probability that the control asks for, the prompt is sent upstream after
                delivery, and the two answers are compared
    twins       some prompts are sent twice, and whoever asks for a fresh answer to what is stored
                has the two compared: how often does the upstream disagree with itself?

What no comparison can decide is no label. Wrong answers are decided more often than right ones, so
what is left out makes the estimate larger, not smaller.

One task works through a bounded queue: what does not fit is let go, and no client ever waits. A
check goes the way of any request that brings its own `no-cache`, so the fresh answer is remembered
too. A request that forbids storing is never looked up by meaning, and so never checked.
"""

import asyncio
import json
import logging
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from random import Random
from typing import TypeVar, assert_never

from edge.ask import Query
from edge.batcher import Batcher
from edge.decisions import Decided
from edge.errors import EdgeError
from edge.metrics import Metrics
from edge.refill import Refill
from index.answers import Answers
from index.calibration import AGREE
from index.comparison import Agreement, compare_answers
from index.decision import DecisionSettings
from index.entry import Entry, Timestamp
from index.labels import Verdict

log = logging.getLogger("checks")

T = TypeVar("T")

QUEUE_MAX = 256
CONTENDERS_MAX = 3
"""Candidates of a miss whose answers are compared in full; those that are equal are seen anyhow."""
TWINS = 8
"""One check in so many is asked twice, and more of the first, when little is known."""
SAVE_EVERY = 50
JOB_BYTES_MAX = 64 * 1024
"""A prompt and its answer together; larger ones are not checked, so that the queue is bounded."""
ALARM_HINT = "wrong answers were served; its cuts were tightened: see promptedge status"
DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class _Hit:
    query: Query
    decided: Decided
    body: bytes
    """The answer that was served."""
    probability: float


@dataclass(frozen=True, slots=True)
class _Miss:
    query: Query
    decided: Decided
    body: bytes
    """The answer that was fetched."""


@dataclass(frozen=True, slots=True)
class _Twins:
    query: Query
    before: bytes
    body: bytes


class Checks:
    def __init__(
        self,
        answers: Answers,
        batcher: Batcher,
        refill: Refill,
        reader: Executor,
        settings: DecisionSettings,
        metrics: Metrics,
        *,
        chance: Random,
        wall: Callable[[], Timestamp],
    ) -> None:
        self._answers = answers
        self._labels = answers.labels
        self._batcher = batcher
        self._refill = refill
        self._reader = reader
        self._settings = settings
        self._metrics = metrics
        self._chance = chance
        self._wall = wall
        self._queue: asyncio.Queue[_Hit | _Miss | _Twins] = asyncio.Queue(QUEUE_MAX)
        self._day = 0
        self._spent_tokens = 0

    # On the path of a request.

    def hit(self, query: Query, decided: Decided, entry: Entry) -> None:
        """An answer by meaning is on its way to its reader. Draws whether it will be checked."""
        probability = self._labels.shadow_rate(decided.kind)
        if not probability or self._over_budget():
            return
        if self._chance.random() >= probability:
            self._labels.unchecked(decided.kind, probability)
        else:
            self._offer(_Hit(query, decided, entry.body, probability))

    def miss(self, query: Query, decided: Decided, body: bytes) -> None:
        """A prompt that may have had candidates was answered afresh with `body`."""
        if decided.judged:
            self._offer(_Miss(query, decided, body))

    def refreshed(self, query: Query, before: bytes, after: bytes) -> None:
        """A client had a stored answer replaced by a fresh one: twins that cost nothing."""
        self._offer(_Twins(query, before, after))

    def _offer(self, job: _Hit | _Miss | _Twins) -> None:
        if self._queue.full() or len(job.query.body) + len(job.body) > JOB_BYTES_MAX:
            self._metrics.checked("dropped")
        else:
            self._queue.put_nowait(job)

    def _over_budget(self) -> bool:
        day = int(self._wall() // DAY_S)
        if day != self._day:
            self._day, self._spent_tokens = day, 0
        return self._spent_tokens >= self._settings.shadow_tokens_per_day

    # Beside it.

    async def run(self) -> None:
        """Works until cancelled."""
        done = 0
        while True:
            job = await self._queue.get()
            try:
                match job:
                    case _Hit():
                        await self._check(job)
                    case _Miss():
                        await self._learn(job)
                    case _Twins():
                        await self._compare_twins(job.query, job.before, job.body)
                    case _:
                        assert_never(job)
            except EdgeError as error:
                self._metrics.checked("unanswered")
                log.info("event=check_unanswered why=%s", error.code)
            except Exception:
                log.exception("event=bug part=checks")
            finally:
                self._queue.task_done()
            done += 1
            if done % SAVE_EVERY == 0 or self._queue.empty():
                await self._aside(self._labels.save)

    async def idle(self) -> None:
        """Until everything that was offered has been worked through."""
        await self._queue.join()

    async def _check(self, job: _Hit) -> None:
        decided, chosen = job.decided, job.decided.chosen
        assert decided.question is not None
        assert chosen is not None
        asked = decided.question
        fresh = await self._fresh(job.query)
        verdict = await self._agreement(job.query, job.body, fresh)
        self._metrics.checked(verdict)
        if verdict == "undecided":
            self._labels.undecided(decided.kind, job.probability)
        else:
            alarm = self._labels.checked(
                decided.kind, asked, chosen, right=verdict == "same", probability=job.probability
            )
            if alarm:
                log.error("event=semantic_alarm class=%s hint=%s", decided.kind, ALARM_HINT)
        if verdict == "different":
            await self._aside(lambda: self._labels.refute(asked, chosen.candidate.text))
            log.warning("event=wrong_hit rid=%s class=%s", decided.request_id, decided.kind)
        await self._ask_again(job.query)

    async def _ask_again(self, query: Query) -> None:
        """Now and then have a prompt answered once more: the two are compared as `refreshed`."""
        twins = self._labels.noise.labels
        wanted = max(1 / TWINS, TWINS / (TWINS + twins))
        if self._chance.random() < wanted and not self._over_budget():
            await self._fresh(query)

    async def _compare_twins(self, query: Query, one: bytes, other: bytes) -> None:
        verdict = await self._agreement(query, one, other)
        if verdict != "undecided":
            self._labels.twins(verdict == "different")

    async def _learn(self, job: _Miss) -> None:
        decided = job.decided
        assert decided.question is not None
        asked = decided.question
        weighed = await self._aside(
            lambda: list(self._answers.weighed(decided.scope, asked, decided.judged))
        )
        compared: set[str] = set()
        verdicts = []
        for judged, entry in weighed:
            if judged.stratum not in compared and len(compared) < CONTENDERS_MAX:
                compared.add(judged.stratum)
                verdict = await self._agreement(job.query, entry.body, job.body)
                if verdict != "undecided":
                    verdicts.append(Verdict(judged, verdict == "same", label=True))
            elif _say_alike(job.query, entry.body, job.body):
                verdicts.append(Verdict(judged, right=True, label=False))
        self._labels.missed(decided.kind, asked, verdicts)
        if any(one.label and one.judged.stratum == AGREE for one in verdicts):
            # It is closed, perhaps by noise alone: without hits there are no other twins.
            await self._ask_again(job.query)

    async def _fresh(self, query: Query) -> bytes:
        body = await self._refill.fresh(query)
        self._spent_tokens += query.dialect.tokens(json.loads(body)) or len(body) // 4
        return body

    async def _agreement(self, query: Query, one: bytes, other: bytes) -> str:
        """same, different or undecided."""
        first, second = _words(query, one), _words(query, other)
        agreement: Agreement = await self._aside(lambda: compare_answers(first, second, None))
        if agreement.verdict == "undecided":
            likeness = await self._batcher.likeness(first, second)
            if likeness is not None:
                agreement = compare_answers(first, second, lambda: likeness)
        if agreement.verdict == "undecided":
            opinion = await self._refill.alike(query, first, second)
            if opinion is not None:
                return "same" if opinion else "different"
        return agreement.verdict

    async def _aside(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._reader, work)


def _say_alike(query: Query, one: bytes, other: bytes) -> bool:
    """Word for word; the cheap part of the comparison."""
    return compare_answers(_words(query, one), _words(query, other), None).step == "exact"


def _words(query: Query, body: bytes) -> str:
    return query.dialect.words(json.loads(body))
