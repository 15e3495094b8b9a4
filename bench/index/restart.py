"""What a start takes until all that is stored is found, of a file in the page cache."""

import sqlite3
import tempfile
import time
from pathlib import Path

from bench.index.contenders import DIMENSIONS, Floats
from index.answers import Answers
from index.decision import DecisionSettings
from index.entry import CacheKey, Entry, PartitionKey, Question, Scope, Timestamp
from index.memory import MemorySettings
from index.rows import Stored, insert
from index.store import StoreSettings

_SCOPE, _NOW = Scope("shared"), Timestamp(1.8e9)
_QUESTION = Question(PartitionKey(b"p" * 32), "what?")


def restart(kept: Floats) -> None:
    with tempfile.TemporaryDirectory() as directory:
        _fill(Path(directory), kept)
        answers = _opened(Path(directory))
        began, spent = time.perf_counter(), time.process_time()
        answers.similar.load("bench", DIMENSIONS)
        took, spent = time.perf_counter() - began, time.process_time() - spent
        assert answers.stats.vectors == len(kept)
        answers.close()
    print(f"  restart with {len(kept):,}: {spent:.1f} s of CPU, {took:.1f} s, until all are found")


def _opened(directory: Path) -> Answers:
    settings = StoreSettings(max_bytes=64 << 30)
    return Answers.open(directory, settings, MemorySettings(), DecisionSettings())


def _fill(directory: Path, kept: Floats) -> None:
    """Past the writer, which would take three times as long for the same rows."""
    answers = _opened(directory)
    answers.similar.load("bench", DIMENSIONS)
    answers.close()
    connection = sqlite3.connect(directory / "cache.db", isolation_level=None)
    connection.execute("PRAGMA synchronous=OFF")
    for start in range(0, len(kept), 20_000):
        connection.execute("BEGIN")
        for number in range(start, min(start + 20_000, len(kept))):
            key, expires_at = CacheKey(b"%032d" % number), Timestamp(_NOW + 1e6)
            entry = Entry(_SCOPE, key, "m", b"x" * 100, _NOW, expires_at, _QUESTION, 50)
            stored = Stored(number + 1, entry)
            insert(connection, stored, kept[number], proven=True, age=0.0, pinned_bytes_max=0)
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    connection.close()
