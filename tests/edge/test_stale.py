"""What has expired is served while no upstream answers, where the operator allows it, and dated."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from edge.errors import ClientError
from edge.policy import CacheSettings, RouteSettings
from index.entry import Purge
from tests.fakes.doors import CutError, chat
from tests.fakes.entries import Purger
from tests.fakes.indoors import Exchange, Indoors, answer, down, indoors

TTL_S, LIMIT_S = 100, 60


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[Indoors]:
    cache = CacheSettings(mode="exact", ttl_s=TTL_S, stale_if_error_s=LIMIT_S)
    routes = (RouteSettings("strict", stale_if_error_s=0),)
    async with indoors(tmp_path, cache, routes=routes) as one:
        yield one


async def expired(house: Indoors, prompt: Any = "x", late_s: int = 12) -> None:
    await house.ask(prompt)
    house.clock.now += TTL_S + late_s
    house.upstreams.refusals["one"] = down()


@pytest.mark.parametrize("stream", [False, True])
async def test_an_expired_answer_is_served_with_its_age(house: Indoors, stream: bool) -> None:
    await expired(house, chat("x", stream=stream))
    stale = await house.ask(chat("x", stream=stream))
    assert stale.status == 200
    assert ("data: [DONE]" in stale.body.decode()) == stream
    assert stale.headers["cache-status"] == "edge; fwd=stale; ttl=-12; detail=sie"
    assert stale.headers["age"] == "112"
    assert house.metrics.totals()["stale"] == 1
    assert house.metrics.totals()["exact"] == 0
    house.upstreams.refusals.clear()
    house.clock.now += 600  # until the breaker lets it be asked again
    assert (await house.ask("x")).cache["fwd"] == "miss"


async def test_whoever_joined_is_served_as_well(house: Indoors) -> None:
    await expired(house)
    gate = asyncio.Event()

    async def fail(exchange: Exchange) -> AsyncIterator[bytes]:
        await gate.wait()
        raise down()
        yield b""

    house.upstreams.refusals.clear()
    house.upstreams.script = fail
    async with asyncio.TaskGroup() as group:
        asking = [group.create_task(house.ask("x")) for _ in range(3)]
        await house.upstreams.called(2)
        gate.set()
    assert [one.result().headers["cache-status"] for one in asking] == [
        "edge; fwd=stale; ttl=-12; detail=sie"
    ] * 3


async def test_not_for_longer_than_was_said(house: Indoors) -> None:
    await expired(house, late_s=LIMIT_S)
    assert (await house.ask("x")).status == 200
    house.clock.now += 1
    assert (await house.ask("x")).status == 502


@pytest.mark.parametrize("cache_control", ["no-cache", "max-age=100", "no-store"])
async def test_not_to_who_wants_none(house: Indoors, cache_control: str) -> None:
    await expired(house)
    assert (await house.ask("x", cache_control=cache_control)).status == 502


async def test_not_on_a_route_that_does_without_nor_by_default(
    house: Indoors, tmp_path: Path
) -> None:
    await expired(house, chat("x", model="strict"))
    assert (await house.ask(chat("x", model="strict"))).status == 502
    async with indoors(tmp_path / "other", CacheSettings(mode="exact", ttl_s=TTL_S)) as plain:
        await expired(plain)
        assert (await plain.ask("x")).status == 502


async def test_not_for_what_ages_quickly(house: Indoors) -> None:
    await expired(house, "What is the weather in Paris today?")
    assert (await house.ask("What is the weather in Paris today?")).status == 502


async def test_not_when_the_request_is_at_fault(house: Indoors) -> None:
    await expired(house)
    house.upstreams.refusals["one"] = ClientError("no such thing", status=400)
    assert (await house.ask("x")).status == 400


async def test_not_after_the_first_token(house: Indoors) -> None:
    await expired(house)
    house.upstreams.refusals.clear()

    async def cut(exchange: Exchange) -> AsyncIterator[bytes]:
        pieces = answer(exchange)
        yield await anext(pieces)  # a role, which is no token yet
        yield await anext(pieces)
        raise down()

    house.upstreams.script = cut
    with pytest.raises(CutError):
        await house.ask(chat("x", stream=True))


async def test_what_was_purged_is_never_served(house: Indoors) -> None:
    await expired(house)
    await house.purge(Purge(label="model:test-model"))
    assert (await house.ask("x")).status == 502


async def test_a_soft_purge_leaves_it_for_this(house: Indoors) -> None:
    await house.ask("x")
    soft = Purger()(Purge(), soft=True, now=house.clock.now)
    await asyncio.to_thread(house.answers.purge, soft)
    house.upstreams.refusals["one"] = down()
    house.clock.now += 7
    stale = await house.ask("x")
    assert stale.headers["cache-status"] == "edge; fwd=stale; ttl=-7; detail=sie"
    assert stale.headers["age"] == "7"
