"""Plans on the path of a request: what is counted, what is set aside and given back, who is told
what."""

import asyncio
import json
import re
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from edge.admission import plans
from edge.admission.plans import PlanSettings, Quotas
from edge.admission.refusals import duration, over_quota
from edge.config import ConfigError, load
from edge.errors import after_s
from edge.preflight import check_values
from index.entry import Instant, NodeName
from tests.fakes.doors import Answer, chat, doors
from tests.fakes.doors import ask as send
from tests.fakes.eventually import until
from tests.fakes.indoors import Exchange, Indoors, down, indoors
from tests.fakes.node import running_node
from tests.fakes.upstream import ScriptedUpstream, chunks, completion, sse

PLANS = (
    PlanSettings("slow", requests_per_minute=6),
    PlanSettings("small", tokens_per_minute=600),
    PlanSettings("daily", tokens_per_day=700),
    PlanSettings("one", concurrency=1),
    PlanSettings("open"),
)
KEYS = {f"key-{plan.name}": plan.name for plan in PLANS}


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[Indoors]:
    async with indoors(
        tmp_path, keys={**KEYS, "key-free": "free"}, plans=PLANS, key_plans=KEYS
    ) as one:
        yield one


async def ask(house: Indoors, plan: str, prompt: Any = "x") -> Answer:
    return await house.ask(prompt, authorization=f"Bearer key-{plan}")


def error(answer: Answer) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(answer.body)["error"]
    return found


def counts(exchange: Exchange, prompt: int, answer: int) -> bytes:
    body = completion(exchange.words, exchange.number)
    body["usage"] = {
        "prompt_tokens": prompt,
        "completion_tokens": answer,
        "total_tokens": prompt + answer,
    }
    return json.dumps(body).encode()


async def test_requests_are_counted_hits_too(house: Indoors) -> None:
    left = [(await ask(house, "slow")).headers["x-ratelimit-remaining-requests"] for _ in range(6)]
    assert left == ["5", "4", "3", "2", "1", "0"]
    assert len(house.upstreams.calls) == 1
    refused = await ask(house, "slow")
    assert refused.status == 429
    house.clock.now += 10
    assert (await ask(house, "slow")).status == 200
    assert (await ask(house, "slow")).status == 429


async def test_a_refusal_says_whose_limit_it_is_and_when_to_come_back(house: Indoors) -> None:
    for _ in range(6):
        await ask(house, "slow")
    refused = await ask(house, "slow")
    assert error(refused)["type"] == "rate_limit_error"
    assert error(refused)["code"] == "rate_limit_exceeded"
    assert "6 requests per minute" in error(refused)["message"]
    wait_s = int(refused.headers["retry-after"])
    assert 10 <= wait_s <= 15
    assert refused.headers["ratelimit-policy"] == '"requests";q=6;w=60'
    assert refused.headers["ratelimit"] == '"requests";r=0;t=60'
    assert refused.headers["x-ratelimit-limit-requests"] == "6"
    assert refused.headers["x-ratelimit-reset-requests"] == "1m0s"
    house.clock.now += wait_s
    assert (await ask(house, "slow")).status == 200  # as it was told


async def test_tokens_are_set_aside_and_settled_as_counted(house: Indoors) -> None:
    async def counted(exchange: Exchange) -> AsyncIterator[bytes]:
        yield counts(exchange, 10, 90)

    house.upstreams.script = counted
    for left in (500, 400, 300):
        asked = await ask(house, "small", f"number {left}")
        assert asked.status == 200
        again = await ask(house, "small", f"number {left}")  # a hit costs no tokens
        assert again.headers["x-ratelimit-remaining-tokens"] == str(left)


async def test_two_at_once_do_not_get_twice_as_much(house: Indoors) -> None:
    gate = asyncio.Event()

    async def slow(exchange: Exchange) -> AsyncIterator[bytes]:
        await gate.wait()
        yield counts(exchange, 10, 10)

    house.upstreams.script = slow
    async with asyncio.TaskGroup() as group:
        first = group.create_task(ask(house, "small", "one"))
        await house.upstreams.called(1)
        second = await ask(house, "small", "two")  # 512 are foreseen for an unknown answer
        gate.set()
    assert (first.result().status, second.status) == (200, 429)
    assert "600 tokens per minute, and less is left than the about 5" in error(second)["message"]
    assert (await ask(house, "small", "two")).status == 200  # what was not used was given back


