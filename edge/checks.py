"""Finds out what answers by meaning are worth, beside serving: labels for `index.control`.

    a miss      the fresh answer is compared with what each candidate would have served
    a hit       with the probability that the control asks for, the prompt is sent upstream after
                delivery, and the two answers are compared
    twins       some of these are sent twice: how often does the upstream disagree with itself?

What no comparison can decide is no label. Wrong answers are decided more often than right ones, so
what is left out makes the estimate larger, not smaller.

No client ever waits. What costs an upstream call and what does not have a bounded queue and a task
each, so that a slow model does not stop learning from misses; a check that takes too long is given
up; and when the upstream refuses one, there are no more for a while: checks must not make a surge
worse. Hits served meanwhile, or when the day's tokens are spent, are counted as *unwatched*.

A check goes the way of any request that brings its own `no-cache`, so the fresh answer is
remembered too. A request that forbids storing is never looked up by meaning, so never checked.
"""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from random import Random
from typing import TypeVar

from edge.ask import Query
from edge.batcher import Batcher
from edge.decisions import Decided
from edge.errors import EdgeError
from edge.metrics import Metrics
from edge.refill import Refill
from index.answers import Answers
from index.calibration import AGREE
from index.comparison import Agreement, compare_answers
from index.decision import DecisionSettings, Judged
from index.entry import Entry, Timestamp
from index.labels import Verdict

log = logging.getLogger("checks")

T = TypeVar("T")

