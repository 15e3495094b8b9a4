"""What waits to be written: answers in groups, and other work in its place between them.

Nobody who has an answer to keep is made to wait, so what finds no room is not taken. One thread
takes; any may give.
"""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Condition
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from index.entry import CacheKey, Entry, Scope

T = TypeVar("T")

GROUP_MAX: Final = 100
_PUT_OVERHEAD_BYTES: Final = 512


class StoreClosed(RuntimeError):  # noqa: N818  reads as what happened
    """Work was given to a store that is closing."""


@dataclass(frozen=True, slots=True)
class Put:
    id: int
    entry: Entry
    vector: NDArray[np.float32] | None
    proven: bool = True
    """Was the vector made here, or compared with one that was?"""

    @property
    def nbytes(self) -> int:
        vector = 0 if self.vector is None else self.vector.nbytes
        return _PUT_OVERHEAD_BYTES + len(self.entry.body) + vector


@dataclass(frozen=True, slots=True)
class Job:
    work: Callable[[], Any]
    done: Future[Any]


class Queue:
    def __init__(self, entries_max: int, bytes_max: int, linger_s: float) -> None:
        """`linger_s`: how long the first answer of a group waits for others."""
        self._entries_max = entries_max
        self._bytes_max = bytes_max
        self._linger_s = linger_s
        self._waiting: deque[Put | Job] = deque()
        self.nbytes = 0
        """Of the answers that wait."""
        self.pending: dict[tuple[Scope, CacheKey], Put] = {}
        """What was put and is not committed yet: reads ask here first, and so see every put."""
        self._urgent = 0
        self._closing = False
        self.lock = Condition()

    def __len__(self) -> int:
        return len(self._waiting)

    # From any thread.

    def put(self, put: Put) -> bool:
        """False when there is no room. Never blocks."""
        nbytes = put.nbytes
        with self.lock:
            if (
                self._closing
                or len(self._waiting) >= self._entries_max
                or self.nbytes + nbytes > self._bytes_max
            ):
                return False
            self._waiting.append(put)
            self.nbytes += nbytes
            self.pending[(put.entry.scope, put.entry.key)] = put
            if len(self._waiting) in (1, GROUP_MAX):
                self.lock.notify()
            return True

    def run(self, work: Callable[[], T]) -> Future[T]:
        """Have work done after everything that was put before it. Raises StoreClosed."""
        done: Future[T] = Future()
        with self.lock:
            if self._closing:
                raise StoreClosed
            self._waiting.append(Job(work, done))
            self._urgent += 1
            self.lock.notify()
        return done

    def close(self) -> None:
        """Take no more in; what waits is still given out."""
        with self.lock:
            self._closing = True
            self.lock.notify()

    # From the thread that writes.

    @property
    def ended(self) -> bool:
        return self._closing and not self._waiting

    def take(self, wait_s: float) -> tuple[list[Put], Job | None]:
        """A group of answers, or a job; neither when nothing has come for so long."""
        with self.lock:
            if not self._waiting and not self._closing:
                self.lock.wait(wait_s)
            if self._waiting:
                self.lock.wait_for(self._group_is_ready, self._linger_s)
            if self._waiting and isinstance(job := self._waiting[0], Job):
                self._waiting.popleft()
                self._urgent -= 1
                return [], job
            return self._next_puts(), None

    def take_puts(self) -> list[Put]:
        """The group that comes next, if it is answers."""
        with self.lock:
            return self._next_puts()

    def written(self, puts: list[Put]) -> None:
        """These wait no longer, be they written or lost."""
        with self.lock:
            for put in puts:
                name = (put.entry.scope, put.entry.key)
                if self.pending.get(name) is put:
                    del self.pending[name]

    def _group_is_ready(self) -> bool:
        return bool(self._closing or self._urgent or len(self._waiting) >= GROUP_MAX)

    def _next_puts(self) -> list[Put]:
        puts: list[Put] = []
        while self._waiting and len(puts) < GROUP_MAX and isinstance(put := self._waiting[0], Put):
            self._waiting.popleft()
            self.nbytes -= put.nbytes
            puts.append(put)
        return puts
