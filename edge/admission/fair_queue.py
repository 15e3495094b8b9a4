"""Who goes next when there is less room than there are takers: a fair share each, no surprises.

    tenant a ─┐
    tenant b ─┼─ weight 4: in turn ─┐
    tenant c ─┘                     ├─ by share ─► next
    tenants d, e, f ─ weight 1 ─────┘

A flow is what one tenant asks. Flows of one weight take turns, so one that floods waits behind
itself alone, and one that was quiet waits for one turn of each other at most. Between weights it is
self-clocked fair queueing (Golestani, INFOCOM 1994): a request ends, in virtual time, `1 / share`
after the last one of its weight, or after now if nobody of that weight waited; the lowest end goes
next, and virtual time is then that. Shares are the weight times how many such flows there are, or
how many of any smaller weight if those are more: a crowd of free tenants does not outvote a few who
pay. With weights of 4 and 1 these get four fifths of the room, as far as they want it, however many
the others are, and each tenant of weight 4 gets at least four times what one of weight 1 gets.

Inside a flow the oldest goes first, until it has waited `stale_s`: then the flow is overloaded, its
old requests will miss their deadlines whatever happens, and the newest goes first (adaptive LIFO,
Maurer, "Fail at Scale", 2015). What cannot be served by its deadline is told so when it arrives, as
far as that can be foreseen, and at the deadline at the latest: nobody waits for nothing.

Bounds: of each flow `flow_max` wait, of all together `total_max`; then the flow with the longest
queue for its weight gives up its newest.
"""

from collections import OrderedDict, deque
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from index.entry import Instant

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Waiting(Generic[T]):
    """One request in the queue."""

    item: T
    flow: Hashable
    weight: float
    since: Instant
    deadline: Instant
    gone: bool = False
    """Served, dropped or withdrawn."""


@dataclass(slots=True)
class _Class(Generic[T]):
    """The flows of one weight in which somebody waits, in the order of their turns."""

    weight: float
    flows: OrderedDict[Hashable, deque[Waiting[T]]] = field(default_factory=OrderedDict)
    ended: float = 0.0
    """Virtual time at which its last request ended, or at which the first of these came."""

    def __len__(self) -> int:
        return sum(map(len, self.flows.values()))


class FairQueue(Generic[T]):
    def __init__(self, *, flow_max: int, total_max: int, stale_s: float = 5.0) -> None:
        self._flow_max = flow_max
        self._total_max = total_max
        self._stale_s = stale_s
        self._classes: dict[float, _Class[T]] = {}
        self._virtual = 0.0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def put(
        self, item: T, flow: Hashable, *, weight: float, deadline: Instant, now: Instant
    ) -> tuple[Waiting[T], list[Waiting[T]]]:
        """Queue `item`; and whoever had to leave for that, perhaps it."""
        waiting = Waiting(item, flow, weight, now, deadline)
        mine = self._classes.setdefault(weight, _Class(weight, ended=self._virtual))
        queue = mine.flows.setdefault(flow, deque())
        queue.append(waiting)
        self._count += 1
        if len(queue) > self._flow_max:
            return waiting, [self._out(queue[-1])]
        if self._count > self._total_max:
            queues = ((one.weight, q) for one in self._classes.values() for q in one.flows.values())
            _, longest = max(queues, key=lambda pair: len(pair[1]) / pair[0])
            return waiting, [self._out(longest[-1])]
        return waiting, []

    def next(self, now: Instant) -> tuple[Waiting[T] | None, list[Waiting[T]]]:
        """Who goes, None if nobody waits; and who was found past its deadline on the way."""
        late: list[Waiting[T]] = []
        while self._classes:
            ends, weight = min((self._ends(one), -one.weight) for one in self._classes.values())
            mine = self._classes[-weight]
            flow, queue = next(iter(mine.flows.items()))
            past = [one for one in queue if one.deadline <= now]
            late += [self._out(one) for one in past]
            if not queue:
                continue
            mine.flows.move_to_end(flow)
            self._virtual = mine.ended = ends
            stale = now - queue[0].since > self._stale_s
            return self._out(queue[-1 if stale else 0]), late
        self._virtual = 0.0
        return None, late

    def withdraw(self, waiting: Waiting[T]) -> None:
        """It does not wait any more. Harmless when it was served or dropped."""
        if not waiting.gone:
            self._out(waiting)

    def ahead(self, flow: Hashable, weight: float) -> float:
        """How many go before a request of that flow that would come now, of those who wait."""
        mine = self._classes.get(weight) or _Class(weight)
        alike = self.alike(flow, weight)
        turns = (alike + 1) / self._share(mine)
        others = (one for one in self._classes.values() if one is not mine)
        return alike + sum(min(len(one), turns * self._share(one)) for one in others)

    def alike(self, flow: Hashable, weight: float) -> int:
        """How many of its own weight do, if all flows that wait now go on asking: before its
        tenth, each of them has had ten turns."""
        flows = self._classes[weight].flows if weight in self._classes else {}
        rounds = len(flows.get(flow, ())) + 1
        return rounds * len(flows.keys() | {flow}) - 1

    def length(self, flow: Hashable) -> int:
        return sum(len(one.flows.get(flow, ())) for one in self._classes.values())

    def lengths(self) -> Iterator[tuple[Hashable, int]]:
        for one in self._classes.values():
            yield from ((flow, len(queue)) for flow, queue in one.flows.items())

    def check(self) -> None:
        """Audit; for tests, O(n)."""
        assert self._count == sum(map(len, self._classes.values()))
        for weight, one in self._classes.items():
            assert one.flows
            for flow, queue in one.flows.items():
                assert queue
                for waiting in queue:
                    assert not waiting.gone
                    assert (waiting.flow, waiting.weight) == (flow, weight)

    def _share(self, one: _Class[T]) -> float:
        lighter = (len(it.flows) for it in self._classes.values() if it.weight < one.weight)
        return one.weight * max(len(one.flows), 1, *lighter)

    def _ends(self, one: _Class[T]) -> float:
        """Virtual time at which its next request would end."""
        return one.ended + 1 / self._share(one)

    def _out(self, waiting: Waiting[T]) -> Waiting[T]:
        """Take it out; a flow, or a weight, in which nobody waits any more goes with it."""
        waiting.gone = True
        self._count -= 1
        mine = self._classes[waiting.weight]
        queue = mine.flows[waiting.flow]
        queue.remove(waiting)
        if not queue:
            del mine.flows[waiting.flow]
        if not mine.flows:
            del self._classes[waiting.weight]
        return waiting
