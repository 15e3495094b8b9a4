"""What a job has done, written down before it counts as done.

One file of JSON Lines beside the job's own. The first says what job it is; each further one is a
line of the job that came to an end, known by a digest of what it wanted, so that the journal holds
no prompt, and a file that was edited meanwhile is picked up where its lines are still the same. A
line is on the disk (fsync) before the next one is begun in its place: after `kill -9` only calls
that were in flight are made again. A torn last line, as a kill leaves it, is cut off.

One process at a time: the file is locked. When everything is done the journal is removed.
"""

import asyncio
import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from sync.warmup.plan import NONE, Tokens

FORMAT = 1


class JournalError(Exception):
    """The journal cannot be used; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Done:
    """How a line of the job ended."""

    digest: bytes
    outcome: str
    """`stored`, `present`, `refused` or `failed`; see `sync.warmup.nodes.Told`."""
    reason: str = ""
    asked: bool = False
    """Whether the upstream was."""
    tokens: Tokens = NONE
    number: int = 0
    name: str = ""

    @property
    def ended(self) -> bool:
        """Need it not be tried again?"""
        return self.outcome != "failed"


class Journal:
    """Open and locked until `close` or `remove`."""

    def __init__(self, path: Path | None, descriptor: int, before: Mapping[bytes, Done]) -> None:
        self.path = path
        self.before = before
        """What earlier runs did, by digest."""
        self.file_then = ""
        """The digest of the file at the run before, if there was one."""
        self._descriptor = descriptor
        self._waiting: list[bytes] = []
        self._lock = asyncio.Lock()

    @classmethod
    def open(cls, path: Path, options: Mapping[str, Any], *, restart: bool = False) -> Self:
        """The journal at `path`, begun if it is not there, or anew if `restart`.

        `options` are what must be the same for this to be the same job.

        Raises:
            JournalError: it belongs to another job, or another process is at it.
            OSError: it cannot be read or written.
        """
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            return cls._read(path, descriptor, options, restart)
        except BaseException:
            os.close(descriptor)
            raise

    @classmethod
    def _read(cls, path: Path, descriptor: int, options: Mapping[str, Any], restart: bool) -> Self:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise JournalError(f"{path}: another warm-up is at work with this file") from exc
        records, whole = _records(descriptor, path)
        if records and "warmup" not in records[0]:
            raise JournalError(f"{path}: not a journal. {_AGAIN}")  # whatever it is, it stays
        if restart:
            records, whole = [], 0
        if records:
            _check(records[0], options, path)
        os.ftruncate(descriptor, whole)
        os.lseek(descriptor, whole, os.SEEK_SET)
        journal = cls(path, descriptor, dict(_done(records)))
        journal.file_then = next((r["file"] for r in reversed(records) if "file" in r), "")
        if not records:
            journal._write(_line({"warmup": FORMAT, "options": options}))
            _sync_directory(path.parent)
        return journal

    @classmethod
    def nowhere(cls) -> Self:
        """For a job that is not to be resumed."""
        return cls(None, os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), {})

    def begin(self, file: str) -> None:
        """A run begins, with a file of this digest."""
        self._write(_line({"file": file}))

    async def add(self, done: Done) -> None:
        """Returns once it is on the disk, together with what else came meanwhile."""
        self._waiting.append(_line(_record(done)))
        async with self._lock:
            lines, self._waiting = self._waiting, []
            if lines:  # or else who held the lock before has written it
                await asyncio.shield(asyncio.to_thread(self._write, b"".join(lines)))

    def remove(self) -> None:
        if self.path:
            with contextlib.suppress(FileNotFoundError):
                self.path.unlink()
        self.close()

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]
        if self.path:
            os.fdatasync(self._descriptor)


def _records(descriptor: int, path: Path) -> tuple[list[dict[str, Any]], int]:
    """The whole lines, parsed, and their bytes: a last one that a kill tore is not among them."""
    records: list[dict[str, Any]] = []
    whole = 0
    with os.fdopen(os.dup(descriptor), "rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                if not records and not line.startswith(_BEGINNING[: len(line)]):
                    raise JournalError(f"{path}: not a journal. {_AGAIN}")
                break
            try:
                record = json.loads(line)
            except ValueError:
                record = None
            if not isinstance(record, dict):
                raise JournalError(f"{path}: not a journal, or damaged. {_AGAIN}")
            whole += len(line)
            records.append(record)
    return records, whole


_BEGINNING = b'{"warmup":'
_AGAIN = "Begin anew with --restart, or name another one with --state FILE"


def _check(first: Mapping[str, Any], options: Mapping[str, Any], path: Path) -> None:
    if first.get("warmup") != FORMAT:
        raise JournalError(f"{path}: not a journal of this version. {_AGAIN}")
    before = first["options"]
    other = sorted(name for name in options if before.get(name) != options[name])
    if other:
        raise JournalError(
            f"{path}: belongs to a job with another {' and '.join(other)}, which was not finished."
            f" {_AGAIN}"
        )


def _done(records: list[dict[str, Any]]) -> Iterator[tuple[bytes, Done]]:
    for record in records:
        if "line" in record:
            prompt, answer = record["tokens"]
            digest = bytes.fromhex(record["line"])
            yield (
                digest,
                Done(
                    digest,
                    record["outcome"],
                    record["reason"],
                    record["asked"],
                    Tokens(prompt, answer),
                    record["number"],
                    record["name"],
                ),
            )


def _record(done: Done) -> dict[str, Any]:
    return {
        "line": done.digest.hex(),
        "number": done.number,
        "name": done.name,
        "outcome": done.outcome,
        "reason": done.reason,
        "asked": done.asked,
        "tokens": [done.tokens.prompt, done.tokens.answer],
    }


def _line(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, separators=(",", ":")).encode() + b"\n"


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
