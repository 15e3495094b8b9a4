"""How many calls there may be at a time is what the upstreams bear, as far as is known."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from aiohttp import web

from edge.line import AdmissionSettings
from edge.routing.maintenance import Drain
from edge.routing.settings import UpstreamSettings
from edge.routing.upstream import UNTRIED
from index.entry import Instant
from tests.edge.test_line import Held
from tests.fakes.doors import Answer, ask, chat, doors
from tests.fakes.eventually import until
from tests.fakes.indoors import Exchange, answer, down, indoors
from tests.fakes.node import running_node
from tests.fakes.upstream import Exchange as Call
from tests.fakes.upstream import ScriptedUpstream

EIGHT = UpstreamSettings("http://one/v1", name="one", concurrency=8)


class Eight:
    """A server that takes eight requests at a time and refuses others; answers come when let go."""

    def __init__(self, upstream: ScriptedUpstream) -> None:
        self._upstream = upstream
        self.go = asyncio.Semaphore(0)
        self.here = self.most = self.refused = 0

    async def __call__(self, call: Call) -> web.StreamResponse:
        if self.here == 8:
            self.refused += 1
            return web.json_response({"error": {"message": "too many"}}, status=429)
        self.here += 1
        self.most = max(self.most, self.here)
        try:
            await self.go.acquire()
            return await self._upstream.answer(call)
        finally:
            self.here -= 1


async def test_an_upstream_that_bears_eight_gets_eight_and_the_others_wait(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    eight = upstream.script = Eight(upstream)
    async with running_node(tmp_path, upstream.base_url) as node, doors(node) as (door, *_):
        (one,) = node.pool.upstreams
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(ask(door, f"number {n}")) for n in range(40)]
            await until(lambda: node.overview.status()["upstream_calls"]["waiting"] == 32)
            assert eight.here == one.in_flight == 8
            for _ in asked:
                eight.go.release()
        # Nobody is refused for it: who was sent there too early waits like the others.
        assert {one.result().status for one in asked} == {200}
        refused = eight.refused
        assert 0 < refused <= 32
        async with asyncio.TaskGroup() as group:
            again = [group.create_task(ask(door, f"again {n}")) for n in range(40)]
            for _ in again:
                eight.go.release()
        assert {one.result().status for one in again} == {200}
        assert eight.most == 8


async def test_what_is_known_of_it_needs_no_learning(tmp_path: Path) -> None:
    async with indoors(tmp_path, upstreams=[EIGHT]) as house:
        held = house.upstreams.script = Held()
        async with asyncio.TaskGroup() as group:
            for number in range(20):
                group.create_task(house.ask(f"number {number}"))
            await until(lambda: len(house.line) == 12)
            house.line.check()
            assert house.pool.upstreams[0].in_flight == 8
            for _ in range(20):
                held.go.release()


async def test_of_what_is_not_known_only_so_many_wait_for_a_first_token(tmp_path: Path) -> None:
    async with indoors(tmp_path) as house:
        begin, go = asyncio.Event(), asyncio.Event()

        async def begun(exchange: Exchange) -> AsyncIterator[bytes]:
            await begin.wait()
            pieces = answer(exchange)
            for _ in ("a role", "a word"):
                yield await anext(pieces)
            await go.wait()
            async for piece in pieces:
                yield piece

        house.upstreams.script = begun
        async with asyncio.TaskGroup() as group:
            for number in range(UNTRIED + 10):
                group.create_task(house.ask(chat(f"number {number}", stream=True)))
            await house.upstreams.called(UNTRIED)
            await until(lambda: len(house.line) == 10)
            begin.set()
            await house.upstreams.called(UNTRIED + 10)
            go.set()


async def test_more_than_get_something_done_are_not_sent_to_it(tmp_path: Path) -> None:
    async with indoors(tmp_path, upstreams=[EIGHT]) as house:
        (one,) = house.pool.upstreams

        async def take(number: int, each_s: float) -> None:
            """So many at a time."""
            held = house.upstreams.script = Held()
            calls = len(house.upstreams.calls)
            async with asyncio.TaskGroup() as group:
                for each in range(number):
                    group.create_task(house.ask(f"{calls} {each}"))
                await house.upstreams.called(calls + number)
                house.clock.now += each_s
                for _ in range(number):
                    held.go.release()

        for _ in range(9):
            await take(4, 1)
        assert one.spare(house.clock.monotonic()) == 8
        rounds = 0
        while one.spare(house.clock.monotonic()) == 8:
            rounds += 1
            await take(8, 4)
        assert one.spare(house.clock.monotonic()) == 4
        assert rounds < 9


async def test_one_models_full_upstream_does_not_hold_up_another_models(tmp_path: Path) -> None:
    places = [
        UpstreamSettings("http://small/v1", name="small", models=("small",), concurrency=1),
        UpstreamSettings("http://large/v1", name="large", models=("large",)),
    ]
    async with indoors(tmp_path, upstreams=places) as house:
        held = house.upstreams.script = Held()
        async with asyncio.TaskGroup() as group:
            for number in range(3):
                group.create_task(house.ask(chat(f"number {number}", model="small")))
            await until(lambda: len(house.line) == 2)
            for number in range(3):
                group.create_task(house.ask(chat(f"number {number}", model="large")))
            await house.upstreams.called(4)
            assert [one.in_flight for one in house.pool.upstreams] == [1, 3]
            for _ in range(6):
                held.go.release()


async def test_queues_take_turns_where_the_operators_limit_is_short(tmp_path: Path) -> None:
    places = [
        UpstreamSettings(f"http://{name}/v1", name=name, models=(name,)) for name in ("a", "b")
    ]
    limit = AdmissionSettings(concurrency=1)
    async with indoors(tmp_path, upstreams=places, admission=limit) as house:
        held = house.upstreams.script = Held()
        async with asyncio.TaskGroup() as group:
            group.create_task(house.ask(chat("first", model="a")))
            await house.upstreams.called(1)
            for model in "ab":
                for number in range(2):
                    group.create_task(house.ask(chat(f"{model}{number}", model=model)))
            await until(lambda: len(house.line) == 4)
            for _ in range(5):
                held.go.release()
        assert held.order == ["first", "a0", "b0", "a1", "b1"]


async def test_nobody_waits_for_upstreams_that_are_not_to_be_asked(tmp_path: Path) -> None:
    async with indoors(tmp_path, upstreams=[EIGHT]) as house:
        house.pool.drain(house.pool.upstreams[0].name, Drain(house.clock.wall()))
        refused = await house.ask("x")
        assert refused.status == 503
        assert "retry-after" in refused.headers


async def test_who_waits_goes_when_an_upstream_is_well_again(tmp_path: Path) -> None:
    """By time alone: nothing happens at an upstream that nobody may ask."""
    first = UpstreamSettings("http://one/v1", name="one", concurrency=1)
    second = UpstreamSettings("http://two/v1", name="two")
    async with indoors(tmp_path, upstreams=[first, second]) as house:
        house.pool.upstreams[1].ejected_until = Instant(house.clock.now + 10)
        held = house.upstreams.script = Held()
        async with asyncio.TaskGroup() as group:
            group.create_task(house.ask("first"))
            await house.upstreams.called(1)
            waits: asyncio.Task[Answer] = group.create_task(house.ask("second"))
            await until(lambda: len(house.line) == 1)
            house.clock.now += 11
            house.line.wake()
            await house.upstreams.called(2)
            assert house.upstreams.calls[1].upstream == "two"
            held.go.release()
            held.go.release()
        assert waits.result().status == 200


async def test_a_moment_in_which_an_upstream_wants_to_be_left_alone_is_waited_for(
    tmp_path: Path,
) -> None:
    async with indoors(tmp_path) as house:
        (one,) = house.pool.upstreams
        held = Held()

        async def eight(exchange: Exchange) -> AsyncIterator[bytes]:
            if one.in_flight > 8:
                refusal = down(status=429)
                refusal.retry_after_s, refusal.wait_s = 1, 1.0
                raise refusal
            async for piece in held(exchange):
                yield piece

        house.upstreams.script = eight
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(house.ask(f"number {number}")) for number in range(8)]
            await house.upstreams.called(8)
            house.clock.now += 0.1
            asked += [group.create_task(house.ask(f"later {number}")) for number in range(4)]
            await until(lambda: len(house.line) == 4)
            calls = len(house.upstreams.calls)
            for _ in range(8):
                held.go.release()
            await until(lambda: house.line.running == 0)
            assert len(house.line) == 4
            assert len(house.upstreams.calls) == calls
            house.clock.now += 1.1
            house.line.wake()
            for _ in range(4):
                held.go.release()
        assert {one.result().status for one in asked} == {200}


async def test_longer_than_that_is_told_at_once(tmp_path: Path) -> None:
    async with indoors(tmp_path) as house:
        refusal = down(status=429)
        refusal.retry_after_s, refusal.wait_s = 3, 3.0
        house.upstreams.refusals["one"] = refusal
        assert (await house.ask("x")).status == 429
        refused = await house.ask("y")
        assert refused.status == 503
        assert 3 <= int(refused.headers["retry-after"]) <= 5
        assert len(house.upstreams.calls) == 1