QUEUE_MAX = 256
CONTENDERS_MAX = 3
"""Candidates of a miss whose answers are compared in full; those that are equal are seen anyhow."""
TWINS = 8
"""One check in so many is asked twice, and more of the first, when little is known."""
JOB_BYTES_MAX = 64 * 1024
"""A prompt and its answer together; larger ones are not checked, so that the queues are bounded."""
ALARM_HINT = "wrong answers were served; its cuts were tightened: see promptedge status"
CHECK_TIMEOUT_S = 60.0
PAUSE_S = 30.0
"""After the upstream refused a check; doubled by each further refusal, up to `PAUSE_MAX_S`."""
PAUSE_MAX_S = 900.0
SAVE_EVERY_S = 20.0
DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class _Job:
    query: Query
    decided: Decided
    body: bytes
    """The answer that was served, or that was fetched."""
    probability: float = 1.0
    """With which a hit was drawn."""


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
        self._hits: asyncio.Queue[_Job] = asyncio.Queue(QUEUE_MAX)
        self._misses: asyncio.Queue[_Job] = asyncio.Queue(QUEUE_MAX)
        self._day = 0
        self._paused_until = 0.0
        self._refusals = 0
        self._saved_at = 0.0

    # On the path of a request.

    def hit(self, query: Query, decided: Decided, entry: Entry) -> None:
        """An answer by meaning is on its way to its reader. Draws whether it will be checked."""
        probability = self._labels.shadow_rate(decided.kind)
        if not probability or self._over_budget() or self._wall() < self._paused_until:
            self._labels.unwatched(decided.kind)
        elif self._chance.random() >= probability:
            self._labels.unchecked(decided.kind, probability)
        elif not self._offer(self._hits, _Job(query, decided, entry.body, probability)):
            self._labels.undecided(decided.kind, probability)

    def miss(self, query: Query, decided: Decided, body: bytes) -> None:
        """A prompt that may have had candidates was answered afresh with `body`."""
        if decided.judged:
            self._offer(self._misses, _Job(query, decided, body))

    def _offer(self, queue: "asyncio.Queue[_Job]", job: _Job) -> bool:
        if queue.full() or len(job.query.body) + len(job.body) > JOB_BYTES_MAX:
            self._metrics.checked("dropped")
            return False
        queue.put_nowait(job)
        return True

    def _over_budget(self) -> bool:
        day = int(self._wall() // DAY_S)
        if day != self._day:
            self._day, self._refill.spent_tokens = day, 0
        return self._refill.spent_tokens >= self._settings.shadow_tokens_per_day

    # Beside it.

    async def run(self) -> None:
        """Works until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._work(self._hits, self._check), name="checks of hits")
            group.create_task(self._work(self._misses, self._learn), name="checks of misses")

    async def _work(
        self, queue: "asyncio.Queue[_Job]", do: Callable[[_Job], Awaitable[None]]
    ) -> None:
        while True:
            job = await queue.get()
            try:
                await do(job)
                if self._wall() - self._saved_at >= SAVE_EVERY_S:
                    self._saved_at = self._wall()
                    await self._aside(self._labels.save)
            except Exception:
                log.exception("event=bug part=checks")
            finally:
                queue.task_done()

    async def idle(self) -> None:
        """Until everything that was offered has been worked through."""
        await self._misses.join()
        await self._hits.join()

    async def _check(self, job: _Job) -> None:
        decided, chosen = job.decided, job.decided.chosen
        assert decided.question is not None
        assert chosen is not None
        asked = decided.question
        fresh = await self._fresh(job.query)
        if fresh is None:
            self._labels.undecided(decided.kind, job.probability)
            return
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
            verdicts = [Verdict(chosen, verdict == "same", label=False)]
            verdicts += [
                Verdict(judged, right=True, label=False)
                for judged, entry in await self._weighed(job)
                if judged.candidate.id != chosen.candidate.id
                and _words(job.query, entry.body) == _words(job.query, fresh)
            ]
            # The fresh answer is stored by now: it votes with those that it agrees with.
            self._labels.missed(decided.kind, asked, verdicts)
        if verdict == "different":
            await self._aside(lambda: self._labels.refute(asked, chosen.candidate.text))
            log.warning("event=wrong_hit rid=%s class=%s", decided.request_id, decided.kind)
        await self._ask_again(job, fresh)

    async def _learn(self, job: _Job) -> None:
        decided = job.decided
        assert decided.question is not None
        asked = decided.question
        compared: set[str] = set()
        verdicts = []
        for judged, entry in await self._weighed(job):
            if judged.stratum not in compared and len(compared) < CONTENDERS_MAX:
                compared.add(judged.stratum)
                verdict = await self._agreement(job.query, entry.body, job.body)
                if verdict != "undecided":
                    verdicts.append(Verdict(judged, verdict == "same", label=True))
            elif _words(job.query, entry.body) == _words(job.query, job.body):
                verdicts.append(Verdict(judged, right=True, label=False))
        self._labels.missed(decided.kind, asked, verdicts)
        if any(one.label and one.judged.stratum == AGREE for one in verdicts):
            # It is closed, perhaps by noise alone: without hits there are no other twins.
            await self._ask_again(job, job.body)

    async def _weighed(self, job: _Job) -> list[tuple[Judged, Entry]]:
        decided, asked = job.decided, job.decided.question
        assert asked is not None
        return await self._aside(
            lambda: list(self._answers.similar.weighed(decided.scope, asked, decided.judged))
        )

    async def _ask_again(self, job: _Job, body: bytes) -> None:
        """Now and then have a prompt answered once more, to see whether the two answers agree."""
        kind = job.decided.kind
        twins = self._labels.noise(kind).labels
        wanted = max(1 / TWINS, TWINS / (TWINS + twins))
        if self._chance.random() >= wanted:
            return
        again = await self._fresh(job.query)
        if again is not None:
            verdict = await self._agreement(job.query, body, again)
            if verdict != "undecided":
                self._labels.twins(kind, verdict == "different")

    async def _fresh(self, query: Query) -> bytes | None:
        """The prompt answered afresh; None while the upstream has other things to do."""
        if self._over_budget() or self._wall() < self._paused_until:
            return None
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_S):
                fresh = await self._refill.fresh(query)
        except (EdgeError, TimeoutError) as error:
            self._pause(error)
            return None
        self._refusals = 0
        return fresh

    def _pause(self, error: Exception) -> None:
        self._metrics.checked("unanswered")
        pause_s = min(PAUSE_S * 2**self._refusals, PAUSE_MAX_S)
        self._refusals += 1
        self._paused_until = self._wall() + pause_s
        log.info("event=checks_paused s=%d why=%s", pause_s, getattr(error, "code", "timeout"))

    async def _agreement(self, query: Query, one: bytes, other: bytes) -> str:
        """same, different or undecided."""
        first, second = _words(query, one), _words(query, other)
        agreement: Agreement = await self._aside(lambda: compare_answers(first, second, None))
        if agreement.verdict != "undecided":
            return agreement.verdict
        likeness = await self._batcher.likeness(first, second)
        if likeness is not None:
            agreement = compare_answers(first, second, lambda: likeness)
        if agreement.verdict == "undecided" and not self._over_budget():
            try:
                async with asyncio.timeout(CHECK_TIMEOUT_S):
                    opinion = await self._refill.alike(query, first, second)
            except (EdgeError, TimeoutError) as error:
                self._pause(error)
                return "undecided"
            if opinion is not None:
                return "same" if opinion else "different"
        return agreement.verdict

    async def _aside(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._reader, work)


def _words(query: Query, body: bytes) -> str:
    return query.dialect.words(json.loads(body))
