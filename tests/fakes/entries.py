"""Entries made from a few words, and what is left of a directory after a kill."""

import shutil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from index.entry import CacheKey, Entry, PartitionKey, Question, Scope, Timestamp

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
) -> Entry:
    return Entry(
        scope=scope,
        key=key(name),
        model=model,
        body=f"the answer to {name} of {scope}".encode() if body is None else body,
        stored_at=Timestamp(stored_at),
        expires_at=Timestamp(stored_at + ttl_s),
        question=None if question is None else Question(partition, question),
    )


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
