"""One fill for equal requests in flight, streamed to all who wait, owned by none of them.

Why the fill belongs to nobody: a waits, b joins, a leaves. Were the upstream call a's, a's leaving
would cancel it under b, or worse, hand b what was left of a's exchange (OpenAI, 2023-03-20). So a
`Flight` runs in a task of its own; those who wait hold an *interest* in it, and only when the last
interest is gone is the call cancelled.

Back-pressure: the fill asks for `room()` before it reads on. There is room while the reader that
is furthest is less than `WINDOW_BYTES` behind; one slow reader among fast ones does not hold them
up, for the events are kept anyhow until the answer is whole. Past `held_bytes_max` an answer will
not be stored: then what all have read is dropped, and a reader still further behind is cut off.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Hashable
from dataclasses import dataclass
from typing import Any

from edge.decisions import Decided
from edge.dialects.events import Event
from edge.errors import EdgeError, StreamCut
from edge.status import Stale
from index.decision import Match

WINDOW_BYTES = 64 * 1024

Spawn = Callable[[Coroutine[Any, Any, None], str], asyncio.Task[None]]
"""Starts a named task in the node's task group."""


@dataclass(frozen=True, slots=True)
class Found:
    """Memory had the answer after all."""

    match: Match
    why: Stale | None = None
    """Why an expired one has to do."""


@dataclass(frozen=True, slots=True)
class Whole:
    """The upstream's complete answer, as JSON."""

    body: bytes
    stored: bool
    why: str = ""
    """Why it was not stored, in a word, once that was decided."""


@dataclass(frozen=True, slots=True)
class Failed:
    error: EdgeError


Outcome = Found | Whole | Failed


@dataclass(slots=True, eq=False)
class Reader:
    """A place in the stream. The events after it are what `Flight.room` counts."""

    position: int = 0
    """Number of the next event to read."""
    read_bytes: int = 0


