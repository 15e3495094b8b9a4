"""Several upstreams behind a real node: what one in trouble costs its clients.

The upstreams are scripted and real servers; a node asks them over TCP.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import http_sf
import pytest

from edge.ask import Ask, Query
from edge.collapse import Failed, Flight
from edge.dialects.openai_chat import OpenAiChat
from edge.errors import UpstreamError
from edge.local_model import LOCAL_MODEL
from edge.node import Node
from edge.policy import Allowed, Mode, Route
from edge.refill import Refill
from edge.request import Head
from edge.routing.settings import RoutingSettings, UpstreamSettings
from index.entry import CacheKey, Scope
from tests.fakes.doors import CHAT, Door, ask, chat, doors, request_body
from tests.fakes.indoors import Exchange as Indoor
from tests.fakes.indoors import Indoors, answer, down, indoors
from tests.fakes.node import running_node, url
from tests.fakes.upstream import Exchange, ScriptedUpstream, chunk, scripted_upstream, sse


@dataclass
class Scene:
    node: Node
    door: Door
    upstreams: dict[str, ScriptedUpstream]

    async def ask(self, prompt: Any, /, **fields: str) -> Any:
        return await ask(self.door, prompt, **fields)

    def calls(self) -> dict[str, int]:
        return {name: len(one.calls) for name, one in self.upstreams.items()}

    def nothing_left(self) -> bool:
        self.node.pool.check()
        return not any(one.in_flight or one.waiting for one in self.node.pool.upstreams)


@asynccontextmanager
async def scene(
    data: Path, said: dict[str, dict[str, Any]], **settings: Any
) -> AsyncIterator[Scene]:
    async with AsyncExitStack() as stack:
        upstreams = {name: await stack.enter_async_context(scripted_upstream()) for name in said}
        places = [
            {"base_url": one.base_url, "name": name, "models": ["test-model"], **said[name]}
            for name, one in upstreams.items()
        ]
        node = await stack.enter_async_context(running_node(data, upstreams=places, **settings))
        every = await stack.enter_async_context(doors(node))
        yield Scene(node, every[0], upstreams)


FIRST: dict[str, dict[str, Any]] = {"first": {"weight": 1000}, "second": {}}
"""Everything goes to the first as long as it is well."""


async def killed(exchange: Exchange) -> Any:
    """Dies before a byte of its answer."""
    assert exchange.request.transport is not None
    exchange.request.transport.abort()
    raise ConnectionError


def refusing(status: int, **fields: str) -> Callable[[Exchange], Any]:
    async def script(exchange: Exchange) -> Any:
        return await exchange.json({"error": {"message": "no"}}, status, **fields)

    return script


# Killed


@pytest.mark.parametrize("stream", [False, True])
async def test_an_upstream_killed_mid_run_costs_no_request_without_its_first_token(
    tmp_path: Path, stream: bool
) -> None:
    """More than any retry budget: none of them had a token, all of them are answered."""
    async with scene(tmp_path, FIRST) as one:
        kill = asyncio.Event()

        async def die_together(exchange: Exchange) -> Any:
            await kill.wait()
            return await killed(exchange)

        one.upstreams["first"].script = die_together
        asking = [
            asyncio.get_running_loop().create_task(one.ask(chat(f"q{at}", stream=stream)))
            for at in range(30)
        ]
        await one.upstreams["first"].called(30)
        kill.set()
        answers = await asyncio.gather(*asking)
        assert {got.status for got in answers} == {200}
        assert one.calls() == {"first": 30, "second": 30}
        assert one.nothing_left()


async def test_after_the_first_token_nobody_else_is_asked(tmp_path: Path) -> None:
    async with scene(tmp_path, FIRST) as one:
        one.upstreams["first"].script = lambda exchange: exchange.cut([chunk({"content": "one"})])
        with pytest.raises(aiohttp.ClientPayloadError):
            await one.ask(chat("x", stream=True))
        assert one.calls() == {"first": 1, "second": 0}
        assert one.nothing_left()


async def test_who_speaks_is_no_first_token(tmp_path: Path) -> None:
    """Some servers say it before they compute anything, and may die over that."""
    async with scene(tmp_path, FIRST) as one:
        silent = [chunk({"role": "assistant", "content": ""}), chunk({"content": None}), EMPTY]
        one.upstreams["first"].script = lambda exchange: exchange.cut(silent)
        got = await one.ask(chat("x", stream=True))
        assert got.status == 200
        assert got.body.count(b'"role"') == 1
        assert got.body.endswith(b"data: [DONE]\n\n")
        assert one.calls() == {"first": 1, "second": 1}
        assert one.nothing_left()


async def test_what_says_nothing_is_not_held_back_for_ever(tmp_path: Path) -> None:
    async with scene(tmp_path, FIRST) as one:
        one.upstreams["first"].script = lambda exchange: exchange.cut([EMPTY] * 20)
        with pytest.raises(aiohttp.ClientPayloadError):
            await one.ask(chat("x", stream=True))
        assert one.calls() == {"first": 1, "second": 0}


EMPTY = chunk({}, choices=[])


async def test_it_is_returned_to_when_it_is_well_again(tmp_path: Path) -> None:
    async with indoors(tmp_path, upstreams=(PREFERRED, "second")) as house:
        house.upstreams.refusals["first"] = _lost()
        for at in range(40):
            assert (await house.ask(f"x{at}")).status == 200
            house.clock.now += 0.1
        del house.upstreams.refusals["first"]
        house.upstreams.calls.clear()
        for at in range(100):
            await house.ask(f"y{at}")
            house.clock.now += 0.2
        names = [call.upstream for call in house.upstreams.calls]
        assert names.count("first") > 50
        assert set(names[-20:]) == {"first"}


PREFERRED = UpstreamSettings("http://first/v1", name="first", weight=1000)


def _lost() -> UpstreamError:
    error = down()
    error.connection_lost = True
    return error


# Told to wait


async def test_retry_after_is_obeyed_and_told_on(tmp_path: Path) -> None:
    async with scene(tmp_path, FIRST) as one:
        one.upstreams["first"].script = refusing(429, retry_after="30")
        for at in range(5):
            assert (await one.ask(f"x{at}")).status == 200
        assert one.calls() == {"first": 1, "second": 5}
        one.upstreams["second"].script = refusing(429, retry_after_ms="20500")
        got = await one.ask("y")
        assert (got.status, got.headers["retry-after"]) == (429, "21")
        got = await one.ask("z")
        assert (got.status, got.error["code"]) == (503, "upstreams_unavailable")
        assert 19 <= int(got.headers["retry-after"]) <= 1.5 * 21
        assert one.calls() == {"first": 1, "second": 6}


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_who_is_not_answered_is_told_when_to_come_again_also_if_no_upstream_says_it(
    tmp_path: Path, status: int
) -> None:
    async with scene(tmp_path, FIRST) as one:
        for upstream in one.upstreams.values():
            upstream.script = refusing(status)
        for at in range(8):
            got = await one.ask(f"x{at}")
            assert got.status == {500: 502}.get(status, status)
            assert 1 <= int(got.headers["retry-after"]) <= 60


async def test_before_a_limit_is_reached_others_are_asked(tmp_path: Path) -> None:
    async with scene(tmp_path, FIRST) as one:

        async def scarce(exchange: Exchange) -> Any:
            answer = await one.upstreams["first"].answer(exchange)
            answer.headers["x-ratelimit-limit-requests"] = "100"
            answer.headers["x-ratelimit-remaining-requests"] = "0"
            answer.headers["x-ratelimit-reset-requests"] = "6m0s"
            return answer

        one.upstreams["first"].script = scarce
        for at in range(10):
            assert (await one.ask(f"x{at}")).status == 200
        assert one.calls()["second"] >= 8


# Local, aliases, regions


STAND_IN: dict[str, dict[str, Any]] = {
    "far": {},
    "beside": {"tier": "local", "models": ["llama"], "aliases": {"*": "llama"}},
}


@pytest.mark.parametrize("stream", [False, True])
async def test_a_local_model_stands_in_says_so_and_is_not_remembered(
    tmp_path: Path, stream: bool
) -> None:
    routes = [{"model": "*", "local": True}]
    async with scene(tmp_path, STAND_IN, routes=routes) as one:
        one.upstreams["far"].script = killed
        got = await one.ask(chat("x", stream=stream))
        assert got.status == 200
        field: Any = http_sf.parse(got.headers["x-promptedge-upstream"].encode(), tltype="item")
        value, parameters = field
        assert (value, str(parameters["tier"])) == ("beside", "local")
        assert "stored" not in got.headers["cache-status"]
        (call,) = one.upstreams["beside"].calls
        assert call.body["model"] == "llama"
        one.upstreams["far"].script = one.upstreams["far"].answer
        again = await one.ask(chat("x", stream=stream))
        assert "x-promptedge-upstream" not in again.headers
        assert "hit" not in again.cache


async def test_without_a_word_of_the_route_it_never_does(tmp_path: Path) -> None:
    async with scene(tmp_path, STAND_IN) as one:
        one.upstreams["far"].script = killed
        assert (await one.ask("x")).status == 502
        assert one.calls()["beside"] == 0
        models = await one.door.request("GET", "/v1/models")
        assert [model["id"] for model in models.json["data"]] == ["test-model"]


async def test_the_bundled_model_can_stand_in(tmp_path: Path) -> None:
    routes = [{"model": "*", "local": True}]
    async with scene(tmp_path, {"far": {}}, routes=routes, local_model={"stand_in": True}) as one:
        one.upstreams["far"].script = killed
        async with asyncio.timeout(60):
            while len(one.node.pool.upstreams) < 2:  # noqa: ASYNC110  it takes as long as it takes
                await asyncio.sleep(0.01)
        got = await one.ask(chat("What is the capital of France?", max_tokens=8))
        assert (got.status, got.json["model"]) == (200, LOCAL_MODEL)
        assert got.headers["x-promptedge-upstream"] == f'"{LOCAL_MODEL}"; tier=local'
        models = await one.door.request("GET", "/v1/models")
        assert [model["id"] for model in models.json["data"]] == ["test-model"]


async def test_no_stand_in_answers_what_the_node_asks_for_itself(tmp_path: Path) -> None:
    """A check compares a stored answer with a fresh one: a toy's would call each of them wrong."""
    allowed = []

    async def fill(one: Ask, flight: Flight) -> None:
        allowed.append(one.query.route.local)
        flight.settle(Failed(down()))

    body = request_body(chat("x"))
    head, route = Head("POST", CHAT, "", "", {}), Route(1, Mode.EXACT, local=True)
    wishes = Allowed(Mode.EXACT, lookup=True, store=True)
    dialect, scope = OpenAiChat(), Scope("shared")
    call = dialect.parse(body)
    query = Query(head, body, dialect, call, scope, CacheKey(b""), wishes, route, 1, ())
    async with indoors(tmp_path) as house:
        refill = Refill(house.collapse, fill, "judge", house.clock.monotonic, str)
        for asking in (refill.fresh(query), refill.alike(query, "a", "b")):
            with pytest.raises(UpstreamError):
                await asking
    assert allowed == [False, False]


