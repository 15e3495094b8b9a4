"""API keys as operators handle them: said by the fleet's operator, known to every node at once."""

import asyncio
import logging
import secrets
from collections.abc import Callable, Iterable

from edge.admission.issuing import Issuer, Terms
from edge.console.keys import Told
from edge.fleet import CONFIRM_POLL_S, Fleet
from index.entry import Instant, Timestamp
from sync.keybook import KeyRecord

log = logging.getLogger("keys")

KNOWN_S = 2.0
"""How long the other nodes have to say that they know, before they are named."""


class KeyDesk:
    """Implements `edge.console.keys.Keys`."""

    def __init__(
        self,
        fleet: Fleet,
        plans: frozenset[str],
        *,
        wall: Callable[[], Timestamp],
        monotonic: Callable[[], Instant],
    ) -> None:
        self._fleet = fleet
        self._wall = wall
        self._monotonic = monotonic
        self._issuer = Issuer(
            fleet.roster.keybook,
            fleet.operator,
            plans,
            tick=fleet.stamp,
            tell=fleet.enrol,
            choice=secrets.choice,
        )

    async def create(self, terms: Terms) -> Told:
        return await self._told("made", *self._issuer.create(terms, self._wall()))

    async def rotate(self, id_: str, overlap_s: float) -> Told:
        return await self._told("rotated", *self._issuer.rotate(id_, overlap_s, self._wall()))

    async def revoke(self, id_: str) -> Told:
        return await self._told("revoked", None, self._issuer.revoke(id_))

    def records(self) -> Iterable[KeyRecord]:
        return self._fleet.roster.keybook

    def now(self) -> Timestamp:
        return self._wall()

    async def _told(self, what: str, key: str | None, record: KeyRecord) -> Told:
        """It holds here; wait for the others to say that it does there."""
        deadline = self._monotonic() + KNOWN_S
        while self._monotonic() < deadline:
            if not self._fleet.awaited():
                break
            await asyncio.sleep(CONFIRM_POLL_S)
        unaware = self._fleet.unaware()
        log.warning(
            "event=key_%s id=%s tenant=%s plan=%s unaware=%s",
            what, record.id, record.tenant, record.plan or "-", ",".join(unaware) or "-",
        )  # fmt: skip
        return Told(record, key, unaware, kept=not self._fleet.forgetful)
