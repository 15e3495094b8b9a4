"""The purges that a node lacks, in few messages, each of which is complete in itself.

A node says in `seen` what it has applied without a gap. Who knows more sends every purge beyond
that. Of a purge that was repeated only the last is left, so what is sent may have gaps of its own:
it is the sender's word that closes them, and only for who had what the sender took for known. So no
message depends on whether another arrived.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from index.entry import NodeName, Seen, Version
from sync.messages import TABLE_MAX, Table
from sync.seams import Kept

BYTES_MAX: Final = 256 << 10
_NEVER: Final = Version(0)


def tables(kept: Iterable[Kept], ours: Seen, theirs: Seen) -> Iterator[Table]:
    """What they lack of what we keep; `ours` and `theirs` is what is applied here and there."""
    known, complete = dict(theirs), dict(ours)
    lacking: dict[NodeName, list[Kept]] = {
        by: [] for by, version in ours if version > known.get(by, _NEVER)
    }
    for one in kept:
        if one.purged.version > known.get(one.purged.by, _NEVER):
            lacking.setdefault(one.purged.by, []).append(one)
    table = _Table()
    for by in sorted(lacking):
        after = known.get(by, _NEVER)
        for one in sorted(lacking[by], key=lambda one: one.purged.version):
            if table.full(one):
                yield table.told()
                table = _Table()
            upto = min(one.purged.version, complete.get(by, _NEVER))
            table.add(by, after, upto, one.frame)
            after = max(after, upto)
        table.add(by, after, complete.get(by, _NEVER))
    if table.seen:
        yield table.told()


def closed(table: Table, ours: Seen) -> Seen:
    """What a table closes of the gaps of a node that has applied so much, and all its purges."""
    known, after = dict(ours), dict(table.after)
    return tuple(
        (by, version)
        for by, version in table.seen
        if after.get(by, _NEVER) <= known.get(by, _NEVER) < version
    )


def lacks(theirs: Seen, ours: Seen) -> bool:
    """Have we applied purges that they have not, or do not know that they have?"""
    known = dict(theirs)
    return any(version > known.get(by, _NEVER) for by, version in ours)


class _Table:
    def __init__(self) -> None:
        self.after: dict[NodeName, Version] = {}
        self.seen: dict[NodeName, Version] = {}
        self._frames: list[bytes] = []
        self._size = 0

    def full(self, one: Kept) -> bool:
        return len(self._frames) == TABLE_MAX or self._size + len(one.frame) > BYTES_MAX

    def add(self, by: NodeName, after: Version, upto: Version, *frames: bytes) -> None:
        self.after.setdefault(by, after)
        self.seen[by] = max(upto, after)
        self._frames += frames
        self._size += sum(map(len, frames))

    def told(self) -> Table:
        return Table(tuple(self.after.items()), tuple(self.seen.items()), tuple(self._frames))