async def test_a_prompt_stays_in_its_region(tmp_path: Path) -> None:
    said = {"us": {"region": "us"}, "eu": {"region": "eu"}}
    routes = [{"model": "test-model", "regions": ["eu"]}]
    async with scene(tmp_path, said, routes=routes) as one:
        assert (await one.ask("x")).status == 200
        one.upstreams["eu"].script = killed
        assert (await one.ask("y")).status == 502
        assert one.calls()["us"] == 0


async def test_a_keys_regions_and_the_routes_are_both_obeyed(tmp_path: Path) -> None:
    said = {"us": {"region": "us"}, "eu": {"region": "eu"}}
    keys = [
        {"tenant": "a", "key_env": "A", "regions": ["eu"]},
        {"tenant": "b", "key_env": "B", "regions": ["us"]},
    ]
    routes = [{"model": "test-model", "regions": ["eu"]}]
    environ = {"A": "sk-a", "B": "sk-b"}
    async with scene(tmp_path, said, routes=routes, keys=keys, environ=environ) as one:
        assert (await one.ask("x", authorization="Bearer sk-a")).status == 200
        got = await one.ask("x", authorization="Bearer sk-b")
        assert (got.status, got.error["code"]) == (404, "model_not_found")
        assert one.calls() == {"us": 0, "eu": 1}


