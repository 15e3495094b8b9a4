"""`promptedge warm`, from its options to its report."""

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, TextIO

from sync.warmup import progress
from sync.warmup.gate import Clock
from sync.warmup.job import Job, Order
from sync.warmup.journal import Journal
from sync.warmup.lines import Batch, Defaults
from sync.warmup.nodes import NodeClient, NodeError
from sync.warmup.plan import Budget, QuietHours, Rate
from sync.warmup.report import Report, counted, report
from sync.warmup.source import Flaw, Source, Survey, batch_of, opened


class WarmupError(Exception):
    """Nothing was done, and why."""


@dataclass(frozen=True, slots=True)
class Warmup:
    """What was asked for."""

    path: Path | None
    """None: standard input."""
    nodes: tuple[str, ...]
    name: str
    order: Order = field(default_factory=Order)
    defaults: Defaults = field(default_factory=Defaults)
    requests: Path | None = None
    """The input of a batch whose output the lines are."""
    rate: Rate = field(default_factory=Rate)
    quiet: QuietHours | None = None
    concurrency: int = 4
    budget: Budget = field(default_factory=Budget)
    state: Path | None = None
    report: Path | None = None
    restart: bool = False
    strict: bool = False

    @property
    def journal(self) -> Path | None:
        return self.state or _beside(self.path, ".warm-journal")

    @property
    def report_path(self) -> Path | None:
        return self.report or _beside(self.path, ".warm-report.json")

    def same_job(self) -> dict[str, Any]:
        """What may not change between runs of a job; its budget and its pace may."""
        asked = asdict(self.order)
        del asked["dry_run"]
        return {**asked, "labels": list(self.order.labels), "node": sorted(self.nodes)}


async def warm(asked: Warmup, clock: Clock, stdin: IO[bytes], err: TextIO) -> Report:
    """Do it, showing progress on `err`; signals end it in order.

    Raises:
        WarmupError: it could not begin.
        JournalError: likewise, and the journal says why.
        OSError: a file cannot be read or written.
    """
    began = clock.monotonic()
    async with contextlib.AsyncExitStack() as stack:
        batch = _batch(asked, err)
        source = Source(opened(asked.path, stdin), asked.defaults, batch)
        stack.callback(source.close)
        nodes = [await stack.enter_async_context(_client(url)) for url in asked.nodes]
        await _check(nodes)
        journal = _journal(asked)
        stack.callback(journal.close)
        job = Job(
            source,
            nodes,
            journal,
            asked.order,
            asked.budget,
            clock,
            rate=asked.rate,
            quiet=asked.quiet,
            concurrency=asked.concurrency,
        )
        survey = source.survey(job.look_back)
        if asked.strict and survey.bad:
            raise WarmupError(_bad(survey))
        _say(survey, job, journal, err)
        if not asked.order.dry_run:
            journal.begin(survey.digest)
        with _signals(job, err), _plain_errors():
            async with progress.shown(job, survey.lines, err):
                await job.run()
        done = report(asked.name, job, survey, clock.monotonic() - began)
        if not asked.order.dry_run:
            _write(asked.report_path, done)
            if not (done.left or done.failed_count):
                journal.remove()
        return done


def _batch(asked: Warmup, err: TextIO) -> Batch | None:
    if asked.requests is None:
        return None
    with asked.requests.open("rb") as file:
        batch, flaws = batch_of(file)
    if flaws and asked.strict:
        raise WarmupError(f"{asked.requests}: line {flaws[0].number}: {flaws[0].reason}")
    _tell(flaws, f"{asked.requests}: ", err)
    return batch


def _client(url: str) -> NodeClient:
    try:
        return NodeClient(url)
    except ValueError as exc:
        raise WarmupError(str(exc)) from exc


async def _check(nodes: list[NodeClient]) -> None:
    """Before anything is asked: one that is not there would fail every line."""
    for node in nodes:
        try:
            await node.check()
        except NodeError as exc:
            raise WarmupError(str(exc)) from exc


def _journal(asked: Warmup) -> Journal:
    path = asked.journal
    if path is None or (asked.order.dry_run and (asked.restart or not path.exists())):
        return Journal.nowhere()
    return Journal.open(path, asked.same_job(), restart=asked.restart)


def _say(survey: Survey, job: Job, journal: Journal, err: TextIO) -> None:
    _tell(survey.flaws, "", err)
    if journal.before:
        done = sum(one.ended for one in journal.before.values())
        print(f"promptedge: goes on from {journal.path}: {done} lines were done", file=err)
    if journal.file_then and journal.file_then != survey.digest:
        gone = sum(one.ended for one in journal.before.values()) - job.tally.resumed
        print(
            f"promptedge: the file has changed since: {job.tally.resumed} of its lines were done,"
            f" {gone} that were are not in it any more",
            file=err,
        )


def _tell(flaws: list[Flaw], where: str, err: TextIO) -> None:
    for flaw in flaws[:10]:
        print(f"promptedge: {where}line {flaw.number}: {flaw.reason}", file=err)
    if len(flaws) > 10:
        print(f"promptedge: {where}and {len(flaws) - 10} more such lines", file=err)


def _bad(survey: Survey) -> str:
    first = survey.flaws[0]
    return f"{counted(survey.bad, 'line')} cannot be used; line {first.number}: {first.reason}"


@contextlib.contextmanager
def _plain_errors() -> Iterator[None]:
    """A disk that is full, said as such and not as a group of groups."""
    try:
        yield
    except* OSError as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from None


@contextlib.contextmanager
def _signals(job: Job, err: TextIO) -> Iterator[None]:
    """The first one ends it in order, the second at once."""
    loop = asyncio.get_running_loop()
    me = asyncio.current_task()
    assert me is not None

    def stop() -> None:
        if job.stopped_because == "interrupted":
            me.cancel()
            return
        job.stop("interrupted")
        print(
            "\npromptedge: finishing what is in flight; once more, and it ends at once",
            file=err,
            flush=True,
        )

    signs = (signal.SIGINT, signal.SIGTERM)
    for sign in signs:
        loop.add_signal_handler(sign, stop)
    try:
        yield
    finally:
        for sign in signs:
            loop.remove_signal_handler(sign)


def _write(path: Path | None, done: Report) -> None:
    """Whole or not at all."""
    if path is None:
        return
    new = path.with_name(path.name + ".new")
    new.write_text(json.dumps(done.document(), indent=2) + "\n", "utf-8")
    os.replace(new, path)


def _beside(path: Path | None, suffix: str) -> Path | None:
    return path.with_name(path.name + suffix) if path and path.is_file() else None
