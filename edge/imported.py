"""Purges that came with snapshots, on disk: a restart must not let in again what they cover.

A fleet's purges are kept with the signature of the node that made each (`sync.outbox`). Those in a
snapshot are proven by the fleet's secret instead, and may be of nodes that this one is in no fleet
with. So they are kept as they came, as a snapshot without answers, written anew with each import.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

from index.answers import REMEMBERED_S
from index.clock import at
from index.entry import NodeName, Purge, Purged, Seen, Timestamp, Version
from index.generations import PURGES_MAX
from sync.private_files import write_private
from sync.snapshot import Header, Kept, SnapshotError, SnapshotReader, SnapshotWriter, Trailer

log = logging.getLogger("snapshots")

NAME = "imported.purges"


class ImportedPurges:
    """Loads what is there. Blocks for the disk."""

    def __init__(self, data: Path, secret: bytes) -> None:
        self._path = data / NAME
        self._secret = secret
        self._purges: dict[tuple[Purge, NodeName, bool], Purged] = {}
        self._seen: dict[NodeName, Version] = {}
        try:
            self._load()
        except FileNotFoundError:
            return
        except SnapshotError as exc:
            aside = self._path.with_suffix(".corrupt")
            self._path.replace(aside)
            log.error("event=imported_purges_set_aside file=%s why=%s", aside, exc)

    @property
    def purges(self) -> tuple[Purged, ...]:
        return tuple(self._purges.values())

    @property
    def seen(self) -> Seen:
        """What they come to: with all of them, nothing up to here is missing."""
        return tuple(sorted(self._seen.items()))

    def keep(self, purges: Sequence[Purged], seen: Seen, now: Timestamp) -> None:
        """Add some: on disk when this returns. The oldest are forgotten. Raises OSError."""
        self._add(purges, seen)
        old = at(Timestamp(now - REMEMBERED_S))
        newest = sorted(self._purges.items(), key=lambda item: item[1].version)[-PURGES_MAX:]
        self._purges = {name: one for name, one in newest if one.version > old}
        writer = SnapshotWriter(self._secret)
        parts = [writer.begin(Header("", "", now, self.seen))]
        parts += map(writer.record, self.purges)
        write_private(self._path, b"".join([*parts, writer.end()]))

    def _load(self) -> None:
        reader = SnapshotReader(self._secret)
        for record in reader.feed(self._path.read_bytes()):
            match record:
                case Header():
                    self._add((), record.seen)
                case Purged():
                    self._add((record,), ())
                case Kept() | Trailer():
                    pass
        reader.close()

    def _add(self, purges: Sequence[Purged], seen: Seen) -> None:
        for one in purges:
            name = one.purge, one.by, one.soft
            if name not in self._purges or self._purges[name].version < one.version:
                self._purges[name] = one
        for by, version in seen:
            self._seen[by] = max(version, self._seen.get(by, version))
