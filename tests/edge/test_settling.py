"""Two upstreams may be asked for one answer; it is paid for once, as one answer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from edge.admission.plans import PlanSettings, Usage
from edge.routing.settings import RoutingSettings, UpstreamSettings
from tests.fakes.doors import Answer, CutError, chat
from tests.fakes.eventually import until
from tests.fakes.indoors import Exchange, Indoors, Script, answer, down, indoors

ANSWER = 12
"""Tokens of an answer, as `tests.fakes.upstream` counts."""
KNOWN = 25
PREFERRED = UpstreamSettings("http://first/v1", name="first", weight=1000)
TOKENS = 86_400
PLAN = PlanSettings("plan", tokens_per_day=TOKENS, concurrency=3)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[Indoors]:
    """A first upstream that is known to be quick, so that a second is asked soon."""
    async with indoors(
        tmp_path,
        upstreams=(PREFERRED, "second"),
        routing=RoutingSettings(hedge=True, hedge_share_max=1.0),
        keys={"key": "acme"},
        plans=(PLAN,),
        key_plans={"key": "plan"},
    ) as one:
        for at in range(KNOWN):
            await ask(one, f"known {at}")
        await until(one.at_rest)
        one.upstreams.calls.clear()
        assert spent(one) == KNOWN * ANSWER
        yield one


async def ask(house: Indoors, text: str) -> Answer:
    return await house.ask(chat(text, stream=True), authorization="Bearer key")


def usage(house: Indoors) -> Usage:
    found = house.quotas.usage("acme", "plan", house.clock.monotonic())
    assert found is not None
    return found


def spent(house: Indoors) -> int:
    tokens = usage(house).day
    assert tokens is not None
    return TOKENS - tokens.left(house.clock.monotonic())


def raced(winner: str, loser: Script) -> Script:
    """Both are asked; then the winner answers."""
    both = asyncio.Event()

    async def script(exchange: Exchange) -> AsyncIterator[bytes]:
        if exchange.upstream == "second":
            both.set()
        await both.wait()
        async for piece in (answer if exchange.upstream == winner else loser)(exchange):
            yield piece

    return script


async def silent(_exchange: Exchange) -> AsyncIterator[bytes]:
    await asyncio.Event().wait()
    yield b""


async def fails(_exchange: Exchange) -> AsyncIterator[bytes]:
    raise down()
    yield b""


@pytest.mark.parametrize("loser", [silent, fails, answer])
@pytest.mark.parametrize("winner", ["first", "second"])
async def test_the_loser_costs_nothing(house: Indoors, winner: str, loser: Script) -> None:
    house.upstreams.script = raced(winner, loser)
    assert (await ask(house, "x")).events[-1] == "[DONE]"
    assert len(house.upstreams.calls) == 2
    await until(house.at_rest)
    assert spent(house) == (KNOWN + 1) * ANSWER
    assert usage(house).running == 0


async def test_two_that_fail_cost_nothing(house: Indoors) -> None:
    house.upstreams.script = raced("nobody", fails)
    assert (await ask(house, "x")).status == 502
    await until(house.at_rest)
    assert spent(house) == KNOWN * ANSWER
    assert usage(house).running == 0


async def test_a_winner_that_is_cut_costs_what_came_of_it_once(house: Indoors) -> None:
    async def cut(exchange: Exchange) -> AsyncIterator[bytes]:
        events = 0
        async for piece in answer(exchange):
            if events == 2:
                raise down()
            events += 1
            yield piece

    house.upstreams.script = raced("nobody", cut)
    with suppress(CutError):
        await ask(house, "x")
    await until(house.at_rest)
    prompt = spent(house) - KNOWN * ANSWER - 2
    assert 0 < prompt < 100  # it was not told, so it is a guess
    assert usage(house).running == 0


@pytest.mark.parametrize("turns", range(0, 60, 4))
async def test_a_client_that_leaves_a_race_pays_for_no_more_than_it_got(
    house: Indoors, turns: int
) -> None:
    """At every await on the way."""
    house.upstreams.script = raced("second", silent)
    asking = asyncio.get_running_loop().create_task(ask(house, "x"))
    for _ in range(turns):
        await asyncio.sleep(0)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await until(house.at_rest)
    assert spent(house) - KNOWN * ANSWER < 100
    assert usage(house).running == 0
    assert house.line.running == 0
    assert not any(one.in_flight for one in house.pool.upstreams)
