"""Purges on somebody's word: an operator's, or of who was given an answer that is wrong."""

import asyncio
import logging
from concurrent.futures import Executor

from edge.fleet import Fleet, Purging
from edge.untold import Untold
from index.answers import Answers
from index.entry import Purge
from sync.replica import PurgeRefused

log = logging.getLogger("node")


class Purges:
    def __init__(self, fleet: Fleet, answers: Answers, reader: Executor, untold: Untold) -> None:
        self._fleet = fleet
        self._answers = answers
        self._reader = reader
        self._untold = untold

    async def count(self, purge: Purge) -> int:
        """How many answers of this node it would remove."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._reader, self._answers.count, purge)

    async def purge(self, purge: Purge, *, soft: bool = False, wait_s: float = 0.0) -> Purging:
        """Purge on every node, or mark stale (`soft`). Others have `wait_s` to confirm it. Raises
        PurgeRefused."""
        done = await self._fleet.purge(purge, soft=soft, wait_s=wait_s)
        log.warning(
            "event=purged entries=%d scope=%s label=%s soft=%s confirmed=%d unconfirmed=%s",
            done.matched, purge.scope or "-", purge.label or "-", soft,
            len(done.confirmed), ",".join(done.unconfirmed) or "-",
        )  # fmt: skip
        return done

    async def forget(self, purge: Purge) -> bool:
        """For who was told that an answer is wrong: gone here on return, elsewhere soon after.

        False: others are not told, as this node may not tell them answers of that scope either.
        """
        try:
            await self.purge(purge)
        except PurgeRefused:
            await self._untold.purge(purge)
            return False
        return True
