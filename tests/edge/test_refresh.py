"""Popular answers are fetched anew before they expire, and nothing else is."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from edge.admission.plans import PlanSettings
from edge.line import AdmissionSettings
from edge.policy import CacheSettings
from edge.refresh import RefreshSettings
from index.decision import DecisionSettings
from index.entry import Entry, NodeName, Purge, Scope
from tests.edge.test_line import Held
from tests.fakes.eventually import until
from tests.fakes.indoors import Indoors, down, indoors

TTL_S = 100
CACHE = CacheSettings(mode="exact", ttl_s=TTL_S)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[Indoors]:
    async with indoors(tmp_path, CACHE) as one:
        yield one


async def popular(house: Indoors, text: str = "x", hits: int = 2, left_s: int = 10) -> Entry:
    """Asked for and hit so often; it lives so long still."""
    began = house.clock.now
    last = await house.ask(text)
    for _ in range(hits):
        await house.ask(text)
    house.clock.now = began + TTL_S - left_s
    decided = house.decisions.of(last.headers["x-request-id"])
    assert decided is not None
    hot = house.answers.recall(decided.scope, decided.key, house.clock.wall())
    assert hot is not None
    return hot.entry


async def calls(house: Indoors) -> int:
    await until(house.at_rest)
    return len(house.upstreams.calls)


async def test_nobody_ever_waits_for_what_is_popular(house: Indoors) -> None:
    await popular(house)
    held = house.upstreams.script = Held()
    for _ in range(10):
        hit = await house.ask("x")
        assert (hit.cache["hit"], hit.text) == (True, "answer 1 to: x")
    await house.upstreams.called(2)
    held.go.release()
    assert await calls(house) == 2
    fresh = await house.ask("x")
    assert (fresh.cache["hit"], fresh.text, fresh.cache["ttl"]) == (True, "answer 2 to: x", TTL_S)
    value = house.metrics.registry.get_sample_value(
        "promptedge_refreshes_total", {"why": "ahead", "result": "stored"}
    )
    assert value == 1


async def test_not_what_is_asked_for_seldom(house: Indoors) -> None:
    await popular(house, hits=1)
    await house.ask("x")
    assert await calls(house) == 1


async def test_not_what_is_fresh_for_long(house: Indoors) -> None:
    await popular(house, hits=5, left_s=11)
    await house.ask("x")
    assert await calls(house) == 1


async def test_not_what_nobody_asks_for_any_more(house: Indoors) -> None:
    await popular(house, hits=9)
    house.clock.now += 20
    assert await calls(house) == 1
    assert (await house.ask("x")).cache["fwd"] == "miss"


@pytest.mark.parametrize("wish", ["no-store", "only-if-cached", "max-age=1000"])
async def test_not_for_who_has_wishes_of_its_own(house: Indoors, wish: str) -> None:
    await popular(house, hits=9)
    await house.ask("x", cache_control=wish)
    assert await calls(house) == 1 + (wish == "no-store")


async def test_not_while_more_than_half_of_the_room_is_in_use(tmp_path: Path) -> None:
    limit = AdmissionSettings(concurrency=1)
    async with indoors(tmp_path, CACHE, admission=limit) as house:
        await popular(house)
        held = house.upstreams.script = Held()
        async with asyncio.TaskGroup() as group:
            group.create_task(house.ask("first"))
            await house.upstreams.called(2)
            assert (await house.ask("x")).cache["hit"] is True
            held.go.release()
        assert await calls(house) == 2
        turned_away = house.metrics.registry.get_sample_value(
            "promptedge_turned_away_total", {"reason": "queue_late"}
        )
        assert not turned_away  # nobody was


async def test_so_many_at_a_time_and_no_more(tmp_path: Path) -> None:
    async with indoors(tmp_path, CACHE, refresh=RefreshSettings(per_s=0.5)) as house:
        texts = [f"number {number}" for number in range(25)]
        for text in texts:
            await popular(house, text, left_s=TTL_S)
        house.clock.now += TTL_S - 8
        for text in texts * 2:
            await house.ask(text)
        assert await calls(house) == 25 + 20  # that is what was saved up
        house.clock.now += 6
        for text in texts * 2:
            await house.ask(text)
        assert await calls(house) == 25 + 20 + 3


async def test_none_a_second_is_none(tmp_path: Path) -> None:
    async with indoors(tmp_path, CACHE, refresh=RefreshSettings(per_s=0)) as house:
        await popular(house, hits=9)
        await house.ask("x")
        assert await calls(house) == 1


async def test_off_is_off(tmp_path: Path) -> None:
    async with indoors(tmp_path, CACHE, refresh=RefreshSettings(share=0)) as house:
        await popular(house, hits=9, left_s=1)
        await house.ask("x")
        assert await calls(house) == 1


async def test_one_that_came_to_nothing_is_not_tried_again_soon(house: Indoors) -> None:
    await popular(house)
    house.upstreams.refusals["one"] = down()
    for _ in range(5):
        assert (await house.ask("x")).cache["hit"] is True
        assert await calls(house) == 2


async def test_a_purge_is_not_undone_by_it(house: Indoors) -> None:
    await popular(house)
    held = house.upstreams.script = Held()
    await house.ask("x")
    await house.upstreams.called(2)
    await house.purge(Purge(scope=Scope("shared")))
    held.go.release()
    held.go.release()
    await until(house.at_rest)
    assert (await house.ask("x")).text == "answer 3 to: x"


async def test_it_is_purged_by_what_would_have_purged_the_old_one(house: Indoors) -> None:
    house.upstreams.labels = ("launch",)
    await popular(house)
    house.upstreams.labels = ()
    await house.ask("x")
    assert await calls(house) == 2
    assert (await house.ask("x")).text == "answer 2 to: x"
    assert await house.purge(Purge(label="launch")) == 1


async def test_it_is_found_by_meaning_if_the_old_one_was(tmp_path: Path) -> None:
    cache = CacheSettings(mode="semantic", ttl_s=TTL_S)
    async with indoors(tmp_path, cache, semantic=DecisionSettings()) as house:
        text = "Which colours has the flag of Norway?"
        before = await popular(house, text)
        await house.ask(text, prompt_cache="exact")
        assert await calls(house) == 2
        fresh = await house.ask(text)
        decided = house.decisions.of(fresh.headers["x-request-id"])
        assert decided is not None
        hot = house.answers.recall(decided.scope, decided.key, house.clock.wall())
        assert hot is not None
        assert before.question is not None
        assert hot.entry.question == before.question


async def test_what_is_pinned_is_left_until_it_expires(house: Indoors) -> None:
    house.answers.put(replace(await popular(house), pinned=True), None)
    for _ in range(5):
        await house.ask("x")
    assert await calls(house) == 1


async def test_what_another_node_fetched_is_left_to_that_one_for_longer(house: Indoors) -> None:
    house.answers.put(replace(await popular(house), stored_by=NodeName("other")), None)
    for _ in range(5):
        await house.ask("x")
    assert await calls(house) == 1
    house.clock.now += 5
    await house.ask("x")
    assert await calls(house) == 2


async def test_it_is_paid_by_whoever_asked(tmp_path: Path) -> None:
    plans = (PlanSettings("daily", tokens_per_day=1_000),)
    async with indoors(
        tmp_path, CACHE, keys={"key": "acme"}, plans=plans, key_plans={"key": "daily"}
    ) as house:
        began = house.clock.now
        for _ in range(4):
            await house.ask("x", authorization="Bearer key")
        usage = house.quotas.usage("acme", "daily", house.clock.monotonic())
        assert usage is not None
        assert usage.day is not None
        house.clock.now = began + TTL_S - 1
        before = usage.day.left(house.clock.monotonic())
        await house.ask("x", authorization="Bearer key")
        assert await calls(house) == 2
        assert usage.day.left(house.clock.monotonic()) == before - 12
        assert usage.running == 0