async def test_a_prompt_that_never_fits_is_not_to_be_sent_again(house: Indoors) -> None:
    refused = await ask(house, "small", "word " * 1000)
    assert refused.status == 429
    assert "never fit" in error(refused)["message"]
    assert refused.headers["x-should-retry"] == "false"
    assert "retry-after" not in refused.headers


async def test_what_failed_costs_nothing(house: Indoors) -> None:
    house.upstreams.refusals["one"] = down()
    for number in range(4):
        assert (await ask(house, "small", f"number {number}")).status == 502
    house.upstreams.refusals.clear()
    house.clock.now += 1  # nothing could have come back by itself
    assert (await ask(house, "small", "last")).status in (200, 502)
    usage = house.quotas.usage("small", "small", house.clock.monotonic())
    assert usage is not None
    assert usage.running == 0


@pytest.mark.parametrize("turns", range(12))
async def test_a_client_that_leaves_gives_back_what_it_did_not_get(
    house: Indoors, turns: int
) -> None:
    """At every await on the way."""

    async def long(exchange: Exchange) -> AsyncIterator[bytes]:
        for data in chunks(exchange.words, exchange.number):
            await asyncio.sleep(0)
            yield sse(data)

    house.upstreams.script = long
    asking = asyncio.get_running_loop().create_task(
        ask(house, "small", chat(f"leaves after {turns}", stream=True))
    )
    for _ in range(turns):
        await asyncio.sleep(0)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await until(house.at_rest)
    usage = house.quotas.usage("small", "small", house.clock.monotonic())
    assert usage is not None
    assert usage.running == 0
    assert usage.tokens is not None
    assert usage.tokens.left(house.clock.monotonic()) >= 500


async def test_equal_requests_in_flight_are_paid_once(house: Indoors) -> None:
    async with asyncio.TaskGroup() as group:
        asking = [group.create_task(ask(house, "small", "same")) for _ in range(50)]
    assert {one.result().status for one in asking} == {200}
    assert len(house.upstreams.calls) == 1


async def test_who_joined_a_refused_flight_is_refused_as_well(house: Indoors) -> None:
    async with asyncio.TaskGroup() as group:
        asking = [group.create_task(ask(house, "small", "word " * 1000 + "end")) for _ in range(20)]
    assert {one.result().status for one in asking} == {429}
    refused = house.metrics.registry.get_sample_value(
        "promptedge_turned_away_total", {"reason": "tokens"}
    )
    assert refused == 1


async def test_as_many_run_at_a_time_as_may(house: Indoors) -> None:
    gate = asyncio.Event()

    async def slow(exchange: Exchange) -> AsyncIterator[bytes]:
        await gate.wait()
        yield counts(exchange, 1, 1)

    house.upstreams.script = slow
    async with asyncio.TaskGroup() as group:
        first = group.create_task(ask(house, "one", "first"))
        await house.upstreams.called(1)
        second = await ask(house, "one", "second")
        gate.set()
    assert (first.result().status, second.status) == (200, 429)
    assert error(second)["code"] == "concurrency_limit_exceeded"
    assert "allows 1 request at a time, and as many are under way." in error(second)["message"]
    assert (await ask(house, "one", "second")).status == 200


async def test_a_budget_for_the_day(house: Indoors) -> None:
    async def counted(exchange: Exchange) -> AsyncIterator[bytes]:
        yield counts(exchange, 100, 250)

    house.upstreams.script = counted
    assert (await ask(house, "daily", "one")).status == 200
    assert (await ask(house, "daily", "two")).status == 200
    refused = await ask(house, "daily", "three")
    assert "700 tokens per day" in error(refused)["message"]
    assert '"tokens-per-day";q=700;w=86400' in refused.headers["ratelimit-policy"]
    house.clock.now += int(refused.headers["retry-after"])
    assert (await ask(house, "daily", "three")).status == 200


@pytest.mark.parametrize("key", ["open", "free"])
async def test_without_limits_nothing_is_said_of_them(house: Indoors, key: str) -> None:
    for number in range(20):
        answer = await ask(house, key, f"number {number}")
        assert answer.status == 200
        assert not [name for name in answer.headers if "ratelimit" in name]


def test_two_plans_in_turn_renew_neither() -> None:
    quotas, now = Quotas(PLANS), Instant(0.0)

    def request(plan: str) -> bool:
        usage = quotas.usage("acme", plan, now)
        assert usage is not None
        return usage.request(now) is None

    assert [request("slow") and request("small") for _ in range(7)] == [True] * 6 + [False]