class Flight:
    """One answer on its way. The fill writes; any number of waiters read."""

    def __init__(self, held_bytes_max: int) -> None:
        self.outcome: Outcome | None = None
        self.opened = False
        """Has the first event been published? From then on no other upstream may be tried."""
        self.called = False
        """Has it had its turn, so that an upstream is asked?"""
        self.followed = False
        """Whether it had its answer from another flight, which fetched it anew already."""
        self.storable = True
        self.decided: Decided | None = None
        """What meaning had to say, once that is known: before there is an event or an outcome."""
        self.bypassed = False
        """Whether memory has no part in this prompt at all."""
        self.stand_in: str | None = None
        """The name of the local upstream that stands in for those that cannot answer, if so."""
        self._held_bytes_max = held_bytes_max
        self._events: deque[Event] = deque()
        self._dropped = 0
        self._published_bytes = 0
        self._held_bytes = 0
        self._readers: set[Reader] = set()
        self._interests = 0
        self._abandoned = False
        self._beginning = 0
        self._waiting_for_whole = 0
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        state = type(self.outcome).__name__ if self.outcome else "open" if self.opened else "wait"
        return f"<Flight {state} interests={self._interests} events={self._next}>"

    @property
    def events(self) -> int:
        """Published so far; of most upstreams each holds a token."""
        return self._next

    @property
    def wants_whole(self) -> bool:
        """Must the answer be put together even if it will not be stored?"""
        return self._waiting_for_whole > 0

    @property
    def joinable(self) -> bool:
        """Would a newcomer get the whole answer, and does it still need to come here for it? Not
        when it is being cancelled, as the last of those who waited has just left."""
        return self.outcome is None and self.storable and not self._abandoned

    # What the fill calls.

    def publish(self, event: Event) -> None:
        self.opened = True
        self._events.append(event)
        self._published_bytes += len(event.data)
        self._held_bytes += len(event.data)
        if self._held_bytes > self._held_bytes_max:
            self.storable = False
        if not self.storable:
            self._trim()
        self._notify()

    def settle(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self._notify()

    async def room(self) -> None:
        while not self._waiting_for_whole and (self._readers or self._beginning):
            furthest = max((reader.read_bytes for reader in self._readers), default=0)
            if self._published_bytes - furthest < WINDOW_BYTES:
                return
            await self._changed.wait()

    # What those who wait call.

    def hold(self) -> None:
        """Take an interest: the fill goes on while anybody has one."""
        self._interests += 1

    def release(self) -> None:
        """Give it up. The last one to do so cancels a fill that is not done."""
        self._interests -= 1
        if not self._interests and self.outcome is None and self._task:
            self._abandoned = True
            self._task.cancel()

    async def held(self) -> Found | Whole:
        """As `whole`, with an interest in it for so long."""
        self.hold()
        try:
            return await self.whole()
        finally:
            self.release()

    async def began(self) -> None:
        """Until there is an outcome or a first event. Who waits here is about to read."""
        self._beginning += 1
        try:
            while self.outcome is None and not self.opened:
                await self._changed.wait()
        finally:
            self._beginning -= 1
            self._notify()

    async def whole(self) -> Found | Whole:
        """The complete answer.

        Raises:
            EdgeError: there is none.
        """
        self._waiting_for_whole += 1
        self._notify()
        try:
            while self.outcome is None:
                await self._changed.wait()
        finally:
            self._waiting_for_whole -= 1
        if isinstance(self.outcome, Failed):
            raise self.outcome.error
        return self.outcome

    def enter(self) -> Reader:
        """A reader at the start. From now on the fill waits for it; `leave` when it is done."""
        reader = Reader()
        self._readers.add(reader)
        return reader

    def leave(self, reader: Reader) -> None:
        self._readers.discard(reader)
        self._notify()

    async def batches(self, reader: Reader, silence_s: float) -> AsyncGenerator[list[Event], None]:
        """Events as they come, those of one moment together; an empty list after each silence.

        Raises:
            EdgeError: the answer broke off; what was read is not all of it.
            StreamCut: this reader fell so far behind that events it needs are gone.
        """
        while True:
            batch = self._take(reader)
            if batch:
                yield batch
            elif isinstance(self.outcome, Failed):
                raise self.outcome.error
            elif self.outcome is not None:
                return
            elif await self._silent(silence_s):
                yield []

    # How it is done.

    @property
    def _next(self) -> int:
        return self._dropped + len(self._events)

    def _take(self, reader: Reader) -> list[Event]:
        if reader.position < self._dropped:
            raise StreamCut("the reader is too slow for an answer of this size")
        batch = [self._events[at - self._dropped] for at in range(reader.position, self._next)]
        if batch:
            reader.position = self._next
            reader.read_bytes = self._published_bytes
            self._notify()
        return batch

    async def _silent(self, silence_s: float) -> bool:
        try:
            async with asyncio.timeout(silence_s):
                await self._changed.wait()
        except TimeoutError:
            return True
        return False

    def _trim(self) -> None:
        nobody = 0 if self._beginning else self._next
        positions = [reader.position for reader in self._readers] or [nobody]
        slowest, furthest = min(positions), max(positions)
        # What the furthest reader has yet to read is bounded by `room`, unless that is suspended.
        cut = self._next if self._waiting_for_whole else furthest
        while self._dropped < slowest or (
            self._dropped < cut and self._held_bytes > self._held_bytes_max
        ):
            self._held_bytes -= len(self._events.popleft().data)
            self._dropped += 1

    def _notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


class Collapse:
    """The flights that equal requests may still join, by key."""

    def __init__(self, spawn: Spawn, held_bytes_max: int) -> None:
        self._spawn = spawn
        self._held_bytes_max = held_bytes_max
        self._joinable: dict[Hashable, Flight] = {}

    def __len__(self) -> int:
        return len(self._joinable)

    def join(
        self, key: Hashable | None, fill: Callable[[Flight], Coroutine[Any, Any, None]]
    ) -> tuple[Flight, bool]:
        """The flight for `key`, and whether this call started it. None joins nobody's."""
        flight = None if key is None else self.find(key)
        if flight is not None:
            return flight, False
        flight = Flight(self._held_bytes_max)
        flight._task = self._spawn(fill(flight), f"fill {id(flight):x}")
        if key is not None:
            self._joinable[key] = flight
            flight._task.add_done_callback(lambda _: self._forget(key, flight))
        return flight, True

    def find(self, key: Hashable) -> Flight | None:
        """The flight for `key`, if there is one that may be joined."""
        flight = self._joinable.get(key)
        return flight if flight is not None and flight.joinable else None

    def renew(self) -> None:
        """What is asked from now on is filled anew: what is in flight may be out of date."""
        self._joinable.clear()

    def _forget(self, key: Hashable, flight: Flight) -> None:
        if self._joinable.get(key) is flight:
            del self._joinable[key]
