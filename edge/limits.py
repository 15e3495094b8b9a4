"""Limits of plans, granted from by all nodes together: what each granted is told every turn.

What other nodes say they granted to a tenant counts only if they may have that tenant's answers:
others have no business with its limits.
"""

import asyncio
import logging
from collections.abc import Callable

from edge.admission.keys import tenant_scope
from edge.admission.plans import Quotas
from edge.admission.shares import TURN_S
from edge.fleet import Fleet
from index.entry import Instant, NodeName
from sync.messages import Grants

log = logging.getLogger("limits")


class FleetLimits:
    def __init__(self, quotas: Quotas, fleet: Fleet, monotonic: Callable[[], Instant]) -> None:
        self._quotas = quotas
        self._fleet = fleet
        self._monotonic = monotonic
        fleet.on_granted = self.hear

    async def run(self) -> None:
        """Take turns. Works until cancelled."""
        while True:
            try:
                others = self._fleet.granting()
                self._fleet.grant(self._quotas.turn(others, self._monotonic()))
            except Exception:
                log.exception("event=bug part=limits")
            await asyncio.sleep(TURN_S)

    def hear(self, node: NodeName, grants: Grants) -> None:
        member = self._fleet.roster.member(node)
        if member is None:
            return
        rows = [one for one in grants.rows if member.admits(tenant_scope(one.tenant))]
        self._quotas.hear(node, rows, self._monotonic())
