"""Entries made from a few words, and what is left of a directory after a kill."""

import shutil
from concurrent.futures import Future
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from index.clock import at
from index.entry import (
    CacheKey,
    Entry,
    NodeName,
    PartitionKey,
    Purge,
    Purged,
    Question,
    Scope,
    Seen,
    Timestamp,
    Version,
)
from index.store import Store

NOW = Timestamp(1_800_000_000.0)
SHARED = Scope("shared")
PARTITION = PartitionKey(b"p" * 32)
DIMENSIONS = 8


def key(name: str | int) -> CacheKey:
    return CacheKey(str(name).encode().rjust(32, b"."))


def entry(
    name: str | int,
    body: bytes | None = None,
    *,
    scope: Scope = SHARED,
    model: str = "m",
    stored_at: float = NOW,
    ttl_s: float = 86_400.0,
    question: str | None = None,
    partition: PartitionKey = PARTITION,
    seen: Seen = (),
) -> Entry:
    return Entry(
        scope=scope,
        key=key(name),
        model=model,
        body=f"the answer to {name} of {scope}".encode() if body is None else body,
        stored_at=Timestamp(stored_at),
        expires_at=Timestamp(stored_at + ttl_s),
        question=None if question is None else Question(partition, question),
        seen=seen,
    )


class Purger:
    """A node that purges."""

    def __init__(self, by: str = "n") -> None:
        self._by = NodeName(by)
        self._last = Version(0)

    def __call__(self, purge: Purge, *, soft: bool = False, now: float = NOW) -> Purged:
        version = Version(max(self._last + 1, at(Timestamp(now))))
        purged = Purged(purge, self._by, version, self._last, soft)
        self._last = version
        return purged


def swept(store: Store, purged: Purged) -> "Future[set[int]]":
    """The ids that it does away with, on disk."""
    return store.aside(lambda: store.sweep([purged.purge], lambda _, one: purged.reaches(one)))


def vector(axis: int) -> NDArray[np.float32]:
    """One of DIMENSIONS directions, each at a right angle to the others."""
    direction: NDArray[np.float32] = np.eye(DIMENSIONS, dtype=np.float32)[axis % DIMENSIONS]
    return direction


def as_after_kill(directory: Path, copy: Path) -> Path:
    """What a process killed now would leave: file and log as they are, and nobody's lock."""
    copy.mkdir()
    for name in ("cache.db", "cache.db-wal", "labels.db", "labels.db-wal"):
        if (directory / name).exists():
            shutil.copyfile(directory / name, copy / name)
    return copy
