"""Two real nodes of one region and the Redis between them: what one fetched the other serves."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from edge.membership import Wanted, join
from edge.node import Node, monotonic, wall
from edge.regional.tier import RegionalTier
from index.entry import Purge
from sync.invites import Terms
from tests.edge.test_fleet import Two, door_of
from tests.fakes.doors import Door, ask, chat
from tests.fakes.eventually import until, until_told
from tests.fakes.node import running_node
from tests.fakes.ports import free_address
from tests.fakes.redis import RedisServer, installed, redis_server
from tests.fakes.upstream import ScriptedUpstream

PROMPT = "what is the capital city of france"
KEYS = {"A_KEY": "key-of-a", "B_KEY": "key-of-b", "US_KEY": "key-of-us"}
TENANTS = [
    {"tenant": "acme", "key_env": "A_KEY"},
    {"tenant": "bolt", "key_env": "B_KEY"},
    {"tenant": "zinc", "key_env": "US_KEY", "residency": ["us"]},
]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(installed("redis", "valkey"), tmp_path / "redis") as one:
        yield one


@asynccontextmanager
async def region(
    data: Path, base_url: str, server: RedisServer, **settings: Any
) -> AsyncIterator[Two]:
    """Two nodes in `eu`, which ask nobody but Redis what the other has."""
    settings["redis"] = {"url": server.url, "timeout_s": 10.0, **settings.get("redis", {})}
    own = {
        "node": {"name": "fra-1"},
        "sync": {"listen": free_address(), "region": "eu", "threshold": 1_000_000},
    }
    async with running_node(data / "a", base_url, **{**settings, **own}) as a:
        invitation = await a.fleet.invite(Terms(), 60.0)
        wanted = Wanted("fra-2", region="eu", listen=free_address())
        await asyncio.to_thread(join, invitation.token, data / "b", None, wanted, wall())
        other = {"node": {"name": "fra-2"}, "sync": {"threshold": 1_000_000}}
        async with (
            running_node(data / "b", base_url, **{**settings, **other}) as b,
            door_of(a) as at_a,
            door_of(b) as at_b,
        ):
            await asyncio.wait_for(b.fleet.filled.wait(), 20)
            yield Two(a, b, at_a, at_b)


def tier(node: Node) -> RegionalTier:
    assert node._regional is not None
    return node._regional


async def kept(two: Two, door: Door, prompt: str = PROMPT, **fields: str) -> None:
    """Asked of one node, and put into Redis by it."""
    put = sum(tier(node).counts.put for node in (two.a, two.b))
    await ask(door, prompt, **fields)
    await until(lambda: sum(tier(node).counts.put for node in (two.a, two.b)) == put + 1)


async def test_what_one_fetched_the_other_serves(
    server: RedisServer, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    async with region(tmp_path, upstream.base_url, server) as two:
        await kept(two, two.at_a)
        found = await ask(two.at_b, PROMPT)
        assert found.cache["hit"] is True
        assert str(found.cache["detail"]) == "redis"
        assert found.text == f"answer 1 to: {PROMPT}"
        assert found.headers["x-promptedge-stored-by"] == two.a.fleet.name
        assert "redis;dur=" in found.headers["server-timing"]
        again = await ask(two.at_b, PROMPT)
        assert again.cache["hit"] is True
        assert "detail" not in again.cache
        assert len(upstream.calls) == 1
        told = two.b.overview.status()["redis"]
        assert (told["state"], told["found"], told["url"]) == ("ready", 1, server.url)
        assert two.b.overview.status()["requests"]["redis"] == 1
        assert "promptedge_redis_found 1.0" in two.b._metrics.render().decode()


async def test_two_who_find_it_at_once_are_both_served(
    server: RedisServer, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    async with region(tmp_path, upstream.base_url, server) as two:
        await kept(two, two.at_a)
        server.pause()
        asking = asyncio.gather(  # who has wishes of its own shares no flight
            ask(two.at_b, PROMPT), ask(two.at_b, PROMPT, cache_control="max-age=1000")
        )
        pool = tier(two.b)._client._redis.connection_pool
        await until(lambda: len(pool._in_use_connections) == 2)
        server.resume()
        for found in await asking:
            assert found.cache["hit"] is True
        assert len(upstream.calls) == 1
        assert tier(two.b).counts.refused == 0


async def test_what_one_fetched_anew_the_other_does_not_fetch_again(
    server: RedisServer, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    cache = {"stale_while_revalidate_s": 600}
    async with region(tmp_path, upstream.base_url, server, cache=cache) as two:
        await kept(two, two.at_a)
        assert str((await ask(two.at_b, PROMPT)).cache["detail"]) == "redis"
        await two.a.purges.purge(Purge(), soft=True, wait_s=20.0)
        await kept(two, two.at_a, cache_control="no-cache")
        assert str((await ask(two.at_b, PROMPT)).cache["detail"]) == "swr"
        await until(lambda: tier(two.b).counts.found == 2)
        fresh = await ask(two.at_b, PROMPT)
        assert (fresh.cache["hit"], fresh.text) == (True, f"answer 2 to: {PROMPT}")
        assert len(upstream.calls) == 2


async def test_a_node_whose_disk_was_lost_finds_its_own(
    server: RedisServer, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"redis": {"url": server.url, "timeout_s": 10.0}}
    async with (
        running_node(tmp_path / "a", upstream.base_url, **settings) as node,
        door_of(node) as door,
    ):
        await ask(door, PROMPT)
        await until(lambda: tier(node).counts.put == 1)
    for file in (tmp_path / "a").glob("cache.db*"):
        file.unlink()
    async with running_node(tmp_path / "a", upstream.base_url, **settings) as node:
        await asyncio.wait_for(node.fleet.filled.wait(), 20)
        async with door_of(node) as door:
            assert str((await ask(door, PROMPT)).cache["detail"]) == "redis"
    assert len(upstream.calls) == 1


async def test_what_was_purged_does_not_come_back_from_there(
    server: RedisServer, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    async with region(tmp_path, upstream.base_url, server) as two:
        await kept(two, two.at_a)
        done = await two.a.purges.purge(Purge(label="model:test-model"), wait_s=20.0)
        assert done.confirmed == (two.b.fleet.name,)
        assert len(server.names()) == 1, "it lies there still"
        assert (await ask(two.at_b, PROMPT)).text == f"answer 2 to: {PROMPT}"
        assert tier(two.b).counts.refused == 1
        assert two.b.fleet.replica.hearing.taken["DEAD"] == 1


async def test_tenants_and_residency_hold_there(
    server: RedisServer, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"environ": KEYS, "keys": TENANTS}
    async with region(tmp_path, upstream.base_url, server, **settings) as two:
        await kept(two, two.at_a, authorization="Bearer key-of-a")
        await ask(two.at_a, PROMPT, authorization="Bearer key-of-us")
        mine, theirs = server.names(), ""
        assert len(mine) == 1, "what may be kept in us alone is not there"
        await kept(two, two.at_a, authorization="Bearer key-of-b")
        (theirs,) = {*server.names()} - {*mine}
        server.call("COPY", theirs, mine[0], "REPLACE")
        answer = await ask(two.at_b, PROMPT, authorization="Bearer key-of-a")
        assert "hit" not in answer.cache
        assert tier(two.b).counts.refused == 1
        found = await ask(two.at_b, PROMPT, authorization="Bearer key-of-b")
        assert str(found.cache["detail"]) == "redis"


async def test_whoever_reads_there_learns_nothing(
    server: RedisServer, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"environ": KEYS, "keys": TENANTS}
    async with region(tmp_path, upstream.base_url, server, **settings) as two:
        await kept(two, two.at_a, "canary-prompt of mine", authorization="Bearer key-of-a")
        (name,) = server.names()
        seen = name.encode() + server.call("GET", name)
        for word in (b"canary", b"answer", b"acme", b"test-model", b"fra-1", b"key-of-a"):
            assert word not in seen


async def test_garbage_in_every_value_costs_a_call_and_nothing_else(
    server: RedisServer, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    async with region(tmp_path, upstream.base_url, server) as two:
        for number in range(5):
            await kept(two, two.at_a, f"{PROMPT} number {number}")
        for name in server.names():
            server.call("SET", name, b"\x82" * 2_000)
        for number in range(5):
            answer = await ask(two.at_b, f"{PROMPT} number {number}")
            assert answer.status == 200
            assert "hit" not in answer.cache
        assert tier(two.b).counts.refused == 5
        assert len(upstream.calls) == 10


async def test_nodes_serve_on_when_it_is_killed(
    server: RedisServer, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    async with region(tmp_path, upstream.base_url, server) as two:
        await kept(two, two.at_a)
        server.kill()
        assert (await ask(two.at_a, PROMPT)).cache["hit"] is True
        for number in range(8):
            answer = await ask(two.at_b, f"{PROMPT} number {number}")
            assert (answer.status, answer.cache["fwd"]) == (200, "miss")
        assert tier(two.b).counts.failed < 8
        assert two.b.overview.status()["redis"]["state"] == "lost"
        assert two.b.overview.readiness()[0]


@pytest.mark.parametrize("pause", [("CLIENT", "PAUSE", "600000"), ("DEBUG", "SLEEP", "600")])
async def test_a_hit_never_waits_for_it(
    server: RedisServer, upstream: ScriptedUpstream, tmp_path: Path, pause: tuple[str, ...]
) -> None:
    """It says nothing for ten minutes: a miss waits for its time, and a hit for nothing."""
    settings: dict[str, Any] = {"redis": {"timeout_s": 0.05}}
    async with region(tmp_path, upstream.base_url, server, **settings) as two:
        await ask(two.at_a, PROMPT)
        server.say(*pause)

        async def missed() -> bool:
            answer = await ask(two.at_b, f"{PROMPT} number {len(upstream.calls)}")
            assert (answer.status, answer.cache["fwd"]) == (200, "miss")
            return tier(two.b).counts.skipped > 0

        await until_told(missed)
        for node, door in ((two.a, two.at_a), (two.b, two.at_b)):
            asked = tier(node).counts.failed + tier(node).counts.skipped
            prompt = PROMPT if door is two.at_a else f"{PROMPT} number 1"
            assert (await ask(door, prompt)).cache["hit"] is True
            assert tier(node).counts.failed + tier(node).counts.skipped == asked


STRICT: dict[str, Any] = {
    "environ": {"A_KEY": "key-of-a"},
    "plans": [{"name": "pro", "tokens_per_day": 1_200}],
    "keys": [{"tenant": "acme", "key_env": "A_KEY", "plan": "pro"}],
    "admission": {"quotas": "strict"},
}
USED = 12
"""Tokens that the fake upstream says each answer took."""


async def test_two_nodes_grant_to_the_token_what_a_plan_allows(
    server: RedisServer, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    async with region(tmp_path, upstream.base_url, server, **STRICT) as two:
        key = {"authorization": "Bearer key-of-a"}
        statuses: list[int] = []

        async def all_granted() -> bool:
            for door in (two.at_a, two.at_b):
                asked = chat(f"what is {len(statuses)}", max_tokens=USED)
                statuses.append((await ask(door, asked, **key)).status)
            return statuses[-4:] == [429] * 4

        await until_told(all_granted)
        # The last call sets aside some tokens more than it will use.
        assert 1_200 - 3 * USED <= statuses.count(200) * USED <= 1_200
        hit = await ask(two.at_a, chat("what is 0", max_tokens=USED), **key)
        assert hit.cache["hit"] is True, "which asks nobody"


async def test_when_redis_is_lost_the_nodes_go_on_by_themselves(
    server: RedisServer, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    async with region(tmp_path, upstream.base_url, server, **STRICT) as two:
        key = {"authorization": "Bearer key-of-a"}
        assert (await ask(two.at_a, "what is 0", **key)).status == 200
        server.kill()
        for number in range(1, 20):
            asked = chat(f"what is {number}", max_tokens=USED)
            assert (await ask(two.at_a, asked, **key)).status == 200
        strict = two.a._strict
        assert strict is not None
        assert strict.fallbacks == 19
        assert "promptedge_quota_fallbacks 19.0" in two.a._metrics.render().decode()
        usage = two.a._gate._quotas.usage("acme", "pro", monotonic())
        assert usage is not None
        assert usage.day is not None
        assert usage.day.left(monotonic()) == 1_200 - 20 * USED, "all was counted here as well"


async def test_who_forgot_what_was_purged_takes_nothing_older_from_there(
    server: RedisServer, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"redis": {"url": server.url, "timeout_s": 10.0}}
    prompts = (PROMPT, "what is the capital city of spain")
    async with (
        running_node(tmp_path, upstream.base_url, **settings) as node,
        door_of(node) as door,
    ):
        for prompt in prompts:
            await ask(door, prompt)
        await until(lambda: tier(node).counts.put == 2)
        await node.purges.purge(Purge())
    for name in ("fleet.db-wal", "fleet.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    (tmp_path / "fleet.db").write_bytes(b"garbage" * 4_096)
    for number, prompt in enumerate(prompts, 3):  # and so after the next restart
        async with running_node(tmp_path, upstream.base_url, **settings) as node:
            await asyncio.wait_for(node.fleet.filled.wait(), 20)
            async with door_of(node) as door:
                assert (await ask(door, prompt)).text == f"answer {number} to: {prompt}"
