"""Limits of plans that no two nodes can grant twice: counted in one place, before an upstream is
asked.

    request ─► memory ─► … ─► take ─► upstream ─► settle, in the background
                                │
                                └ not reached in time: as `edge.admission.shares` has it

What goes upstream is counted here, one request and its tokens; a hit waits for nobody, so all
requests together stay with the shares. These are told of everything, and take over when the server
is lost: the limit may then be passed by as much as they may pass it, and nobody is refused for it.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from edge.admission.plans import Exceeded, Usage
from edge.regional.client import Declined, Full, RedisClient, Unreachable
from edge.regional.errands import Errands
from edge.regional.gcra import SCRIPT
from edge.regional.health import Health
from edge.regional.sealing import quota_name

SETTLE_TIMEOUT_S = 1.0
SETTLES_MAX = 4_096
"""Calls whose end waits to be told. One that is not told is paid as it was foreseen."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """Implements `edge.gate.Leave`."""

    quotas: "StrictQuotas"
    name: str
    id: str
    usage: Usage

    def settle(self, tokens: float, requests: float = 1.0) -> None:
        self.quotas.ended(self, tokens, requests)


class StrictQuotas:
    """Implements `edge.gate.Counter`."""

    def __init__(
        self,
        client: RedisClient,
        health: Health,
        secret: bytes,
        timeout_s: float,
        new_id: Callable[[], str],
    ) -> None:
        self.fallbacks = 0
        """Calls that it could not be asked about."""
        self.unsettled = 0
        """Calls whose end it could not be told."""
        self._client = client
        self._health = health
        self._secret = secret
        self._timeout_s = timeout_s
        self._new_id = new_id
        self._ended: deque[tuple[Ticket, float, float]] = deque()
        self._errands = Errands("quotas", self._settle_all)

    async def take(self, tenant: str, usage: Usage, tokens: float) -> Ticket | Exceeded | None:
        """Leave for a call of so many tokens, or why there is none; None: it cannot be said."""
        limits = usage.limits(tokens)
        if not limits:
            return None
        if not self._health.lets():
            self.fallbacks += 1
            return None
        terms = (f"{limit.units:g}/{limit.window_s:g}" for _, limit, _ in limits)
        name = quota_name(self._secret, tenant, usage.plan.name, *terms)
        ticket = Ticket(self, name, self._new_id(), usage)
        try:
            with self._health.asking():
                said = await self._run("take", ticket, tokens, 1.0, self._timeout_s)
        except (Full, Declined, Unreachable):
            self.fallbacks += 1
            ticket.settle(0.0, 0.0)  # it may have been granted all the same
            return None
        except asyncio.CancelledError:
            ticket.settle(0.0, 0.0)
            raise
        which, wait_s = said
        if not which:
            return ticket
        what, limit, asked = limits[which - 1]
        return Exceeded(what, limit.units, asked, wait_s)

    def ended(self, ticket: Ticket, tokens: float, requests: float) -> None:
        """A call is over, and took so much."""
        if len(self._ended) >= SETTLES_MAX:
            self.unsettled += 1
            return
        self._ended.append((ticket, tokens, requests))
        self._errands.left()

    async def run(self) -> None:
        """Tell how calls ended. Works until cancelled."""
        await self._errands.run()

    def gauges(self) -> Iterator[tuple[str, str, Callable[[], float]]]:
        yield (
            "quota_fallbacks",
            "Calls whose limits Redis could not be asked about.",
            lambda: self.fallbacks,
        )
        yield (
            "quota_unsettled",
            "Calls whose end Redis could not be told.",
            lambda: self.unsettled,
        )

    async def _settle_all(self) -> None:
        while self._ended:
            await self._settle(*self._ended.popleft())

    async def _settle(self, ticket: Ticket, tokens: float, requests: float) -> None:
        if not self._health.lets():
            self.unsettled += 1
            return
        try:
            with self._health.asking():
                await self._run("settle", ticket, tokens, requests, SETTLE_TIMEOUT_S)
        except (Full, Declined, Unreachable):
            self.unsettled += 1

    async def _run(
        self, what: str, ticket: Ticket, tokens: float, requests: float, timeout_s: float
    ) -> tuple[int, float]:
        """Which limit leaves no room, 0: none; and for how long."""
        words: list[str | int | float] = ["", what, ticket.id]
        for name, limit, units in ticket.usage.limits(tokens):
            asked = requests if name == "requests" else units
            words += [limit.units, limit.window_s, asked]
        said = await self._client.run(SCRIPT, ticket.name, words, timeout_s)
        try:
            which, wait_s = int(said[0]), float(said[1])
        except (IndexError, TypeError, ValueError) as exc:
            raise Declined("not what the script says") from exc
        if not 0 <= which <= len(words) // 3:
            raise Declined("not what the script says")
        return which, wait_s
