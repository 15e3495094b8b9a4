"""Purges that hold on this node, and that its fleet is not told of: those that came with snapshots,
and those of answers that the node's enrolment does not let it purge elsewhere.

The latter cover what this node fetched for scopes that it may not tell others of, so nobody else
has had it from here. They are filed under a name of their own, beside the node's: what it purges in
its fleet has to be known there without a gap.
"""

import asyncio
from collections.abc import Callable, Container, Sequence
from concurrent.futures import Executor
from dataclasses import replace

from edge.imported import ImportedPurges
from index.answers import Answers
from index.entry import NodeName, Purge, Purged, Seen, Timestamp, Version


class Untold:
    def __init__(
        self,
        answers: Answers,
        kept: ImportedPurges,
        worker: Executor,
        name: NodeName,
        roster: Container[NodeName],
        stamp: Callable[[], Version],
        wall: Callable[[], Timestamp],
    ) -> None:
        """What is on disk holds when this returns."""
        self._answers = answers
        self._kept = kept
        self._worker = worker
        self._by = NodeName(f"{name}/untold")
        self._stamp = stamp
        self._wall = wall
        self._keeping = asyncio.Lock()
        self._roster = roster
        answers.restore(map(self._judged, kept.purges), kept.seen)

    async def hold(self, purges: Sequence[Purged], seen: Seen) -> None:
        """Apply purges that were made elsewhere; with them, everything up to `seen` is applied.

        On disk first: what they cover must stay away after a restart as well. Raises OSError.
        """
        if purges or seen:
            async with self._keeping:
                await asyncio.get_running_loop().run_in_executor(
                    self._worker, self._kept.keep, purges, seen, self._wall()
                )
            self._answers.restore(map(self._judged, purges), seen)

    def _judged(self, purged: Purged) -> Purged:
        ours = purged.by in self._roster or purged.by == self._by
        return purged if ours else replace(purged, foreign_to=self._roster)

    async def purge(self, purge: Purge) -> None:
        """Purge on this node: nothing that it covers is served when this returns. Raises OSError,
        and then it holds until the node is restarted."""
        version = self._stamp()
        purged = Purged(purge, self._by, version, Version(0))
        self._answers.merge(purged)
        await self.hold((purged,), ((self._by, version),))
