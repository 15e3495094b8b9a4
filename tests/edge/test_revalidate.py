"""Row 28: what has expired is served at once where that is allowed, and fetched anew, once."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge.admission.plans import PlanSettings
from edge.dialects.openai_chat import OpenAiChat
from edge.line import AdmissionSettings
from edge.policy import CacheSettings, RouteSettings
from edge.refresh import REST_S
from index.decision import DecisionSettings
from index.entry import SHARED, Entry, PartitionKey, Purge, Question, Scope, Timestamp, Version
from index.prompt import exact_key
from tests.edge.test_line import Held
from tests.fakes.doors import Answer, chat, request_body
from tests.fakes.entries import Purger
from tests.fakes.eventually import until
from tests.fakes.indoors import SECRET, Exchange, Indoors, Script, answer, down, indoors

TTL_S, LIMIT_S = 100, 60
SHAREABLE = "what is the capital city of france"
QUESTION = Question(PartitionKey(b"p" * 32), "x")
CACHE = CacheSettings(mode="exact", ttl_s=TTL_S, stale_while_revalidate_s=LIMIT_S)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[Indoors]:
    routes = (RouteSettings("strict", stale_while_revalidate_s=0),)
    async with indoors(tmp_path, CACHE, routes=routes) as one:
        yield one


async def expired(house: Indoors, prompt: Any = "x", late_s: int = 12) -> None:
    await house.ask(prompt)
    house.clock.now += TTL_S + late_s


async def refreshed(house: Indoors) -> None:
    await until(house.at_rest)


async def kept(house: Indoors) -> list[Entry]:
    """What is fresh."""
    await asyncio.to_thread(house.answers.flush)
    return [entry for entry, _ in house.answers.everything(house.clock.wall())]


def count(house: Indoors, why: str, result: str) -> float:
    labels = {"why": why, "result": result}
    return house.metrics.registry.get_sample_value("promptedge_refreshes_total", labels) or 0.0


@pytest.mark.parametrize("stream", [False, True])
async def test_it_is_served_at_once_and_there_is_one_call(house: Indoors, stream: bool) -> None:
    await expired(house, chat("x", stream=stream))
    held = house.upstreams.script = Held()
    for _ in range(20):
        stale = await house.ask(chat("x", stream=stream))
        assert stale.headers["cache-status"] == "edge; hit; ttl=-12; detail=swr"
        assert stale.headers["age"] == "112"
    await house.upstreams.called(2)
    held.go.release()
    await refreshed(house)
    fresh = await house.ask("x")
    assert (fresh.text, fresh.headers["age"]) == ("answer 2 to: x", "0")
    assert fresh.cache["ttl"] == TTL_S
    assert len(house.upstreams.calls) == 2
    assert count(house, "swr", "stored") == 1
    assert house.metrics.totals()["stale"] == 20


async def test_all_who_come_at_once_are_served_and_there_is_one_call(house: Indoors) -> None:
    await expired(house)
    got = await asyncio.gather(*(house.ask("x") for _ in range(50)))
    assert {one.cache["ttl"] for one in got} == {-12}
    await refreshed(house)
    assert len(house.upstreams.calls) == 2


async def test_after_that_whoever_asks_waits(house: Indoors) -> None:
    await expired(house, late_s=LIMIT_S + 1)
    assert (await house.ask("x")).cache["fwd"] == "miss"
    assert len(house.upstreams.calls) == 2


async def under_way(house: Indoors, script: Script) -> None:
    """It is being fetched anew, and has expired for good meanwhile."""
    await expired(house)
    house.upstreams.script = script
    await house.ask("x")
    await house.upstreams.called(2)
    house.clock.now += LIMIT_S


def followed(house: Indoors) -> bool:
    return "interests=2" in repr(list(house.collapse._joinable.values()))


async def test_who_has_to_wait_then_waits_for_the_call_that_runs(house: Indoors) -> None:
    held = Held()
    await under_way(house, held)
    asking = asyncio.get_running_loop().create_task(house.ask("x"))
    await until(lambda: followed(house))
    held.go.release()
    answer = await asking
    assert "fwd=miss; collapsed" in answer.headers["cache-status"]
    assert answer.text == "answer 2 to: x"
    assert house.metrics.totals()["collapsed"] == 1


async def test_if_that_call_fails_there_is_one_of_its_own(house: Indoors) -> None:
    go = asyncio.Event()

    async def second_fails(exchange: Exchange) -> AsyncIterator[bytes]:
        await go.wait()
        if exchange.number == 2:
            raise down()
        async for piece in answer(exchange):
            yield piece

    await under_way(house, second_fails)
    asking = asyncio.get_running_loop().create_task(house.ask("x"))
    await until(lambda: followed(house))
    go.set()
    got = await asking
    assert "fwd=miss; stored" in got.headers["cache-status"]
    assert got.text == "answer 3 to: x"


@pytest.mark.parametrize("cache_control", ["", "no-cache", "max-age=1000"])
async def test_not_who_wants_a_stream_or_has_wishes(house: Indoors, cache_control: str) -> None:
    held = Held()
    await under_way(house, held)
    fields = {"cache_control": cache_control} if cache_control else {}
    prompt = chat("x", stream=not cache_control)
    asking = asyncio.get_running_loop().create_task(house.ask(prompt, **fields))
    await house.upstreams.called(3)
    held.go.release()
    held.go.release()
    assert (await asking).status == 200


async def test_nor_who_would_wait_behind_all_others_with_it(tmp_path: Path) -> None:
    limit = AdmissionSettings(concurrency=1, queue_s=600)
    async with indoors(tmp_path, CACHE, admission=limit) as house:
        await expired(house)
        held = house.upstreams.script = Held()
        async with asyncio.TaskGroup() as group:
            group.create_task(house.ask("first"))
            await house.upstreams.called(2)
            await house.ask("x")
            await until(lambda: len(house.line) == 1)
            house.clock.now += LIMIT_S
            asking = group.create_task(house.ask("x"))
            await until(lambda: len(house.line) == 2)
            for _ in range(3):
                held.go.release()
        assert "fwd=miss; stored" in asking.result().headers["cache-status"]


@pytest.mark.parametrize(
    ("cache_control", "stale"),
    [
        ("no-cache", False),
        ("no-store", False),
        ("max-age=1000", False),  # RFC 9111, 5.2.1.1
        ("min-fresh=0", False),
        ("max-stale=11", False),
        ("max-stale=12", True),
        ("max-stale", True),
        ("max-age=1000, max-stale=60", True),
        ("max-age=100, max-stale=60", False),
    ],
)
async def test_the_request_may_narrow_it(house: Indoors, cache_control: str, stale: bool) -> None:
    await expired(house)
    got = await house.ask("x", cache_control=cache_control)
    assert (got.cache.get("ttl") == -12) == stale, got.headers


async def test_the_request_may_not_widen_it(house: Indoors) -> None:
    await expired(house, late_s=LIMIT_S + 1)
    assert (await house.ask("x", cache_control="max-stale=999")).cache["fwd"] == "miss"


async def test_who_wants_it_fresh_for_longer_does_not_get_what_is_about_to_expire(
    house: Indoors,
) -> None:
    await house.ask("x")
    house.clock.now += TTL_S - 10
    assert (await house.ask("x", cache_control="min-fresh=10")).cache["hit"] is True
    assert (await house.ask("x", cache_control="min-fresh=11")).cache["fwd"] == "miss"


async def test_only_if_cached_takes_it_and_asks_nobody(house: Indoors) -> None:
    await expired(house)
    assert (await house.ask("x", cache_control="only-if-cached")).cache["ttl"] == -12
    await refreshed(house)
    assert len(house.upstreams.calls) == 1


async def test_not_on_a_route_that_does_without(house: Indoors) -> None:
    await expired(house, chat("x", model="strict"))
    assert (await house.ask(chat("x", model="strict"))).cache["fwd"] == "miss"


async def test_not_for_what_ages_quickly(house: Indoors) -> None:
    await expired(house, "What is the weather in Paris today?")
    assert (await house.ask("What is the weather in Paris today?")).cache["fwd"] == "miss"


# Purges


async def test_never_across_a_purge(house: Indoors) -> None:
    await expired(house)
    await house.purge(Purge(label="model:test-model"))
    assert (await house.ask("x")).cache["fwd"] == "miss"


async def test_what_was_asked_for_before_a_purge_is_not_kept_after_it(house: Indoors) -> None:
    await expired(house)
    held = house.upstreams.script = Held()
    await house.ask("x")
    await house.upstreams.called(2)
    await house.purge(Purge())
    held.go.release()
    await refreshed(house)
    assert count(house, "swr", "unfit") == 1
    held.go.release()
    assert (await house.ask("x")).text == "answer 3 to: x"


async def test_a_soft_purge_leaves_it_for_this_and_has_it_fetched_anew(house: Indoors) -> None:
    await house.ask("x")
    soft = Purger()(Purge(), soft=True, now=house.clock.now)
    await asyncio.to_thread(house.answers.purge, soft)
    house.clock.now += 7
    assert (await house.ask("x")).headers["cache-status"] == "edge; hit; ttl=-7; detail=swr"
    await refreshed(house)
    assert (await house.ask("x")).text == "answer 2 to: x"


async def test_what_was_put_there_on_purpose_stays_so(house: Indoors) -> None:
    first = await house.ask("x")
    decided = house.decisions.of(first.headers["x-request-id"])
    assert decided is not None

    def held() -> Entry:
        hot = house.answers.recall(decided.scope, decided.key, house.clock.wall())
        assert hot is not None
        return hot.entry

    house.answers.put(replace(held(), labels=("launch",), pinned=True), None)
    await asyncio.to_thread(house.answers.flush)
    house.clock.now += TTL_S + 12
    assert (await house.ask("x")).cache["ttl"] == -12
    await refreshed(house)
    assert (held().labels, held().pinned, held().stored_at) == (
        ("launch",), True, house.clock.now,
    )  # fmt: skip


async def test_what_was_pinned_for_one_tenant_is_not_shared_with_all(tmp_path: Path) -> None:
    keys = {f"key-{tenant}": tenant for tenant in "abc"}
    routes = (RouteSettings("test-model", shared=True),)
    async with indoors(tmp_path, CACHE, routes=routes, keys=keys) as house:
        for key in keys:
            await house.ask(SHAREABLE, authorization=f"Bearer {key}")
        every = {one.scope: one for one in await kept(house)}
        assert every.keys() == {"shared", "tenant:a", "tenant:b", "tenant:c"}
        own = every[Scope("tenant:a")]
        house.answers.put(replace(own, labels=("launch",), pinned=True), None)
        house.clock.now += TTL_S + 12
        stale = await house.ask(SHAREABLE, authorization="Bearer key-a")
        assert stale.cache["detail"] == "swr"
        await refreshed(house)
        (again,) = await kept(house)
        assert (again.scope, again.pinned, again.has("launch")) == ("tenant:a", True, True)


async def test_what_was_pinned_for_all_is_pinned_for_no_tenant(tmp_path: Path) -> None:
    routes = (RouteSettings("test-model", shared=True),)
    async with indoors(tmp_path, CACHE, routes=routes, keys={"key": "a"}) as house:
        await house.ask(SHAREABLE, authorization="Bearer key")
        (own,) = await kept(house)
        everybodys = exact_key(OpenAiChat().parse(request_body(SHAREABLE)).prompt, SHARED, SECRET)
        house.answers.put(replace(own, scope=SHARED, key=everybodys, pinned=True), None)
        await house.purge(Purge(scope=own.scope))
        house.clock.now += TTL_S + 12
        assert (await house.ask(SHAREABLE, authorization="Bearer key")).cache["detail"] == "swr"
        await refreshed(house)
        (own,) = await kept(house)
        assert (own.scope, own.pinned) == ("tenant:a", False)


# What other nodes have


@pytest.mark.parametrize("lacks", ["", "label", "question", "freshness"])
async def test_what_another_node_fetched_anew_is_taken_from_there(
    house: Indoors, lacks: str
) -> None:
    await house.ask("x")
    (old,) = await kept(house)
    house.clock.now += TTL_S + 12
    if lacks == "label":
        house.answers.put(replace(old, labels=(*old.labels, "zz")), None)
    if lacks == "question":
        house.answers.put(replace(old, question=QUESTION), None)
    await asyncio.to_thread(house.answers.flush)
    left_s = 0 if lacks == "freshness" else 5
    expires_at = Timestamp(house.clock.now + left_s)
    fresh = replace(old, expires_at=expires_at, version=Version(old.version + 1))
    house.others.elsewhere[old.scope, old.key] = fresh
    assert (await house.ask("x")).cache["ttl"] == -12
    await refreshed(house)
    assert len(house.upstreams.calls) == (2 if lacks else 1)
    assert count(house, "swr", "stored" if lacks else "found") == 1


async def test_what_is_pinned_is_fetched_for_it_to_stay_so(house: Indoors) -> None:
    await house.ask("x")
    (old,) = await kept(house)
    house.answers.put(replace(old, pinned=True), None)
    await asyncio.to_thread(house.answers.flush)
    house.clock.now += TTL_S + 12
    fresh = replace(old, expires_at=Timestamp(house.clock.now + 5))
    house.others.elsewhere[old.scope, old.key] = fresh
    assert (await house.ask("x")).cache["ttl"] == -12
    await refreshed(house)
    assert [one.pinned for one in await kept(house)] == [True]


# When upstreams cannot


async def test_an_upstream_that_fails_is_not_asked_for_it_again_and_again(house: Indoors) -> None:
    await expired(house)
    house.upstreams.refusals["one"] = down()
    for _ in range(5):
        assert (await house.ask("x")).cache["ttl"] == -12
        await refreshed(house)
    assert len(house.upstreams.calls) == 2
    assert count(house, "swr", "failed") == 1
    house.upstreams.refusals.clear()
    house.clock.now += REST_S
    assert (await house.ask("x")).cache["ttl"] == -12 - REST_S
    await refreshed(house)
    assert (await house.ask("x")).text == "answer 3 to: x"


async def test_whoever_waits_goes_first(tmp_path: Path) -> None:
    limit = AdmissionSettings(concurrency=1, queue_s=600)
    async with indoors(tmp_path, CACHE, admission=limit) as house:
        await expired(house)
        held = house.upstreams.script = Held()
        async with asyncio.TaskGroup() as group:
            group.create_task(house.ask("first"))
            await house.upstreams.called(2)
            assert (await house.ask("x")).cache["ttl"] == -12
            await until(lambda: len(house.line) == 1)
            for number in range(3):
                group.create_task(house.ask(f"later {number}"))
                await until(lambda number=number: len(house.line) == number + 2)  # type: ignore[misc]
            for _ in range(5):
                held.go.release()
        await refreshed(house)
        assert held.order == ["first", "later 0", "later 1", "later 2", "x"]


async def test_it_is_paid_by_whoever_was_served_and_takes_none_of_its_places(
    tmp_path: Path,
) -> None:
    plans = (PlanSettings("one", tokens_per_minute=1000, concurrency=1),)
    async with indoors(
        tmp_path, CACHE, keys={"key": "acme"}, plans=plans, key_plans={"key": "one"}
    ) as house:

        async def ask(text: str) -> Answer:
            return await house.ask(text, authorization="Bearer key")

        await ask("x")
        house.clock.now += TTL_S + 12
        held = house.upstreams.script = Held()
        assert (await ask("x")).cache["ttl"] == -12
        await house.upstreams.called(2)
        usage = house.quotas.usage("acme", "one", house.clock.monotonic())
        assert usage is not None
        assert usage.tokens is not None
        assert usage.running == 0
        held.go.release()
        await refreshed(house)
        assert usage.tokens.left(house.clock.monotonic()) == 1000 - 12
        assert usage.running == 0


async def test_nobody_refreshes_for_whom_there_are_no_tokens_left(tmp_path: Path) -> None:
    plans = (PlanSettings("small", tokens_per_day=20),)
    async with indoors(
        tmp_path, CACHE, keys={"key": "acme"}, plans=plans, key_plans={"key": "small"}
    ) as house:
        for text in ("x", "y"):
            await house.ask(text, authorization="Bearer key")
        house.clock.now += TTL_S + 12
        assert (await house.ask("x", authorization="Bearer key")).cache["ttl"] == -12
        await refreshed(house)
        assert count(house, "swr", "refused") == 1


async def test_it_ends_with_the_node(tmp_path: Path) -> None:
    async with indoors(tmp_path, CACHE) as house:
        await expired(house)
        house.upstreams.script = Held()
        await house.ask("x")
        await house.upstreams.called(2)
    assert house.at_rest()
    assert house.upstreams.calls[1].left


# Busy


async def test_what_would_wait_longer_than_it_is_worth_gets_the_expired_one(
    tmp_path: Path,
) -> None:
    cache = CacheSettings(mode="exact", ttl_s=TTL_S, stale_if_error_s=LIMIT_S)
    async with indoors(tmp_path, cache, admission=AdmissionSettings(concurrency=1)) as house:
        await house.ask("x")
        held = house.upstreams.script = Held()
        house.clock.now += TTL_S - 6
        slow = asyncio.get_running_loop().create_task(house.ask("slow"))
        await house.upstreams.called(2)
        house.clock.now += 18  # as long as that do calls take, about
        held.go.release()
        await slow
        async with asyncio.TaskGroup() as group:
            group.create_task(house.ask("first"))
            await house.upstreams.called(3)
            group.create_task(house.ask("waits"))
            await until(lambda: len(house.line) == 1)
            stale = await house.ask("x")
            assert stale.headers["cache-status"] == "edge; hit; ttl=-12; detail=busy"
            assert (await house.ask("x", cache_control="only-if-cached")).status == 504
            for _ in range(3):
                held.go.release()
        assert [call.text for call in house.upstreams.calls] == ["x", "slow", "first", "waits"]
        value = house.metrics.registry.get_sample_value("promptedge_stale_total", {"why": "busy"})
        assert value == 1


async def test_while_there_is_room_it_is_fetched(tmp_path: Path) -> None:
    cache = CacheSettings(mode="exact", ttl_s=TTL_S, stale_if_error_s=LIMIT_S)
    async with indoors(tmp_path, cache) as house:
        await expired(house)
        assert (await house.ask("x")).cache["fwd"] == "miss"


async def test_an_upstream_at_its_rate_limit_is_a_reason(tmp_path: Path) -> None:
    cache = CacheSettings(mode="exact", ttl_s=TTL_S, stale_if_error_s=LIMIT_S)
    async with indoors(tmp_path, cache) as house:
        await expired(house)
        refusal = down(status=429)
        refusal.retry_after_s, refusal.wait_s = 30, 30.0
        house.upstreams.refusals["one"] = refusal
        first, second = await house.ask("x"), await house.ask("x")
        assert first.headers["cache-status"] == "edge; fwd=stale; ttl=-12; detail=sie"
        assert second.headers["cache-status"] == "edge; hit; ttl=-12; detail=busy"
        assert len(house.upstreams.calls) == 2


# Meaning


async def test_never_to_who_asks_in_other_words(tmp_path: Path) -> None:
    """That it still means the same is not known of what has expired."""
    cache = CacheSettings(ttl_s=TTL_S, stale_while_revalidate_s=LIMIT_S, stale_if_error_s=LIMIT_S)
    async with indoors(tmp_path, cache, semantic=DecisionSettings()) as house:
        asked, reworded = "How do I center a div in CSS?", "CSS: how to center a div?"
        await house.ask(asked)
        house.answers.flush()
        assert (await house.ask(reworded)).cache["detail"] == "semantic"
        house.clock.now += TTL_S + 12
        assert (await house.ask(asked)).cache["detail"] == "swr"
        house.upstreams.refusals["one"] = down()
        assert (await house.ask(reworded)).status == 502
