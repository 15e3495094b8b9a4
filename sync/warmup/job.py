"""The job: each line once, as planned, on every node; what was done is in the journal first.

A few workers take lines from one iterator. Each waits for its turn, sees that the budget affords
the call, asks the first node, and hands what it got to the others: the upstream is asked once.
What may pass (429, 503, a node that restarts) is tried again, later and later; `Retry-After` holds
everybody back. When nothing succeeds any more the job gives up rather than run through its lines.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt
from tenacity.wait import wait_random_exponential

from index.entry import NodeName, Seen, Version
from sync.warmup.gate import Clock, Gate, Stopped
from sync.warmup.journal import Done, Journal
from sync.warmup.lines import Json, Wanted
from sync.warmup.nodes import Busy, NodeClient, NodeError, Told
from sync.warmup.plan import NONE, Budget, QuietHours, Rate, Tokens
from sync.warmup.source import Source

TRIES_MAX = 8
"""Of one call: about two minutes, if nobody says for how long to wait."""
BACKOFF_S_MAX = 60.0
FAILED_IN_A_ROW_MAX = 10
"""Lines that failed for no fault of their own, one after the other, before the job gives up."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked for with every line."""

    tenant: str | None = None
    labels: tuple[str, ...] = ()
    ttl_s: float | None = None
    pin: bool = True
    refresh: bool = False
    dry_run: bool = False
    """Only find out what would be asked."""

    def document(self, wanted: Wanted) -> dict[str, Any]:
        """The body of `POST /admin/warm`, what is not said left out."""
        document = {
            "request": wanted.request,
            "tenant": self.tenant,
            "labels": list(self.labels),
            "ttl_s": self.ttl_s,
            "pin": self.pin,
            "refresh": self.refresh,
            "dry_run": self.dry_run,
            **_given(wanted.answer),
        }
        return {name: value for name, value in document.items() if value is not None}


@dataclass(slots=True)
class Tally:
    """What became of the lines so far, those that earlier runs have done included."""

    outcomes: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    """By reason."""
    failed: list[Done] = field(default_factory=list)
    """Of this run: the next one tries them again."""
    asked: int = 0
    """How often the upstream was."""
    would_cost: Tokens = NONE
    """Of a dry run, about."""
    resumed: int = 0
    """Of all, how many earlier runs had done."""
    errors: Counter[str] = field(default_factory=Counter)
    """By kind, of this run, those included that a later try made good."""

    def add(self, done: Done) -> None:
        self.asked += done.asked
        if done.ended:
            self.end(done)
        else:
            self.failed.append(done)

    def end(self, done: Done) -> None:
        self.outcomes[done.outcome] += 1
        if done.outcome == "refused":
            self.refused[done.reason] += 1

    @property
    def ended(self) -> int:
        return self.outcomes.total()


