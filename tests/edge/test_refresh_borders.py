"""Who may have an answer that is fetched anew beside them, and who may not: who has to wait joins
that call only if it is of its own tenant, asked for after the last purge, and sent where its own
prompts may go (`edge.refresh`, `edge.fill`)."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edge.errors import ClientError, UpstreamError
from edge.policy import CacheSettings
from edge.routing.settings import UpstreamSettings
from index.entry import Purge, Scope
from tests.edge.test_line import Held
from tests.edge.test_revalidate import LIMIT_S, TTL_S, count, followed, kept, refreshed
from tests.fakes.doors import Answer
from tests.fakes.eventually import until
from tests.fakes.indoors import Exchange, Indoors, Script, answer, indoors

CACHE = CacheSettings(mode="exact", ttl_s=TTL_S, stale_while_revalidate_s=LIMIT_S)
KEYS = {"a": "acme", "kept-in-eu": "acme", "sent-to-eu": "acme", "b": "other"}
EU = ("eu",)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[Indoors]:
    places = [UpstreamSettings(f"http://{at}/v1", name=at, region=at) for at in ("us", "eu")]
    async with indoors(
        tmp_path,
        CACHE,
        keys=KEYS,
        residency={"kept-in-eu": EU},
        regions={"sent-to-eu": EU},
        region="us",
        upstreams=places,
    ) as one:
        yield one


async def ask(house: Indoors, key: str, **fields: str) -> Answer:
    return await house.ask("x", authorization=f"Bearer {key}", **fields)


async def under_way(house: Indoors, script: Script) -> None:
    """What tenant `acme` has is being fetched anew, and has expired for good meanwhile."""
    for key in ("a", "b"):
        await ask(house, key)
    house.clock.now += TTL_S + 12
    house.upstreams.script = script
    assert (await ask(house, "a")).cache["detail"] == "swr"
    await house.upstreams.called(3)
    house.clock.now += LIMIT_S


def asking(house: Indoors, key: str, **fields: str) -> asyncio.Task[Answer]:
    return asyncio.get_running_loop().create_task(ask(house, key, **fields))


async def has_its_own(house: Indoors, held: Held, asked: asyncio.Task[Answer]) -> Answer:
    await house.upstreams.called(4)
    held.go.release()
    held.go.release()
    got = await asked
    assert "collapsed" not in got.headers["cache-status"]
    await refreshed(house)
    return got


async def test_another_tenant_has_a_call_of_its_own(house: Indoors) -> None:
    await under_way(house, held := Held())
    assert (await has_its_own(house, held, asking(house, "b"))).text == "answer 4 to: x"
    every = {one.scope: one.body for one in await kept(house)}
    assert b"answer 3" in every[Scope("tenant:acme")]
    assert b"answer 4" in every[Scope("tenant:other")]


async def test_so_has_a_key_whose_prompts_may_not_go_there(house: Indoors) -> None:
    await under_way(house, held := Held())
    await has_its_own(house, held, asking(house, "sent-to-eu"))
    assert house.upstreams.calls[-1].upstream == "eu"


@pytest.mark.parametrize("what", [Purge(), Purge(scope=Scope("tenant:acme")), Purge(label="zz")])
async def test_so_has_who_asks_after_a_purge(house: Indoors, what: Purge) -> None:
    await under_way(house, held := Held())
    await house.purge(what)
    assert (await has_its_own(house, held, asking(house, "a"))).text == "answer 4 to: x"
    assert (await ask(house, "a")).text == "answer 4 to: x"


async def test_so_has_who_asks_after_a_complaint(house: Indoors) -> None:
    await under_way(house, held := Held())
    house.collapse.renew()
    await has_its_own(house, held, asking(house, "a"))


async def test_who_asked_before_a_purge_has_what_was_asked_for_before_it_and_nobody_else(
    house: Indoors,
) -> None:
    await under_way(house, held := Held())
    before = asking(house, "a")
    await until(lambda: followed(house))
    await house.purge(Purge())
    held.go.release()
    assert (await before).text == "answer 3 to: x"
    await refreshed(house)
    assert await kept(house) == []


@pytest.mark.parametrize("wish", ["no-store", "only-if-cached", "min-fresh=1", "no-cache"])
async def test_who_has_wishes_does_not_join(house: Indoors, wish: str) -> None:
    await under_way(house, held := Held())
    asked = asking(house, "a", cache_control=wish)
    if wish == "only-if-cached":
        assert (await asked).status == 504
        held.go.release()
    else:
        await has_its_own(house, held, asked)


async def test_a_key_whose_answers_may_not_be_kept_here_fetches_nothing_anew(
    house: Indoors,
) -> None:
    await ask(house, "a")
    house.clock.now += TTL_S + 12
    assert (await ask(house, "kept-in-eu")).cache["detail"] == "swr"
    await refreshed(house)
    assert len(house.upstreams.calls) == 1
    assert (await ask(house, "a")).cache["detail"] == "swr"
    await refreshed(house)
    assert count(house, "swr", "stored") == 1


async def test_who_leaves_takes_the_call_with_it_neither_as_its_cause_nor_as_one_who_joined(
    house: Indoors,
) -> None:
    await under_way(house, held := Held())
    asked = asking(house, "a")
    await until(lambda: followed(house))
    asked.cancel()
    await until(lambda: not followed(house))
    held.go.release()
    await refreshed(house)
    assert (await ask(house, "a")).text == "answer 3 to: x"


@pytest.mark.parametrize(
    "error",
    [
        UpstreamError("It broke."),
        UpstreamError("Slow down.", status=429, retry_after_s=1),
        ClientError("Not that.", status=400),
    ],
    ids=["down", "limited", "refused"],
)
async def test_a_failure_is_not_shared(house: Indoors, error: Exception) -> None:
    go = asyncio.Event()

    async def third_fails(exchange: Exchange) -> AsyncIterator[bytes]:
        if exchange.number >= 3:
            await go.wait()
        if exchange.number == 3:
            raise error
        async for piece in answer(exchange):
            yield piece

    await under_way(house, third_fails)
    asked = asking(house, "a")
    await until(lambda: followed(house))
    go.set()
    assert (await asked).text == "answer 4 to: x"
    await refreshed(house)
