"""The second cache of a region against a real server: lost, slow, strange, and given too much."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import pytest

from edge.regional.client import Declined, RedisClient, Unreachable
from edge.regional.health import Health
from edge.regional.sealing import place
from edge.regional.settings import RedisSettings
from edge.regional.tier import RegionalTier
from edge.routing.breaker import FAILURES_TO_OPEN, OPEN_S_FIRST
from index.entry import EVERYWHERE, CacheKey, Entry, Scope, Version
from sync.frames import opened, peek, signed
from sync.messages import Entries
from tests.fakes.beside import beside
from tests.fakes.entries import NOW, SHARED, entry
from tests.fakes.eventually import until
from tests.fakes.fleet import FLEET, key, node
from tests.fakes.indoors import Clock
from tests.fakes.redis import RedisServer

SECRET = b"s" * 32
PATIENT: dict[str, Any] = {"timeout_s": 20.0}
"""For tests in which it answers, however busy the machine is."""


@dataclass
class Region:
    """A node that trusts its own signature and keeps nothing."""

    region: str = "eu"
    refuses: set[CacheKey] = field(default_factory=set)

    def told(self, entry: Entry) -> bytes | None:
        return signed(Entries(((entry, None),)), node("a"), Version(7), key("a"), FLEET)

    def taken(self, frame: bytes, scope: Scope, key_: CacheKey) -> Entry | None:
        found = opened(frame, peek(frame), key("a").public_key(), FLEET)
        assert isinstance(found, Entries)
        return found.items[0][0] if key_ not in self.refuses else None


@asynccontextmanager
async def tier_at(
    url: str, clock: Clock | None = None, region: Region | None = None, **settings: Any
) -> AsyncIterator[RegionalTier]:
    clock = clock or Clock()
    settings_ = RedisSettings(url, **settings)
    client = RedisClient(settings_, None)
    tier = RegionalTier(
        settings_,
        client,
        Health(url, clock.monotonic),
        region or Region(),
        SECRET,
        lambda: True,
        wall=clock.wall,
        chance=os.urandom,
    )
    try:
        async with beside(tier.run()):
            yield tier
    finally:
        await client.close()


def answer(name: str | int, **fields: Any) -> Entry:
    made = replace(entry(name), reach=EVERYWHERE, version=Version(5), stored_by=node("a"))
    return replace(made, **fields)


async def put(tier: RegionalTier, *entries: Entry) -> None:
    before = tier.counts.put + tier.counts.dropped
    for one in entries:
        tier.stored(one)
    await until(lambda: tier.counts.put + tier.counts.dropped - before == len(entries))


async def test_what_one_put_there_another_finds(server: RedisServer) -> None:
    async with tier_at(server.url, **PATIENT) as one, tier_at(server.url, **PATIENT) as other:
        await put(one, answer(1), answer(2))
        assert await other.find(SHARED, answer(1).key) == answer(1)
        assert await other.find(SHARED, answer(3).key) is None
        assert (other.counts.found, other.counts.in_vain) == (1, 1)
        ttl = int(server.call("PTTL", place(SECRET, "eu", SHARED, answer(1).key).name)[1:])
        assert 86_400_000 - 60_000 < ttl <= 86_400_000


async def test_tenants_and_regions_have_places_of_their_own(server: RedisServer) -> None:
    async with tier_at(server.url, **PATIENT) as tier:
        await put(tier, answer(1, scope=Scope("tenant:a")))
        assert await tier.find(Scope("tenant:a"), answer(1).key) is not None
        assert await tier.find(Scope("tenant:b"), answer(1).key) is None
        async with tier_at(server.url, region=Region("us"), **PATIENT) as elsewhere:
            assert await elsewhere.find(Scope("tenant:a"), answer(1).key) is None
        assert tier.counts.refused == 0


async def test_nothing_that_others_write_there_is_served(server: RedisServer) -> None:
    names = [place(SECRET, "eu", SHARED, answer(n).key).name for n in range(6)]
    async with tier_at(server.url, **PATIENT) as tier:
        await put(tier, *(answer(n) for n in range(6)))
        assert sorted(server.names()) == sorted(names)
        server.call("COPY", names[1], names[0], "REPLACE")  # another's answer
        server.call("SET", names[1], "garbage")
        server.call("SET", names[2], b"\x00" * 100_000)
        server.call("DEL", names[3])
        server.call("RPUSH", names[3], "a list")
        server.call("APPEND", names[4], "x")
        assert [await tier.find(SHARED, answer(n).key) for n in range(5)] == [None] * 5
        assert tier.counts.refused == 5
        assert tier.counts.failed == 0
        assert await tier.find(SHARED, answer(5).key) == answer(5), "the rest is as good as before"


async def test_what_the_node_refuses_is_not_found(server: RedisServer) -> None:
    region = Region()
    async with tier_at(server.url, region=region, **PATIENT) as tier:
        await put(tier, answer(1))
        region.refuses.add(answer(1).key)
        assert await tier.find(SHARED, answer(1).key) is None
        assert tier.counts.refused == 1


async def test_of_a_value_no_more_is_read_than_an_answer_may_have(server: RedisServer) -> None:
    settings: dict[str, Any] = {"answer_bytes_max": 2048, **PATIENT}
    async with tier_at(server.url, **settings) as tier:
        tier.stored(answer(1, body=b"x" * 2049))
        await put(tier, answer(2, body=b"x" * 2048))
        assert (await tier.find(SHARED, answer(2).key)) is not None
        assert len(server.names()) == 1
    async with tier_at(server.url, **PATIENT) as large, tier_at(server.url, **settings) as small:
        await put(large, answer(3, body=b"x" * 50_000))
        server.call("CONFIG", "RESETSTAT")
        assert await small.find(SHARED, answer(3).key) is None
        told = server.call("INFO", "stats").decode()
        sent = int(told.split("total_net_output_bytes:")[1].split()[0])
        assert sent < 12_000, "2 KiB of an answer, and what a frame has besides"


async def test_a_lost_server_is_asked_a_few_times_and_then_not_at_all(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    async with tier_at(server.url, clock, **PATIENT) as tier:
        await put(tier, answer(1))
        server.kill()
        for _ in range(FAILURES_TO_OPEN + 20):
            assert await tier.find(SHARED, answer(1).key) is None
        assert (tier.counts.failed, tier.counts.skipped) == (FAILURES_TO_OPEN, 20)
        assert tier.facts()["state"] == "lost"
        await put(tier, answer(2))
        assert tier.counts.dropped == 1, "and nothing is kept for it"
        server.start()
        assert await tier.find(SHARED, answer(1).key) is None
        assert tier.counts.skipped == 21
        clock.now += OPEN_S_FIRST
        assert await tier.find(SHARED, answer(1).key) is None
        assert tier.facts()["state"] == "ready"
        await put(tier, answer(1))
        assert await tier.find(SHARED, answer(1).key) == answer(1)
    assert caplog.text.count("event=redis_lost") == caplog.text.count("event=redis_back") == 1


async def test_a_server_that_stands_still_is_not_waited_for(server: RedisServer) -> None:
    async with tier_at(server.url, timeout_s=0.02) as tier:
        server.pause()
        for _ in range(FAILURES_TO_OPEN):
            assert await tier.find(SHARED, answer(1).key) is None
        assert tier.counts.failed == FAILURES_TO_OPEN
        assert await tier.find(SHARED, answer(1).key) is None
        assert tier.counts.skipped == 1
        server.resume()


async def test_what_it_does_not_take_is_let_go_of(server: RedisServer) -> None:
    """Whatever was not sent would stay in memory, with a descriptor, until it runs again."""
    client = RedisClient(RedisSettings(server.url), None)
    large = [(str(number), b"x" * 200_000, 60_000) for number in range(64)]  # no socket holds that
    await client.put([("small", b"x", 60_000)], 20.0)
    server.pause()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with pytest.raises(Unreachable):
            await client.put(large, 0.2)
    await asyncio.sleep(0)
    assert len(os.listdir("/proc/self/fd")) <= before
    await client.close()


async def test_one_request_tries_whether_it_is_back(server: RedisServer) -> None:
    clock = Clock()
    async with tier_at(server.url, clock, timeout_s=0.02) as tier:
        server.pause()
        for _ in range(FAILURES_TO_OPEN):
            await tier.find(SHARED, answer(1).key)
        clock.now += OPEN_S_FIRST
        await asyncio.gather(*(tier.find(SHARED, answer(1).key) for _ in range(50)))
        assert tier.counts.failed == FAILURES_TO_OPEN + 1
        server.resume()


async def test_who_leaves_while_it_is_tried_leaves_it_to_be_tried(server: RedisServer) -> None:
    clock = Clock()
    async with tier_at(server.url, clock, **PATIENT) as tier:
        server.kill()
        for _ in range(FAILURES_TO_OPEN):
            await tier.find(SHARED, answer(1).key)
        server.start()
        server.pause()
        clock.now += OPEN_S_FIRST
        leaving = asyncio.get_running_loop().create_task(tier.find(SHARED, answer(1).key))
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        server.resume()
        assert await tier.find(SHARED, answer(1).key) is None
        assert tier.facts()["state"] == "ready"


async def test_a_queue_has_an_end(server: RedisServer) -> None:
    async with tier_at(server.url, queue_bytes_max=10_000, **PATIENT) as tier:
        for number in range(30):
            tier.stored(answer(number, body=b"x" * 1_000))
        assert (tier.facts()["queued"], tier.counts.dropped) == (10, 20)
        await until(lambda: tier.counts.put == 10)
        assert tier.facts()["queued"] == 0
        await put(tier, answer(99))
        assert tier.counts.put == 11


async def test_a_full_server_is_still_read(server: RedisServer) -> None:
    async with tier_at(server.url, **PATIENT) as tier:
        await put(tier, answer(1))
        server.call("CONFIG", "SET", "maxmemory", "1")
        await put(tier, answer(2), answer(3))
        assert (tier.counts.put, tier.counts.dropped) == (1, 2)
        assert "OOM" in str(tier.facts()["trouble"]) or "OutOfMemory" in str(tier.facts())
        assert await tier.find(SHARED, answer(1).key) == answer(1)
        assert tier.facts()["state"] == "ready"


async def test_what_stays_on_its_node_or_soon_expires_is_not_put_there(
    server: RedisServer,
) -> None:
    async with tier_at(server.url, **PATIENT) as tier:
        tier.stored(answer(1, reach=()))
        tier.stored(answer(2, expires_at=NOW))
        await put(tier, answer(3))
        assert server.names() == [place(SECRET, "eu", SHARED, answer(3).key).name]


async def test_whoever_leaves_gives_nobody_their_answer(server: RedisServer) -> None:
    """Askers are cancelled at any moment; those who stay get what they asked for."""
    chance = Random(3)
    async with tier_at(server.url, connections=4, **PATIENT) as tier:
        await put(tier, *(answer(number) for number in range(40)))

        async def ask(number: int) -> None:
            found = await tier.find(SHARED, answer(number).key)
            assert found is None or found == answer(number)

        for _ in range(40):
            asking = [
                asyncio.get_running_loop().create_task(ask(chance.randrange(40))) for _ in range(8)
            ]
            for _ in range(chance.randrange(6)):
                await asyncio.sleep(0)
            for task in chance.sample(asking, 3):
                task.cancel()
            for outcome in await asyncio.gather(*asking, return_exceptions=True):
                assert outcome is None or isinstance(outcome, asyncio.CancelledError)
        assert tier.counts.found > 40
        assert tier.counts.refused == 0


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"$99999999999999\r\n",
        b"$-7\r\n",
        b"*9\r\n" * 5_000,
        b":\r\n",
        b"\x00" * 4_096,
        b"+" + b"\xff" * 64 + b"\r\n",
        b"",
    ],
    ids=["http", "endless", "negative", "deep", "no number", "zeros", "no text", "hung up"],
)
async def test_a_server_of_another_kind_does_no_harm(reply: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(reply)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = RedisClient(RedisSettings(f"redis://127.0.0.1:{port}"), None)
    try:
        for _ in range(3):
            with contextlib.suppress(Unreachable, Declined):
                assert await client.get("a name", 1_000, 20.0) in (None, b"\xff" * 64)
            with contextlib.suppress(Unreachable, Declined):
                assert await client.put([("a name", b"a value", 1_000)], 20.0) == 1
    finally:
        await client.close()
        server.close()
        await server.wait_closed()
