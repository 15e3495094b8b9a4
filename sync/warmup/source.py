"""The lines of a file or a pipe, one at a time, as often as wanted.

A job reads its lines twice: once to see what there is, before anything is asked, and once to do it.
A pipe can be read only once, so it is copied into a file that has no name and vanishes by itself.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import IO, BinaryIO

from sync.warmup.lines import LINE_BYTES_MAX, BadLine, Batch, Defaults, Wanted, wanted

_BOM = b"\xef\xbb\xbf"
BAD_SHOWN_MAX = 1000
"""Of lines that cannot be used, how many are named; the others are counted."""


@dataclass(frozen=True, slots=True)
class Flaw:
    """A line that came to nothing, and why; the line itself is not shown."""

    number: int
    reason: str
    name: str = ""


@dataclass(slots=True)
class Survey:
    """What a whole file asks for."""

    digest: str
    """Of all its bytes: another one, another file."""
    lines: int = 0
    """That can be used and want something no earlier line wants."""
    given: int = 0
    """Of these, how many bring their answer."""
    repeated: int = 0
    bad: int = 0
    flaws: list[Flaw] = field(default_factory=list)


class Source:
    """Owns its file until `close`."""

    def __init__(self, file: BinaryIO, defaults: Defaults, batch: Batch | None = None) -> None:
        """`file` can be sought in, see `opened`."""
        self._file = file
        self._defaults = defaults
        self._batch = batch

    def survey(self, each: Callable[[Wanted], None] = lambda _: None) -> Survey:
        """Read everything once; `each` is told of every line that counts."""
        survey = Survey(self._digest())
        seen: set[bytes] = set()
        for _, found in self._every():
            if isinstance(found, Flaw):
                survey.bad += 1
                if len(survey.flaws) < BAD_SHOWN_MAX:
                    survey.flaws.append(found)
            elif found.digest in seen:
                survey.repeated += 1
            else:
                seen.add(found.digest)
                survey.lines += 1
                survey.given += found.answer is not None
                each(found)
        return survey

    def __iter__(self) -> Iterator[tuple[int, Wanted]]:
        """The lines that count, each but once, with their numbers."""
        seen: set[bytes] = set()
        for number, found in self._every():
            if isinstance(found, Wanted) and found.digest not in seen:
                seen.add(found.digest)
                yield number, found

    def _every(self) -> Iterator[tuple[int, Wanted | Flaw]]:
        for number, raw in numbered(self._file):
            try:
                yield number, wanted(raw, self._defaults, self._batch)
            except BadLine as exc:
                yield number, Flaw(number, str(exc))

    def _digest(self) -> str:
        self._file.seek(0)
        digest = blake2b(digest_size=16)
        while part := self._file.read(1 << 20):
            digest.update(part)
        return digest.hexdigest()

    def close(self) -> None:
        self._file.close()


def opened(path: Path | None, stdin: IO[bytes]) -> BinaryIO:
    """The file at `path`, or what is left of `stdin`. Raises OSError."""
    if path is not None and path.is_file():
        return path.open("rb")
    with stdin if path is None else path.open("rb") as pipe:
        copy = tempfile.TemporaryFile()  # noqa: SIM115  whoever opens a source closes it
        shutil.copyfileobj(pipe, copy)
    return copy


def numbered(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, with their numbers; one that is too long is cut."""
    file.seek(0)
    number = 0
    while raw := file.readline(LINE_BYTES_MAX + 2):
        number += 1
        if number == 1:
            raw = raw.removeprefix(_BOM)
        rest = raw
        while rest and not rest.endswith(b"\n"):
            rest = file.readline(LINE_BYTES_MAX)
        if raw.strip():
            yield number, raw.strip()


def batch_of(file: BinaryIO) -> tuple[Batch, list[Flaw]]:
    """The requests of a batch, and the lines that are none."""
    batch, flaws = Batch(), []
    for number, raw in numbered(file):
        try:
            batch.add(raw)
        except BadLine as exc:
            flaws.append(Flaw(number, str(exc)))
    return batch, flaws
