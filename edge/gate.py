"""Where a request meets its plan: counted when it comes, its tokens set aside before an upstream is
asked and settled when that is over. In between it may have to wait for room (`edge.line`).

A hit costs one request. Equal requests in flight are one call, which is paid by whoever asked
first, and with API keys all who share a flight are of one tenant.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random
from typing import Protocol

from edge.admission.flows import anonymous
from edge.admission.foreseen import CHARS_A_TOKEN, Foreseen
from edge.admission.plans import Exceeded, Quotas, Reservation, Usage
from edge.admission.refusals import busy, customary, over_quota
from edge.ask import Ask
from edge.errors import OverQuota
from edge.line import Line, LineFull, Where
from edge.metrics import Metrics
from edge.request import Fields
from index.entry import Instant

WEIGHT = 1.0
"""Of who has no plan."""
BACKGROUND = "background"
"""The flow of what the node asks of its own accord."""
BACKGROUND_WEIGHT = 0.1
_BUSY = {
    "queue_full": "As many wait for an answer already as may.",
    "queue_late": "This node is busy, and it would take too long until it is your turn.",
    "deadline": "This node is busy, and it did not come to your turn in time.",
}


@dataclass(slots=True)
class Call:
    """What one upstream call has cost so far."""

    used: float = 0.0
    """Tokens, prompt and answer together."""
    answer: int = 0
    """Tokens of a complete answer; 0: it is none, or nobody counted."""


class Leave(Protocol):
    """For one call, from who counts for all nodes."""

    def settle(self, tokens: float, requests: float = 1.0) -> None:
        """It is over, and took so much. Returns at once."""


class Counter(Protocol):
    """Who counts for all nodes; see `edge.regional.strict`."""

    async def take(self, tenant: str, usage: Usage, tokens: float) -> Leave | Exceeded | None:
        """Leave for a call, or why there is none; None: it cannot be said now."""


class Gate:
    def __init__(
        self,
        quotas: Quotas,
        line: Line,
        metrics: Metrics,
        *,
        queue_s: float,
        stale_after_s: float,
        secret: bytes,
        monotonic: Callable[[], Instant],
        chance: Random,
        counter: Counter | None = None,
    ) -> None:
        self._quotas = quotas
        self._counter = counter
        self._line = line
        self._queue_s = queue_s
        self.stale_after_s = stale_after_s
        """How long a request may wait before what has expired is better."""
        self._secret = secret
        self._metrics = metrics
        self._monotonic = monotonic
        self._chance = chance
        self._foreseen = Foreseen()

    def request(self, ask: Ask) -> None:
        """Count a request.

        Raises:
            OverQuota: its plan allows no more.
        """
        usage = self._usage(ask)
        if usage is None:
            return
        now = self._monotonic()
        if exceeded := usage.request(now):
            raise self._over(ask, exceeded, usage, now)

    def fields(self, ask: Ask) -> Fields:
        """What the answer says of what is left; nothing where nothing is limited."""
        usage = self._usage(ask)
        return () if usage is None else customary(usage, self._monotonic())

    @asynccontextmanager
    async def call(self, ask: Ask, where: Where) -> AsyncIterator[Call]:
        """Around a call of one of the upstreams `where` it may be sent; what it took is said in the
        `Call` before it ends.

        Raises:
            OverQuota: its plan does not allow it.
            Busy: there is no room, and will not be in time.
        """
        usage = self._usage(ask)
        leave = None if usage is None else await self._leave(ask, usage)
        reservation = None if usage is None else self._reserved(ask, usage, leave)
        flow, weight, queue_s = self._terms(ask, usage)
        call = Call()
        ran = False
        try:
            if ask.background and not queue_s and not self._line.calm(where):
                raise LineFull("queue_late", 0.0)
            async with self._line.place(where, flow, weight, queue_s) as waited_s:
                if waited_s:
                    ask.timings.steps["queue"] = waited_s
                ran = True
                yield call
        except LineFull as full:
            self._turned_away(ask, full.reason)
            draw, now = self._chance.random(), self._monotonic()
            raise busy(_BUSY[full.reason], full.drain_s, draw, usage, now) from full
        finally:
            if reservation is not None:
                reservation.settle(call.used, self._monotonic())
            if leave is not None:
                leave.settle(call.used, float(ran))
            if call.answer:
                self._foreseen.note(ask.query.route.pattern, call.answer)

    def waits(self, where: Where) -> bool:
        """Would a call have to wait?"""
        return not self._line.free(where)

    def begun(self) -> None:
        """An upstream has begun to answer, so that it bears more."""
        self._line.wake()

    def refuses(self, ask: Ask, where: Where) -> bool:
        """Is there no room for a call, and no place to wait for it that would be of use?"""
        return self._line.refuses(where, *self._terms(ask, self._usage(ask)))

    def _terms(self, ask: Ask, usage: Usage | None) -> tuple[str, float, float]:
        """With whom it takes turns, its weight, and how long it may wait."""
        plan = None if usage is None else usage.plan
        queue_s = self._queue_s if plan is None or plan.queue_s is None else plan.queue_s
        flow, weight = self._flow(ask, WEIGHT if plan is None else plan.weight)
        return flow, weight, min(queue_s, ask.queue_s_max)

    def _flow(self, ask: Ask, weight: float) -> tuple[str, float]:
        """With whom it takes turns, and how often that one has it."""
        if ask.client is None or ask.background:
            return BACKGROUND, BACKGROUND_WEIGHT
        if tenant := ask.query.caller.tenant:
            return f"tenant:{tenant}", weight
        return anonymous(ask.client, self._secret, self._line.length), weight

    def _usage(self, ask: Ask) -> Usage | None:
        caller = ask.query.caller
        if not caller.plan or ask.client is None:
            return None
        return self._quotas.usage(caller.tenant, caller.plan, self._monotonic())

    async def _leave(self, ask: Ask, usage: Usage) -> Leave | None:
        """Leave for a call from who counts for all nodes, if anybody does. OverQuota."""
        if self._counter is None:
            return None
        prompt, answer = self._size(ask)
        tokens = usage.foreseen(prompt, answer)
        if any(units > limit.units for _, limit, units in usage.limits(tokens)):
            return None  # it will never fit, as is said below
        found = await self._counter.take(ask.query.caller.tenant, usage, tokens)
        if isinstance(found, Exceeded):
            raise self._over(ask, found, usage, self._monotonic())
        return found

    def _reserved(self, ask: Ask, usage: Usage, leave: Leave | None) -> Reservation:
        """What a call will take, about: its prompt, and an answer as long as most. OverQuota."""
        now = self._monotonic()
        reserved = usage.reserve(
            *self._size(ask),
            self._line.held_s,
            now,
            waits=not ask.background,
            granted=leave is not None,
        )
        if isinstance(reserved, Exceeded):
            if leave is not None:
                leave.settle(0.0, 0.0)
            raise self._over(ask, reserved, usage, now)
        return reserved

    def _size(self, ask: Ask) -> tuple[int, int]:
        """About how many tokens prompt and answer will have."""
        query = ask.query
        answer = self._foreseen.tokens(query.route.pattern, query.call.answer_tokens_max)
        return prompt_tokens(ask), answer

    def _over(self, ask: Ask, exceeded: Exceeded, usage: Usage, now: Instant) -> OverQuota:
        self._turned_away(ask, exceeded.what)
        return over_quota(exceeded, usage, self._chance.random(), now)

    def _turned_away(self, ask: Ask, reason: str) -> None:
        if not ask.background:
            self._metrics.turned_away(reason)


def prompt_tokens(ask: Ask) -> int:
    """About how many."""
    return len(ask.query.call.prompt.canonical) // CHARS_A_TOKEN + 1
