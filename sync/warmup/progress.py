"""How far a job is, on standard error: a bar on a terminal, a line now and then elsewhere."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TextIO

from tqdm import tqdm

from sync.warmup.job import Job
from sync.warmup.report import errors_told

SHOWN_EVERY_S = 0.2
LINE_EVERY_S = 10.0
"""Where nobody watches, and a log would fill up."""
WAITING_SHOWN_S = 5.0


@asynccontextmanager
async def shown(job: Job, total: int, out: TextIO) -> AsyncIterator[None]:
    """Show `job` while the block runs."""
    # A terminal without columns, as some of CI are, is nobody's.
    watched = out.isatty() and os.get_terminal_size(out.fileno()).columns > 0
    show = _bar if watched else _lines
    over = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(show(job, total, out, over), name="progress")
        try:
            yield
        finally:
            over.set()


async def _bar(job: Job, total: int, out: TextIO, over: asyncio.Event) -> None:
    tqdm.monitor_interval = 0  # no thread: this loop is steady enough
    with tqdm(
        total=total,
        initial=job.tally.resumed,
        unit="line",
        file=out,
        dynamic_ncols=True,
        smoothing=0.1,
    ) as bar:
        while True:
            last = over.is_set()
            bar.update(job.tally.ended + len(job.tally.failed) - bar.n)
            bar.set_postfix_str(_state(job))
            if last:
                return
            await _unless(over, SHOWN_EVERY_S)


async def _lines(job: Job, total: int, out: TextIO, over: asyncio.Event) -> None:
    began = time.monotonic()  # noqa: TID251  what is shown, not what is decided
    while not over.is_set():
        await _unless(over, LINE_EVERY_S)
        elapsed = time.monotonic() - began  # noqa: TID251
        ended = job.tally.ended + len(job.tally.failed)
        pace = (ended - job.tally.resumed) / elapsed if elapsed else 0.0
        left = f", {_span((total - ended) / pace)} left" if pace and ended < total else ""
        percent = f"{ended / total:.0%}" if total else "100%"
        print(
            f"promptedge warm: {ended}/{total} ({percent}), {_pace(pace)}{left}, {_state(job)}",
            file=out,
            flush=True,
        )


def _state(job: Job) -> str:
    """What a bar does not say by itself."""
    outcomes = job.tally.outcomes
    parts = [f"{count} {outcome}" for outcome, count in sorted(outcomes.items(), reverse=True)]
    if job.tally.failed:
        parts.append(f"{len(job.tally.failed)} failed")
    if job.tally.errors:
        parts.append(f"errors {errors_told(job.tally.errors)}")
    if job.budget.prices.known:
        parts.append(f"${job.budget.spent_usd:.4f}")
    elif job.budget.spent.total:
        parts.append(f"{job.budget.spent.total} tokens")
    parts += _waiting(job)
    return ", ".join(parts) or "beginning"


def _waiting(job: Job) -> list[str]:
    if job.gate.stopped:
        return ["finishing what is in flight"]
    quiet_in_s, wait_s = job.gate.quiet_in_s, job.gate.wait_s
    if quiet_in_s:
        return [f"quiet hours in {_span(quiet_in_s)}"]
    return [f"waiting {_span(wait_s)}"] if wait_s > WAITING_SHOWN_S else []


def _pace(per_s: float) -> str:
    return f"{per_s:.1f}/s" if per_s >= 1 else f"{per_s * 60:.1f}/min"


def _span(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


async def _unless(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
