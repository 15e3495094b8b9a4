"""Where a request meets its plan: counted when it comes, its tokens set aside before an upstream is
asked and settled when that is over.

A hit costs one request. Equal requests in flight are one call, which is paid by whoever asked
first, and with API keys all who share a flight are of one tenant.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random

from edge.admission.foreseen import CHARS_A_TOKEN, Foreseen
from edge.admission.plans import Exceeded, Quotas, Reservation, Usage
from edge.admission.refusals import customary, over_quota
from edge.ask import Ask
from edge.errors import OverQuota
from edge.metrics import Metrics
from edge.request import Fields
from index.entry import Instant

CALL_S = 4.0
"""How long an upstream takes, until it is known: at the first calls."""
_SMOOTHING = 0.1


@dataclass(slots=True)
class Call:
    """What one upstream call has cost so far."""

    used: float = 0.0
    """Tokens, prompt and answer together."""
    answer: int = 0
    """Tokens of a complete answer; 0: it is none, or nobody counted."""


class Gate:
    def __init__(
        self,
        quotas: Quotas,
        metrics: Metrics,
        *,
        monotonic: Callable[[], Instant],
        chance: Random,
    ) -> None:
        self._quotas = quotas
        self._metrics = metrics
        self._monotonic = monotonic
        self._chance = chance
        self._foreseen = Foreseen()
        self._call_s = CALL_S

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
            raise self._over(exceeded, usage, now)

    def fields(self, ask: Ask) -> Fields:
        """What the answer says of what is left; nothing where nothing is limited."""
        usage = self._usage(ask)
        return () if usage is None else customary(usage, self._monotonic())

    @asynccontextmanager
    async def call(self, ask: Ask) -> AsyncIterator[Call]:
        """Around a call of an upstream; what it took is said in the `Call` before it ends.

        Raises:
            OverQuota: its plan does not allow it.
        """
        usage = self._usage(ask)
        began = self._monotonic()
        reservation = None if usage is None else self._reserved(ask, usage, began)
        call = Call()
        try:
            yield call
        finally:
            now = self._monotonic()
            if reservation is not None:
                reservation.settle(call.used, now)
            if call.answer:
                self._foreseen.note(ask.query.route.pattern, call.answer)
                self._call_s += _SMOOTHING * (now - began - self._call_s)

    def _usage(self, ask: Ask) -> Usage | None:
        caller = ask.query.caller
        if not caller.plan or ask.client is None:
            return None
        return self._quotas.usage(caller.tenant, caller.plan, self._monotonic())

    def _reserved(self, ask: Ask, usage: Usage, now: Instant) -> Reservation:
        """What a call will take, about: its prompt, and an answer as long as most. OverQuota."""
        query = ask.query
        answer = self._foreseen.tokens(query.route.pattern, query.call.answer_tokens_max)
        reserved = usage.reserve(prompt_tokens(ask), answer, self._call_s, now)
        if isinstance(reserved, Exceeded):
            raise self._over(reserved, usage, now)
        return reserved

    def _over(self, exceeded: Exceeded, usage: Usage, now: Instant) -> OverQuota:
        self._metrics.turned_away(exceeded.what)
        return over_quota(exceeded, usage, self._chance.random(), now)


def prompt_tokens(ask: Ask) -> int:
    """About how many."""
    return len(ask.query.call.prompt.canonical) // CHARS_A_TOKEN + 1