def test_whoever_has_used_something_is_not_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans, "TENANTS_MAX", 10)
    quotas, now = Quotas(PLANS), Instant(0.0)
    for _ in range(6):
        usage = quotas.usage("acme", "slow", now)
        assert usage is not None
        assert usage.request(now) is None
    for number in range(100):
        quotas.usage(f"passing {number}", "slow", now)
    usage = quotas.usage("acme", "slow", now)
    assert usage is not None
    assert usage.request(now) is not None
    assert len(quotas) == 10


def test_more_tenants_than_there_is_room_for_take_no_more_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ten times as many, each of whom has used something."""
    assert plans.TENANTS_MAX == 100_000
    monkeypatch.setattr(plans, "TENANTS_MAX", 1_000)
    quotas, now = Quotas(PLANS), Instant(0.0)
    sizes = []
    tracemalloc.start()
    try:
        for number in range(10_000):
            usage = quotas.usage(f"tenant {number}", "slow", now)
            assert usage is not None
            usage.request(now)
            if number in (2_000, 9_999):
                sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert len(quotas) == plans.TENANTS_MAX
    assert sizes[1] < 1.1 * sizes[0]


async def test_one_tenants_limit_is_not_anothers(house: Indoors) -> None:
    statuses = [(await ask(house, "slow")).status for _ in range(7)]
    assert statuses == [200] * 6 + [429]
    assert (await ask(house, "small")).status == 200


def test_durations_are_written_as_clients_read_them() -> None:
    assert [duration(one) for one in (0, 0.12, 1, 1.5, 60, 3661.25)] == [
        "0ms", "120ms", "1s", "1.5s", "1m0s", "1h1m1.25s",
    ]  # fmt: skip
    assert re.fullmatch(r"\d+ms", duration(0.9999)) or duration(0.9999) == "1s"


def test_nobody_is_told_to_come_back_before_it_is_worth_it() -> None:
    assert after_s(0.001, 0.0) == 1
    assert [after_s(10, draw) for draw in (0.0, 0.5, 0.999)] == [10, 13, 15]


def test_plans_must_be_told_apart_and_exist() -> None:
    plan = {"name": "free"}
    with pytest.raises(ConfigError, match="two have the same name"):
        check_values(load(None, {}, {"plans": [plan, plan]}))
    key = {"tenant": "a", "key_env": "KEY", "plan": "gold"}
    with pytest.raises(ConfigError, match="no plan 'gold'"):
        check_values(load(None, {}, {"plans": [plan], "keys": [key]}))


async def test_every_door_says_the_same(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "plans": [{"name": "slow", "requests_per_minute": 3}],
        "keys": [{"tenant": "acme", "key_env": "KEY", "plan": "slow"}],
    }
    async with (
        running_node(tmp_path, upstream.base_url, environ={"KEY": "k"}, **settings) as node,
        doors(node) as every,
    ):
        asked = [await send(door, "x", authorization="Bearer k") for door in every[:3]]
        assert [one.status for one in asked] == [200] * len(asked)
        for _ in range(3 - len(asked)):
            await send(every[0], "x", authorization="Bearer k")
        for door in every:
            refused = await send(door, "x", authorization="Bearer k")
            assert refused.status == 429
            assert refused.headers["ratelimit"].startswith('"requests";r=0;t=')
            assert int(refused.headers["retry-after"]) >= 1
            assert error(refused)["code"] == "rate_limit_exceeded"


def test_who_is_refused_is_not_told_that_there_is_room() -> None:
    """Where this node's part is used up and others have some left."""
    quotas = Quotas(PLANS)
    now = Instant(0.0)
    quotas.turn([NodeName("other")], now)
    usage = quotas.usage("acme", "slow", now)
    assert usage is not None
    assert [usage.request(now) for _ in range(3)] == [None] * 3
    exceeded = usage.request(now)
    assert exceeded is not None
    assert exceeded.part
    refused = over_quota(exceeded, usage, 0.0, now)
    assert "6 requests per minute, and this node's part of that is used up." in refused.message
    fields = dict(refused.fields)
    assert fields["ratelimit"] == '"requests";r=0;t=30'
    assert fields["x-ratelimit-remaining-requests"] == "0"
