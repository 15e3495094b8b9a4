"""Stampedes, broken upstreams and crowds (case 26; goals G3, G15 and G16): what clients see of it,
and what upstreams do."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from edge.errors import UpstreamError
from edge.line import AdmissionSettings
from edge.policy import CacheSettings
from edge.routing.breaker import FAILURES_TO_OPEN
from edge.routing.pool import RETRIES_FIRST
from edge.routing.upstream import UNTRIED
from tests.edge.test_line import Held
from tests.fakes.doors import Answer, CutError, chat
from tests.fakes.eventually import until
from tests.fakes.indoors import Exchange, Indoors, Script, answer, down, indoors
from tests.fakes.upstream import chunks, completion, sse

TTL_S = 100


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[Indoors]:
    cache = CacheSettings(mode="exact", ttl_s=TTL_S, stale_if_error_s=1000)
    async with indoors(tmp_path, cache) as one:
        yield one


async def stored(house: Indoors, text: str) -> bool:
    return (await house.ask(text, cache_control="only-if-cached")).status == 200


# One answer for a thousand, which breaks off


STREAM = b"".join(sse(data) for data in chunks("one two three", usage=False))
JSON_ANSWER = json.dumps(completion("one two three", 1)).encode()


def cut(at: int, gate: asyncio.Event) -> Script:
    """An upstream that breaks off after so many bytes."""

    async def script(exchange: Exchange) -> AsyncIterator[bytes]:
        await gate.wait()
        yield (STREAM if exchange.body.get("stream") else JSON_ANSWER)[:at]
        raise down()

    return script


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99])
async def test_case_26_an_upstream_cut_at_byte_n_is_nobodys_answer(
    house: Indoors, stream: bool, share: float
) -> None:
    """A thousand ask the same; who came first leaves; then the upstream breaks off."""
    gate = asyncio.Event()
    at = int(share * len(STREAM if stream else JSON_ANSWER))
    house.upstreams.script = cut(at, gate)
    loop = asyncio.get_running_loop()
    asked = [loop.create_task(house.ask(chat("x", stream=stream))) for _ in range(1000)]
    await house.upstreams.called(1)
    asked[0].cancel()
    await asyncio.sleep(0)
    assert len(house.upstreams.calls) == 1
    gate.set()
    for got in await asyncio.gather(*asked[1:], return_exceptions=True):
        if isinstance(got, CutError):  # after the first token: an error event, and no [DONE]
            assert "error" in str(got)
            assert "[DONE]" not in str(got)
        else:
            assert isinstance(got, Answer)
            assert got.status == 502
    assert len(house.upstreams.calls) <= 2  # row 25: one retry for all
    assert not await stored(house, "x")
    house.upstreams.script = answer
    assert (await house.ask("x")).cache["fwd"] == "miss"


# Upstreams in trouble


def limited() -> UpstreamError:
    refusal = down(status=429)
    refusal.retry_after_s, refusal.wait_s = 20, 20.0
    return refusal


def half(house: Indoors) -> None:
    gate = asyncio.Event()
    gate.set()
    house.upstreams.script = cut(100, gate)


def crowded(house: Indoors) -> None:
    """Refuses a moment later, when others have been sent as well."""

    async def script(_exchange: Exchange) -> AsyncIterator[bytes]:
        for _ in range(3):
            await asyncio.sleep(0)
        raise down(status=429)
        yield b""

    house.upstreams.script = script


def refusing(error: Callable[[], UpstreamError]) -> Callable[[Indoors], None]:
    def begin(house: Indoors) -> None:
        house.upstreams.refusals = {one.name: error() for one in house.pool.upstreams}

    return begin


TROUBLES: dict[str, Callable[[Indoors], None]] = {
    "dead": refusing(lambda: down("cannot be reached", 502)),
    "slow": refusing(lambda: down("did not answer in time", 504)),
    "limited": refusing(limited),
    "limited without a word": refusing(lambda: down(status=429)),
    "limited in a crowd": crowded,
    "half answers": half,
}


@pytest.fixture(params=TROUBLES)
def trouble(request: pytest.FixtureRequest) -> Callable[[Indoors], None]:
    return TROUBLES[request.param]


async def test_g15_hits_are_untouched_and_what_has_expired_is_used(
    house: Indoors, trouble: Callable[[Indoors], None]
) -> None:
    await house.ask("old")
    house.clock.now += TTL_S + 12
    await house.ask("fresh")
    trouble(house)
    for number in range(20):
        assert (await house.ask("fresh")).cache["hit"] is True
        stale = await house.ask("old")
        assert (stale.status, stale.cache["ttl"], stale.headers["age"]) == (200, -12, "112")
        refused = await house.ask(f"new {number}")
        assert refused.status in (429, 502, 503, 504)
        assert "error" in json.loads(refused.body)
    house.upstreams.script, house.upstreams.refusals = answer, {}
    house.clock.now += 60  # all breakers let it be tried by then
    assert (await house.ask("new 0")).status == 200


async def test_g15_the_breaker_opens_after_a_few_failures(
    house: Indoors, trouble: Callable[[Indoors], None]
) -> None:
    (one,) = house.pool.upstreams
    trouble(house)
    for number in range(FAILURES_TO_OPEN):
        await house.ask(f"new {number}")
    assert not one.well(house.clock.monotonic())


@pytest.mark.parametrize("at_once", [1, 50])
async def test_g15_upstreams_are_asked_for_little_more_than_is_wanted(
    tmp_path: Path, trouble: Callable[[Indoors], None], at_once: int
) -> None:
    """Whatever goes wrong, and however many ask at a time."""
    async with indoors(tmp_path, upstreams=["one", "two"]) as house:
        trouble(house)
        demand = 1_000
        for begin in range(0, demand, at_once):
            numbers = range(begin, begin + at_once)
            await asyncio.gather(*(house.ask(f"number {number}") for number in numbers))
            house.clock.now += 0.01 * at_once  # a hundred a second
        spare = RETRIES_FIRST + UNTRIED * (at_once > 1) + 2 * 0.01 * demand
        assert len(house.upstreams.calls) <= 1.1 * demand + spare
        house.pool.check()
        house.line.check()


# More than there is room for


async def test_g3_who_cannot_be_served_in_time_is_told_at_once(tmp_path: Path) -> None:
    """Five times as many as there is room for: no time passes, no answer ends, and the refused have
    their answers."""
    limit = AdmissionSettings(concurrency=4, queue_s=10)
    async with indoors(tmp_path, admission=limit) as house:
        await house.ask("known")
        held = house.upstreams.script = Held()
        first = asyncio.get_running_loop().create_task(house.ask("slow"))
        await house.upstreams.called(2)
        house.clock.now += 40  # so long do calls take
        held.go.release()
        await first
        began = house.clock.now
        asked = [
            asyncio.get_running_loop().create_task(house.ask(f"number {number}"))
            for number in range(20)
        ]
        await house.upstreams.called(6)
        await until(lambda: sum(one.done() for one in asked) + len(house.line) == 16)
        refused = [one.result() for one in asked if one.done()]
        assert len(refused) >= 12
        for one in refused:
            assert one.status == 503
            assert int(one.headers["retry-after"]) >= 1
            assert json.loads(one.body)["error"]["code"] == "overloaded"
        assert (await house.ask("known")).cache["hit"] is True
        assert house.clock.now == began
        for _ in asked:
            held.go.release()
        rest = await asyncio.gather(*asked)
        assert sum(one.status == 200 for one in rest) == 20 - len(refused)