class Job:
    """`run` it once; `stop` it from outside. What it knows while it runs is for who watches."""

    def __init__(
        self,
        source: Source,
        nodes: Sequence[NodeClient],
        journal: Journal,
        order: Order,
        budget: Budget,
        clock: Clock,
        *,
        rate: Rate,
        quiet: QuietHours | None = None,
        concurrency: int = 4,
    ) -> None:
        self._first, *self._others = nodes
        self._journal = journal
        self._order = order
        self._concurrency = concurrency
        self._pending = self._rest(source)
        self._settled = asyncio.Condition()
        self._in_flight = 0
        self._failed_in_a_row = 0
        self.dry_run = order.dry_run
        self.budget = budget
        self.rate = rate
        self.gate = Gate(clock, rate, quiet)
        self.tally = Tally()
        self.stopped_because = ""
        self.changed = asyncio.Event()
        """Set whenever there is something new to show."""
        for done in journal.before.values():
            budget.settle(NONE, done.tokens)
            self.tally.asked += done.asked

    def look_back(self, wanted: Wanted) -> None:
        """To be told of each line before `run`: count it, if an earlier run has done it."""
        done = self._journal.before.get(wanted.digest)
        if done is not None and done.ended:
            self.tally.end(done)
            self.tally.resumed += 1

    def stop(self, why: str) -> None:
        """Begin nothing more; what is in flight is waited for."""
        self.stopped_because = self.stopped_because or why
        self.gate.stop()

    async def run(self) -> None:
        """Until every line has been done, or the job was stopped."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._concurrency):
                group.create_task(self._work(), name=f"warm {number}")

    def _rest(self, source: Source) -> Iterator[tuple[int, Wanted, bytes]]:
        """The lines that no earlier run has done."""
        for number, wanted in source:
            digest = wanted.digest
            done = self._journal.before.get(digest)
            if done is None or not done.ended:
                yield number, wanted, digest

    async def _work(self) -> None:
        try:
            for number, wanted, digest in self._pending:
                estimate = await self._afford(wanted)
                done = Done(digest, "failed", number=number, name=wanted.name)
                try:
                    done = await self._do(done, wanted)
                finally:
                    await self._settle(estimate, done.tokens)
                if not self.dry_run:
                    await self._journal.add(done)
                elif done.outcome == "would-ask":
                    self.tally.would_cost += estimate or NONE
                self._note(done)
        except Stopped:
            return

    async def _afford(self, wanted: Wanted) -> Tokens | None:
        """Reserve what the call will cost, about. Raises Stopped when it is too much."""
        if wanted.answer is not None:
            return None
        async with self._settled:
            while True:
                estimate = self.budget.estimate(wanted.prompt_tokens, wanted.answer_tokens_max)
                if self.dry_run or self.budget.affords(estimate):
                    break
                if not self._in_flight:
                    self.stop("budget")
                    raise Stopped
                await self._settled.wait()  # what is in flight may cost less than was reserved
            self.budget.reserve(estimate)
            self._in_flight += 1
        return estimate

    async def _settle(self, estimate: Tokens | None, actual: Tokens) -> None:
        if estimate is None:
            return
        async with self._settled:
            self.budget.settle(estimate, actual)
            self._in_flight -= 1
            self._settled.notify_all()

    async def _do(self, done: Done, wanted: Wanted) -> Done:
        """One line, on every node. Raises Stopped if nothing was done yet."""
        document = self._order.document(wanted)
        paced = wanted.answer is None and not self.dry_run
        wants_answer = bool(self._others) and not self.dry_run
        try:
            known = [await node.seen() for node in self._others] if wants_answer else []
            told = await self._ask(self._first, {**document, "return": wants_answer}, paced)
            done = replace(
                done,
                outcome=told.outcome,
                reason=told.reason,
                asked=told.asked,
                tokens=told.tokens,
            )
            if told.body is not None:
                await self._hand_on(document, told, known)
        except NodeError as exc:
            self._failed_in_a_row += isinstance(exc, Busy)
            return replace(done, outcome="failed", reason=str(exc))
        self._failed_in_a_row = 0
        return done

    async def _hand_on(
        self, document: Mapping[str, Any], told: Told, known: Sequence[Seen]
    ) -> None:
        """Give the other nodes the answer, with what was known of purges when it was asked for: one
        that came since kills it there as well. Raises NodeError.

        What they knew themselves, `known`, counts for an answer that is younger than that.
        """
        seens = [told.seen, *(known if told.outcome == "stored" else ())]
        seen: dict[NodeName, Version] = {}
        for by, version in chain.from_iterable(seens):
            seen[by] = max(version, seen.get(by, version))
        given = {
            **{name: value for name, value in document.items() if name != "answer"},
            "body": told.body,
            "generated_at": told.generated_at,
            "seen": sorted(seen.items()),
        }
        for node in self._others:
            try:
                await self._ask(node, given, paced=False)
            except NodeError as exc:
                raise type(exc)(f"{node.url} does not have it: {exc}", exc.kind) from exc
            except Stopped as exc:  # what was asked for has been paid for: it goes on record
                raise NodeError(f"stopped before {node.url} had it", "stopped") from exc

    async def _ask(self, node: NodeClient, document: Mapping[str, Any], paced: bool) -> Told:
        """Raises NodeError, and Stopped while nothing is in flight."""

        def count(state: RetryCallState) -> None:
            error = _error(state)
            self.tally.errors[error.kind] += 1
            if error.retry_after_s:
                self.gate.pause(error.retry_after_s)
            self.changed.set()

        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(Busy),
            stop=stop_after_attempt(TRIES_MAX),
            wait=_wait_s,
            sleep=self.gate.sleep,
            before_sleep=count,
            reraise=True,
        ):
            with attempt:
                if paced:
                    await self.gate.turn()
                told = await node.warm(document)
                if paced and not told.asked:
                    self.gate.unused()
                return told
        raise AssertionError("a retry ends with an answer or an error")

    def _note(self, done: Done) -> None:
        self.tally.add(done)
        if not done.ended and self._failed_in_a_row >= FAILED_IN_A_ROW_MAX:
            self.stop("failing")
        self.changed.set()


def _given(answer: Json | str | None) -> dict[str, str]:
    if answer is None or isinstance(answer, str):
        return {} if answer is None else {"answer": answer}
    return {"body": json.dumps(answer, ensure_ascii=False, separators=(",", ":"))}


_backoff = wait_random_exponential(multiplier=1, max=BACKOFF_S_MAX)


def _wait_s(state: RetryCallState) -> float:
    """What was asked for; otherwise longer each time, and never two workers alike."""
    retry_after_s = _error(state).retry_after_s
    return _backoff(state) if retry_after_s is None else retry_after_s


def _error(state: RetryCallState) -> Busy:
    assert state.outcome is not None
    error = state.outcome.exception()
    assert isinstance(error, Busy)
    return error
