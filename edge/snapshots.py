"""Snapshots of what this node remembers, out and in; the format is `sync.snapshot`'s.

Out, what is written while it is read may be in it or not; what is purged meanwhile is not, as each
answer is looked at again before it leaves. In, purges come first, so that what they cover stays
out, and every answer passes the door that answers of other nodes pass: nothing is taken that was
purged here, has expired, or is no newer than what is here. What becomes of each is counted.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar, assert_never

from edge.untold import Untold
from index.acceptance import Accepted
from index.answers import Answers
from index.entry import Entry, NodeName, Purge, Purged, Scope, Timestamp
from sync.roster import admits
from sync.snapshot import (
    Header,
    Kept,
    Record,
    SnapshotError,
    SnapshotReader,
    SnapshotWriter,
    Trailer,
)

BATCH = 256
"""Answers read from disk, or put there, in one go of a worker thread: some 10 ms."""

T = TypeVar("T")

_WHY = {
    Accepted.OLDER: "no newer than what is here",
    Accepted.DEAD: "purged",
    Accepted.EXPIRED: "expired",
    Accepted.UNFIT: "unfit",
}


@dataclass(slots=True)
class _Intake:
    """What came in, and what became of it."""

    header: Header | None = None
    purges: list[Purged] = field(default_factory=list)
    waiting: list[Kept] = field(default_factory=list)
    became: Counter[Accepted] = field(default_factory=Counter)
    elsewhere: int = 0
    """Answers that may be kept in other regions only."""
    begun: bool = False
    """Have the purges been applied?"""

    def told(self, reader: SnapshotReader, error: str | None) -> dict[str, Any]:
        return {
            "from": self.header and self.header.node,
            "entries": reader.entries,
            "purges": reader.purges,
            "taken": self.became[Accepted.STORED],
            "not_taken": {
                **{why: self.became[verdict] for verdict, why in _WHY.items()},
                "not to be kept in this region": self.elsewhere,
            },
            "error": error,
        }


class Snapshots:
    def __init__(
        self,
        answers: Answers,
        worker: Executor,
        secret: bytes,
        name: NodeName,
        untold: Untold,
        encoder: Callable[[], str],
        region: str,
        imported: Callable[[Entry], None],
        wall: Callable[[], Timestamp],
    ) -> None:
        """`imported` is told of every answer that was taken."""
        self._answers = answers
        self._worker = worker
        self._secret = secret
        self._name = name
        self._untold = untold
        self._encoder = encoder
        self._region = region
        self._imported = imported
        self._wall = wall

    async def export(
        self, tenant: str | None = None, model: str | None = None, label: str | None = None
    ) -> AsyncIterator[bytes]:
        """A snapshot, in parts: all purges, and the answers that are wanted."""
        wanted = _wanted(tenant, model, label)
        writer = SnapshotWriter(self._secret)
        now = self._wall()
        purges, seen = self._answers.purge_table()
        yield writer.begin(Header(self._name, self._encoder(), now, seen))
        yield b"".join(map(writer.record, purges))
        await self._aside(self._answers.flush)  # what was put a moment ago is on its way to disk
        answers = self._answers.everything(now)
        while found := await self._aside(lambda: list(islice(answers, BATCH))):
            for entry, hint in found:
                if all(one.covers(entry) for one in wanted):
                    yield writer.record(Kept(entry, hint))
        yield writer.end()

    async def take_in(self, chunks: AsyncIterator[bytes]) -> dict[str, Any]:
        """What became of the snapshot in `chunks`. `error`: why it was not read to its end.

        Raises:
            SnapshotError: it is none of ours; nothing was taken.
        """
        reader, came = SnapshotReader(self._secret), _Intake()
        error = None
        try:
            async for chunk in chunks:
                for record in reader.feed(chunk):
                    await self._take(record, came)
            reader.close()
        except SnapshotError as exc:
            # Who sends it hears of it once all is sent: an answer in the middle would be missed.
            async for _ in chunks:
                pass
            if came.header is None:
                raise
            error = str(exc)
            if came.begun or came.waiting:  # or else it broke among the purges: part is not all
                await self._flush(came)
        return came.told(reader, error)

    async def _take(self, record: Record, came: _Intake) -> None:
        match record:
            case Header():
                came.header = record
            case Purged():
                came.purges.append(record)
            case Kept():
                came.waiting.append(record)
                if len(came.waiting) >= BATCH:
                    await self._flush(came)
            case Trailer():
                await self._flush(came)
            case _:
                assert_never(record)

    async def _flush(self, came: _Intake) -> None:
        """Apply what waits: all purges before the first answer."""
        assert came.header is not None
        if not came.begun:
            came.begun = True
            await self._untold.hold(came.purges, came.header.seen)
        waiting, came.waiting = came.waiting, []
        kept = [one for one in waiting if self._may_be_here(one.entry)]
        came.elsewhere += len(waiting) - len(kept)
        if kept:
            became = await self._aside(lambda: self._accept(kept))
            came.became.update(became)
            for one, verdict in zip(kept, became, strict=True):
                if verdict is Accepted.STORED:
                    self._imported(one.entry)

    def _may_be_here(self, entry: Entry) -> bool:
        """What is to stay on its node goes where an operator takes it; regions are others' word."""
        return not entry.reach or admits(entry.reach, self._region)

    def _accept(self, entries: Sequence[Kept]) -> list[Accepted]:
        """On a worker thread. Waits for the disk, so that its queue never overflows."""
        now = self._wall()
        became = [self._answers.accept(one.entry, now, one.hint) for one in entries]
        self._answers.flush()
        return became

    async def _aside(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, work)


def _wanted(tenant: str | None, model: str | None, label: str | None) -> list[Purge]:
    """What an answer has to be covered by to be exported."""
    scope = None if tenant is None else Scope(f"tenant:{tenant}")
    labels = [label, None if model is None else f"model:{model}"]
    return [Purge(scope), *(Purge(label=one) for one in labels if one is not None)]
