"""Large bodies take turns, and no more than their share."""

import asyncio
import threading
from collections.abc import Iterator
from itertools import count

import pytest

from edge.errors import Overloaded
from edge.large_bodies import FLOW_MAX, LargeBodies
from edge.request import LARGE_BODY_BYTES
from tests.fakes.eventually import until
from tests.fakes.indoors import Clock

LARGE = LARGE_BODY_BYTES + 1
ALICE, BOB = "203.0.113.7", "203.0.113.8"


class Held:
    """Work that goes on until it is told to end."""

    def __init__(self) -> None:
        self.began, self._release = threading.Event(), threading.Event()

    def __call__(self) -> str:
        self.began.set()
        assert self._release.wait(20)
        return "held"

    def end(self) -> None:
        self._release.set()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def large(clock: Clock) -> Iterator[LargeBodies]:
    """Each piece of work takes no time, as far as it is measured."""
    one = LargeBodies(0.25, b"secret", monotonic=clock.monotonic, cpu_s=lambda: 0.0)
    yield one
    one.close()


def dear(clock: Clock) -> LargeBodies:
    """Each takes a second of CPU."""
    seconds = count()
    return LargeBodies(
        0.25, b"secret", monotonic=clock.monotonic, cpu_s=lambda: float(next(seconds))
    )


async def test_small_bodies_wait_for_nobody_and_large_ones_leave_the_loop(
    large: LargeBodies,
) -> None:
    held = Held()
    async with asyncio.TaskGroup() as group:
        first = group.create_task(large.work("", ALICE, LARGE, held))
        await until(held.began.is_set)
        here = await large.work("", ALICE, LARGE_BODY_BYTES, threading.get_ident)
        assert here == threading.get_ident()
        held.end()
    assert first.result() == "held"
    assert await large.work("", ALICE, LARGE, threading.get_ident) != here
    assert await large.work_at_once(LARGE, threading.get_ident) != here
    assert await large.work_at_once(LARGE_BODY_BYTES, threading.get_ident) == here


async def test_what_was_used_beyond_the_share_is_rested_for(clock: Clock) -> None:
    large = dear(clock)
    assert large.rest_s == 0.0
    await large.work("", ALICE, LARGE, str)
    assert large.rest_s == pytest.approx(3.0)  # four seconds' worth, one of which was saved up
    clock.now += 3.0
    assert large.rest_s == 0.0
    await large.work_at_once(LARGE, str)
    await large.work_at_once(LARGE, str)  # it has to go on, and counts all the same
    assert large.rest_s == pytest.approx(8.0)
    large.close()


async def test_one_that_floods_waits_behind_itself(large: LargeBodies) -> None:
    held, order = Held(), list[str]()

    async def ask(tenant: str, peer: str) -> None:
        await large.work(tenant, peer, LARGE, str)
        order.append(tenant or peer)

    async with asyncio.TaskGroup() as group:
        group.create_task(large.work("flood", ALICE, LARGE, held))
        await until(held.began.is_set)
        for _ in range(10):
            group.create_task(ask("flood", ALICE))
        await until(lambda: len(large) == 10)
        group.create_task(ask("quiet", ALICE))
        group.create_task(ask("", BOB))
        await until(lambda: len(large) == 12)
        held.end()
    assert set(order[:3]) == {"flood", "quiet", BOB}


async def test_who_leaves_keeps_no_place(large: LargeBodies) -> None:
    held = Held()
    async with asyncio.TaskGroup() as group:
        working = group.create_task(large.work("", ALICE, LARGE, held))
        await until(held.began.is_set)
        waiting = group.create_task(large.read("", ALICE))
        await until(lambda: len(large) == 1)
        working.cancel()  # it goes on, as nothing can stop it, and keeps its turn until it is over
        waiting.cancel()
        await until(waiting.done)
        assert len(large) == 0
        after = group.create_task(large.work("", BOB, LARGE, lambda: "after"))
        await until(lambda: len(large) == 1)
        held.end()
        assert await after == "after"


async def test_too_many_that_wait_are_told_so(large: LargeBodies) -> None:
    held = Held()
    async with asyncio.TaskGroup() as group:
        group.create_task(large.work("a", ALICE, LARGE, held))
        await until(held.began.is_set)
        waiting = [group.create_task(large.read("a", ALICE)) for _ in range(FLOW_MAX)]
        await until(lambda: len(large) == FLOW_MAX)
        with pytest.raises(Overloaded):
            await large.read("a", ALICE)
        held.end()
        await asyncio.gather(*waiting)
    assert len(large) == 0


async def test_who_has_waited_too_long_is_told_so(large: LargeBodies, clock: Clock) -> None:
    held = Held()

    async def refused() -> bool:
        with pytest.raises(Overloaded):
            await large.read("", ALICE)
        return True

    async with asyncio.TaskGroup() as group:
        group.create_task(large.work("", ALICE, LARGE, held))
        await until(held.began.is_set)
        waiting = group.create_task(refused())
        await until(lambda: len(large) == 1)
        clock.now += 60.0
        held.end()
        assert await waiting


async def test_what_the_work_raises_is_raised_and_ends_the_turn(large: LargeBodies) -> None:
    with pytest.raises(ZeroDivisionError):
        await large.work("", ALICE, LARGE, lambda: 1 / 0)
    assert await large.work("", ALICE, LARGE, lambda: "next") == "next"
