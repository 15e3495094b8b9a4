"""Small books that a wire keeps: bytes held, events allowed, tasks alive."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

log = logging.getLogger("wire")


class ByteBudget:
    """Bytes that may be held at once. Taking from a part takes from the whole as well."""

    def __init__(self, max_bytes: int, parent: "ByteBudget | None" = None) -> None:
        self.max_bytes = max_bytes
        self.held = 0
        self._parent = parent

    def __repr__(self) -> str:
        return f"<ByteBudget {self.held}/{self.max_bytes}>"

    def take(self, count: int) -> bool:
        """True if `count` more are now held; otherwise nothing has changed."""
        if self.held + count > self.max_bytes:
            return False
        if self._parent is not None and not self._parent.take(count):
            return False
        self.held += count
        return True

    def give(self, count: int) -> None:
        assert 0 <= count <= self.held
        self.held -= count
        if self._parent is not None:
            self._parent.give(count)


class Allowance:
    """A token bucket: `burst` at once, and `per_s` more each second."""

    def __init__(self, burst: int, per_s: float) -> None:
        self._burst = float(burst)
        self._per_s = per_s
        self._left = float(burst)
        self._at: float | None = None

    def __repr__(self) -> str:
        return f"<Allowance left={self._left:.1f} of {self._burst:.0f}>"

    def spend(self, now: float) -> bool:
        """Take one; False when there is none."""
        if self._at is not None:
            self._left = min(self._burst, self._left + (now - self._at) * self._per_s)
        self._at = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True

    def earn(self) -> None:
        """One more, as far as there is room for it."""
        self._left = min(self._burst, self._left + 1.0)


class Tasks:
    """The tasks of one owner: each has a name, none is forgotten, all end with the owner."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def __repr__(self) -> str:
        return f"<Tasks {sorted(task.get_name() for task in self._tasks)}>"

    def start(self, coroutine: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (exc := task.exception()) is not None:
            log.error("event=task_failed task=%s error=%s", task.get_name(), type(exc).__name__)

    async def close(self, patience_s: float = 5.0) -> None:
        """Cancel what is left and wait until it has unwound; what will not unwind is named."""
        if not self._tasks:
            return
        for task in self._tasks:
            task.cancel()
        _, stuck = await asyncio.wait(self._tasks, timeout=patience_s)
        for task in stuck:
            log.error("event=task_stuck task=%s", task.get_name())