async def test_who_may_not_ask_the_same_regions_shares_no_call(tmp_path: Path) -> None:
    said: dict[str, dict[str, Any]] = {
        "us": {"region": "us"},
        "eu": {"region": "eu", "models": ["another"]},
    }
    keys = [
        {"tenant": "a", "key_env": "BOUND", "regions": ["eu"]},
        {"tenant": "a", "key_env": "FREE"},
    ]
    environ = {"BOUND": "sk-bound", "FREE": "sk-free"}
    async with scene(tmp_path, said, keys=keys, environ=environ) as one:
        bound, free = await asyncio.gather(
            one.ask("x", authorization="Bearer sk-bound"),
            one.ask("x", authorization="Bearer sk-free"),
        )
        assert (bound.status, free.status) == (404, 200)


# Clients that leave


async def test_clients_that_leave_take_their_requests_with_them(tmp_path: Path) -> None:
    async with scene(tmp_path, FIRST) as one:

        async def silent(_exchange: Exchange) -> Any:
            await asyncio.Event().wait()

        async def begun(exchange: Exchange) -> Any:
            response = await exchange.open_stream()
            await response.write(sse(chunk({"content": "one"})))
            await asyncio.Event().wait()

        for script in (silent, begun):
            first = one.upstreams["first"]
            first.calls.clear()
            first.script = script
            asking = [
                asyncio.get_running_loop().create_task(one.ask(chat(f"{script}{at}", stream=True)))
                for at in range(5)
            ]
            await first.called(5)
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
            await asyncio.gather(*(call.gone.wait() for call in first.calls))
        async with asyncio.timeout(20):
            while not one.nothing_left():  # noqa: ASYNC110  the node's own tasks have to notice
                await asyncio.sleep(0)


