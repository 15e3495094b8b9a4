"""Waiting for room at the upstreams: whose turn it is, who leaves, and that no place is lost."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edge.admission.plans import PlanSettings
from edge.line import PACES_MAX, AdmissionSettings, Line, LineFull
from edge.metrics import Metrics
from edge.policy import CacheSettings
from edge.routing.settings import UpstreamSettings
from edge.routing.upstream import Upstream
from tests.fakes.doors import Answer, chat
from tests.fakes.eventually import until
from tests.fakes.indoors import Clock, Exchange, Indoors, answer, indoors

PLANS = (PlanSettings("paid", weight=4), PlanSettings("hasty", queue_s=0), PlanSettings("free"))
KEYS = {"key-paid": "acme", "key-hasty": "hasty", "key-free": "beta"}
KEY_PLANS = {f"key-{plan.name}": plan.name for plan in PLANS}
SETTINGS = AdmissionSettings(concurrency=1, queue_s=60, tenant_queue_max=5, queue_max=8)


class Held:
    """An upstream whose answers come when they are let go, one at a time."""

    def __init__(self) -> None:
        self.go = asyncio.Semaphore(0)
        self.order: list[str] = []

    async def __call__(self, exchange: Exchange) -> AsyncIterator[bytes]:
        self.order.append(exchange.text)
        await self.go.acquire()
        async for piece in answer(exchange):
            yield piece


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[Indoors]:
    async with indoors(
        tmp_path,
        CacheSettings(mode="exact", stale_if_error_s=1000, ttl_s=100),
        keys=KEYS,
        plans=PLANS,
        key_plans=KEY_PLANS,
        admission=SETTINGS,
    ) as one:
        yield one


async def ask(house: Indoors, plan: str, text: str, *, stream: bool = False) -> Answer:
    return await house.ask(chat(text, stream=stream), authorization=f"Bearer key-{plan}")


async def waiting(house: Indoors, count: int) -> None:
    await until(lambda: len(house.line) == count)
    house.line.check()


async def test_hits_never_wait(house: Indoors) -> None:
    await ask(house, "free", "known")
    held = house.upstreams.script = Held()
    async with asyncio.TaskGroup() as group:
        group.create_task(ask(house, "free", "long"))
        group.create_task(ask(house, "free", "waits"))
        await waiting(house, 1)
        assert (await ask(house, "free", "known")).cache["hit"] is True
        held.go.release()
        held.go.release()
    assert house.line.running == 0


async def test_turns_are_taken_by_weight(house: Indoors) -> None:
    held = house.upstreams.script = Held()
    async with asyncio.TaskGroup() as group:
        group.create_task(ask(house, "free", "first"))
        await house.upstreams.called(1)
        for number in range(4):
            group.create_task(ask(house, "free", f"free {number}"))
            await waiting(house, number + 1)
        for number in range(4):
            group.create_task(ask(house, "paid", f"paid {number}"))
            await waiting(house, number + 5)
        for _ in range(9):
            held.go.release()
    assert sorted(held.order[:6]) == sorted(
        ["first", "free 0", "paid 0", "paid 1", "paid 2", "paid 3"]
    )
    assert held.order[6:] == ["free 1", "free 2", "free 3"]


async def test_a_flight_waits_once_for_all_who_joined(house: Indoors) -> None:
    held = house.upstreams.script = Held()
    async with asyncio.TaskGroup() as group:
        group.create_task(ask(house, "free", "first"))
        await house.upstreams.called(1)
        same = [group.create_task(ask(house, "free", "same")) for _ in range(30)]
        await waiting(house, 1)
        held.go.release()
        held.go.release()
    assert {one.result().status for one in same} == {200}
    assert len(house.upstreams.calls) == 2


async def test_a_full_queue_refuses_at_once_and_says_when_to_come_back(house: Indoors) -> None:
    held = house.upstreams.script = Held()
    async with asyncio.TaskGroup() as group:
        group.create_task(ask(house, "free", "first"))
        await house.upstreams.called(1)
        for number in range(5):
            group.create_task(ask(house, "free", f"free {number}"))
        await waiting(house, 5)
        refused = await ask(house, "free", "one too many")
        assert refused.status == 503
        error = json.loads(refused.body)["error"]
        assert (error["type"], error["code"]) == ("server_error", "overloaded")
        assert int(refused.headers["retry-after"]) >= 6 * 4  # six turns of four seconds
        for _ in range(6):
            held.go.release()
    assert refusals(house, "queue_full") == 1


async def test_who_does_not_wait_is_told_at_once(house: Indoors) -> None:
    held = house.upstreams.script = Held()
    async with asyncio.TaskGroup() as group:
        group.create_task(ask(house, "free", "first"))
        await house.upstreams.called(1)
        assert (await ask(house, "hasty", "now or never")).status == 503
        held.go.release()
    held.go.release()
    assert (await ask(house, "hasty", "now or never")).status == 200


async def test_who_would_wait_too_long_is_told_so_when_it_comes(house: Indoors) -> None:
    held = house.upstreams.script = Held()
    first = asyncio.get_running_loop().create_task(ask(house, "free", "slow"))
    await house.upstreams.called(1)
    house.clock.now += 3_000  # so long do calls take, as far as is known then
    held.go.release()
    await first
    async with asyncio.TaskGroup() as group:
        group.create_task(ask(house, "free", "next"))
        await house.upstreams.called(2)
        assert (await ask(house, "free", "after that")).status == 503
        held.go.release()
    assert refusals(house, "queue_late") == 1


async def test_what_has_expired_is_better_than_busy(house: Indoors) -> None:
    await ask(house, "hasty", "known")
    house.clock.now += 150
    held = house.upstreams.script = Held()
    async with asyncio.TaskGroup() as group:
        group.create_task(ask(house, "free", "first"))
        await house.upstreams.called(2)
        stale = await ask(house, "hasty", "known")
        held.go.release()
    assert stale.status == 200
    assert stale.headers["cache-status"] == "edge; hit; ttl=-50; detail=busy"


@pytest.mark.parametrize("turns", range(0, 40, 2))
async def test_a_client_that_leaves_loses_no_place(house: Indoors, turns: int) -> None:
    """At every await: while it waits, when its turn comes, while it is served."""
    held = house.upstreams.script = Held()
    loop = asyncio.get_running_loop()
    first = loop.create_task(ask(house, "free", "first"))
    await house.upstreams.called(1)
    leaves = loop.create_task(ask(house, "free", "leaves", stream=True))
    stays = loop.create_task(ask(house, "paid", "stays"))
    for turn in range(turns):
        if turn == 6:
            held.go.release()
        await asyncio.sleep(0)
    leaves.cancel()
    for _ in range(4):
        held.go.release()
    await asyncio.gather(first, leaves, stays, return_exceptions=True)
    await until(house.at_rest)
    assert (first.result().status, stays.result().status) == (200, 200)
    assert (house.line.running, len(house.line)) == (0, 0)
    house.line.check()
    for tenant, plan in (("acme", "paid"), ("beta", "free")):
        usage = house.quotas.usage(tenant, plan, house.clock.monotonic())
        assert usage is not None
        assert usage.running == 0


def refusals(house: Indoors, reason: str) -> float | None:
    return house.metrics.registry.get_sample_value(
        "promptedge_turned_away_total", {"reason": reason}
    )


async def test_it_is_known_beforehand_who_will_be_refused() -> None:
    clock = Clock()
    line = Line(AdmissionSettings(concurrency=1), lambda _: None, Metrics(), clock.monotonic)
    assert not line.refuses((), "a", 1.0, 0.0)
    async with line.place((), "a", 1.0, 10.0):
        clock.now += 4
        assert not line.refuses((), "b", 1.0, 3.0)  # how long calls take is not known yet
    async with line.place((), "a", 1.0, 10.0):
        assert line.refuses((), "b", 1.0, 3.0)
        assert not line.refuses((), "b", 1.0, 30.0)


async def test_how_long_calls_take_is_known_after_a_few() -> None:
    """A node that has just started refused whom it could have answered in a second."""
    clock = Clock()
    line = Line(AdmissionSettings(concurrency=1), lambda _: None, Metrics(), clock.monotonic)
    for _ in range(3):
        async with line.place((), "a", 1.0, 10.0):
            clock.now += 1
    assert line.held_s < 2
    for _ in range(50):  # once there are many, a single one does not count for much
        async with line.place((), "a", 1.0, 10.0):
            clock.now += 1
    async with line.place((), "a", 1.0, 10.0):
        clock.now += 11
    assert line.held_s == pytest.approx(2, abs=0.1)


async def test_a_deadline_that_passes_is_told() -> None:
    line = Line(AdmissionSettings(concurrency=1), lambda _: None, Metrics(), Clock().monotonic)
    async with line.place((), "a", 1.0, 10.0):
        with pytest.raises(LineFull, match="deadline"):
            async with line.place((), "b", 1.0, 0.01):
                pass
        assert len(line) == 0
    assert line.running == 0


async def test_room_that_grows_is_used_by_who_waits() -> None:
    room = 1
    served: list[str] = []
    line = Line(AdmissionSettings(), lambda _: room - len(served), Metrics(), Clock().monotonic)
    go = asyncio.Event()

    async def take(name: str) -> None:
        async with line.place((), name, 1.0, 60.0):
            served.append(name)
            await go.wait()

    async with asyncio.TaskGroup() as group:
        for name in "ab":
            group.create_task(take(name))
        await until(lambda: len(line) == 1)
        room = 3
        group.create_task(take("c"))
        await until(lambda: len(served) == 3)
        go.set()
    assert line.running == 0


async def test_without_a_limit_nobody_waits(tmp_path: Path) -> None:
    async with indoors(tmp_path) as house:
        held = house.upstreams.script = Held()
        async with asyncio.TaskGroup() as group:
            for number in range(50):
                group.create_task(house.ask(f"number {number}"))
            await house.upstreams.called(50)
            assert (house.line.running, len(house.line)) == (50, 0)
            for _ in range(50):
                held.go.release()


async def test_no_more_is_known_of_upstreams_that_are_gone_than_fits() -> None:
    """Each start of a local model is another upstream."""
    line = Line(AdmissionSettings(), lambda _: None, Metrics(), Clock().monotonic)
    for _ in range(PACES_MAX + 2):
        local = Upstream(UpstreamSettings("http://local/v1"), "local", frozenset())
        async with line.place((local,), "a", 1.0, 10.0):
            line.check()