# Hedging


@asynccontextmanager
async def hedged(tmp_path: Path) -> AsyncIterator[Indoors]:
    """A first upstream that is known to be quick, and more than enough of a budget."""
    routing = RoutingSettings(hedge=True, hedge_share_max=1.0)
    async with indoors(tmp_path, upstreams=(PREFERRED, "second"), routing=routing) as house:
        for at in range(25):
            await house.ask(chat(f"known {at}", stream=True))
        house.upstreams.calls.clear()
        yield house


async def test_whoever_begins_first_answers_and_the_other_is_called_off(tmp_path: Path) -> None:
    async with hedged(tmp_path) as house:

        async def script(exchange: Indoor) -> AsyncIterator[bytes]:
            if exchange.upstream == "first":
                await asyncio.Event().wait()
            async for piece in answer(exchange):
                yield piece

        house.upstreams.script = script
        got = await house.ask(chat("x", stream=True))
        assert got.events[-1] == "[DONE]"
        first, second = house.upstreams.calls
        assert (first.upstream, first.left, first.sent_bytes) == ("first", True, 0)
        assert second.upstream == "second"
        assert (await house.ask("x")).cache["hit"] is True
        house.pool.check()
        results = [one.results for one in house.pool.upstreams]
        assert (results[0]["abandoned"], results[1]["answered"]) == (1, 1)
        assert not any(one.in_flight for one in house.pool.upstreams)


async def test_the_first_may_still_win_and_the_second_is_called_off(tmp_path: Path) -> None:
    async with hedged(tmp_path) as house:
        asked = asyncio.Event()

        async def script(exchange: Indoor) -> AsyncIterator[bytes]:
            if exchange.upstream == "second":
                asked.set()
                await asyncio.Event().wait()
            await asked.wait()
            async for piece in answer(exchange):
                yield piece

        house.upstreams.script = script
        got = await house.ask(chat("x", stream=True))
        assert "answer" in got.body.decode()
        assert got.events[-1] == "[DONE]"
        assert [call.left for call in house.upstreams.calls] == [True, True]
        assert not any(one.in_flight for one in house.pool.upstreams)


@pytest.mark.parametrize("failing", ["first", "second"])
async def test_one_of_two_may_fail(tmp_path: Path, failing: str) -> None:
    async with hedged(tmp_path) as house:
        both = asyncio.Event()

        async def script(exchange: Indoor) -> AsyncIterator[bytes]:
            if exchange.upstream == "second":
                both.set()
            await both.wait()
            if exchange.upstream == failing:
                raise down()
            for _ in range(5):
                await asyncio.sleep(0)
            async for piece in answer(exchange):
                yield piece

        house.upstreams.script = script
        assert (await house.ask(chat("x", stream=True))).events[-1] == "[DONE]"
        assert len(house.upstreams.calls) == 2


async def test_when_both_fail_the_failure_is_told(tmp_path: Path) -> None:
    async with hedged(tmp_path) as house:
        both = asyncio.Event()

        async def script(exchange: Indoor) -> AsyncIterator[bytes]:
            if exchange.upstream == "second":
                both.set()
            await both.wait()
            raise down(status=504)
            yield b""

        house.upstreams.script = script
        assert (await house.ask(chat("x", stream=True))).status == 504
        assert not any(one.in_flight for one in house.pool.upstreams)


# Operating


async def test_a_drained_upstream_gets_nothing_until_it_is_resumed(tmp_path: Path) -> None:
    async with (
        scene(tmp_path, FIRST) as one,
        aiohttp.ClientSession(url(one.node, "admin")) as admin,
    ):

        async def change(**act: str) -> tuple[int, Any]:
            async with admin.post("/admin/upstreams", json=act) as response:
                return response.status, await response.json()

        status, document = await change(drain="first")
        assert (status, document["upstreams"][0]["state"]) == (200, "drained")
        for at in range(3):
            await one.ask(f"x{at}")
        assert one.calls() == {"first": 0, "second": 3}
        await change(drain="second")
        got = await one.ask("y")
        assert (got.status, got.error["code"]) == (503, "upstreams_unavailable")
        await change(resume="first")
        await one.ask("z")
        assert one.calls() == {"first": 1, "second": 3}
        assert (await change(drain="third"))[0] == 404
        for wrong in ({}, {"drain": ""}, {"stop": "first"}, {"drain": "first", "resume": "first"}):
            assert (await change(**wrong))[0] == 400
        async with admin.get("/admin/status") as response:
            facts = await response.json()
        assert facts["upstreams"] == {"first": "up", "second": "drained"}


async def test_maintenance_is_announced_and_kept(tmp_path: Path) -> None:
    work = {"upstream": "first", "begins": "2026-01-04T00:00:00Z", "ends": "2099-01-04T00:00:00Z"}
    later = {"upstream": "second", "begins": "2099-01-04T00:00:00Z", "ends": "2099-01-05T00:00:00Z"}
    async with (
        scene(tmp_path, FIRST, maintenance=[later, work]) as one,
        aiohttp.ClientSession(url(one.node, "admin")) as admin,
    ):
        await one.ask("x")
        assert one.calls() == {"first": 0, "second": 1}
        async with admin.get("/admin/status") as response:
            facts = await response.json()
        assert facts["upstreams"]["first"] == "maintenance"
        assert [(m["upstream"], m["now"]) for m in facts["maintenance"]] == [
            ("first", True),
            ("second", False),
        ]


async def test_each_upstream_is_measured(tmp_path: Path) -> None:
    async with (
        scene(tmp_path, FIRST) as one,
        aiohttp.ClientSession(url(one.node, "admin")) as admin,
    ):
        await one.ask(chat("x", stream=True))
        one.upstreams["first"].script = killed
        await one.ask("y")
        async with admin.get("/metrics") as response:
            text = await response.text()
        for line in (
            'promptedge_upstream_requests_total{result="answered",upstream="first"} 1.0',
            'promptedge_upstream_requests_total{result="failed",upstream="first"} 1.0',
            'promptedge_upstream_requests_total{result="answered",upstream="second"} 1.0',
            'promptedge_upstream_retries_total{upstream="first"} 1.0',
            'promptedge_upstream_in_flight{upstream="first"} 0.0',
            'promptedge_upstream_breaker_state{upstream="first"} 0.0',
            'promptedge_upstream_ttft_seconds_count{upstream="first"} 1.0',
        ):
            assert line in text, text
        assert one.node.pool.upstreams[0].connect_s is not None
