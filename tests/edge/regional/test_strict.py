"""Limits counted in one place: the same meter as in a node, for many nodes, which may lose it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from random import Random
from typing import Any

import pytest

from edge.admission.plans import Exceeded, PlanSettings, Quotas, Usage
from edge.admission.rate import Limit, Meter, Taken
from edge.regional.client import RedisClient
from edge.regional.gcra import OPEN_MAX, OPEN_S, SCRIPT
from edge.regional.health import Health
from edge.regional.settings import RedisSettings
from edge.regional.strict import StrictQuotas, Ticket
from edge.routing.breaker import FAILURES_TO_OPEN, OPEN_S_MAX
from index.entry import Instant
from tests.fakes.beside import beside
from tests.fakes.eventually import until
from tests.fakes.indoors import Clock
from tests.fakes.redis import RedisServer

SECRET = b"s" * 32
UNITS, WINDOW_S = 60, 30.0
PLANS = (
    PlanSettings("pro", requests_per_minute=1_000_000, tokens_per_day=10_000),
    PlanSettings("few", requests_per_minute=10, tokens_per_minute=1_000),
    PlanSettings("open", concurrency=3),
)


@asynccontextmanager
async def client_of(url: str) -> AsyncIterator[RedisClient]:
    client = RedisClient(RedisSettings(url), None)
    try:
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def strict_at(
    server: RedisServer, clock: Clock | None = None, timeout_s: float = 20.0, who: str = "n"
) -> AsyncIterator[StrictQuotas]:
    clock, ids = clock or Clock(), count(1)
    async with client_of(server.url) as client:
        health = Health(server.url, clock.monotonic)
        strict = StrictQuotas(client, health, SECRET, timeout_s, lambda: f"{who}{next(ids)}")
        async with beside(strict.run()):
            yield strict


def usage(plan: str) -> Usage:
    found = Quotas(PLANS).usage("acme", plan, Instant(0.0))
    assert found is not None
    return found


@pytest.mark.parametrize("seed", range(20))
async def test_the_script_is_the_meter(server: RedisServer, seed: int) -> None:
    """Any takings and settlings, at any times: both grant the same, and say the same wait."""
    chance, now = Random(seed), 1_000.0
    meter = Meter(Limit(UNITS, WINDOW_S))
    open_: dict[str, tuple[Taken, int]] = {}
    async with client_of(server.url) as client:

        async def run(what: str, name: str, units: float) -> tuple[int, float]:
            words: list[Any] = [now, what, name, UNITS, WINDOW_S, units]
            which, wait_s = await client.run(SCRIPT, "q", words, 20.0)
            return which, float(wait_s)

        for number in range(120):
            now += chance.choice([0.0, 0.1, chance.uniform(0, 2 * WINDOW_S)])
            if open_ and chance.random() < 0.5:
                name = chance.choice(list(open_))
                taken, units = open_.pop(name)
                used = units * chance.choice([0.0, chance.random(), 1.0, 1.5])
                meter.settle(taken, used, Instant(now))
                assert await run("settle", name, used) == (0, 0.0)
                continue
            name, units = f"id{number}", chance.randrange(1, UNITS + 1)
            expected_s = meter.wait_s(units, Instant(now))
            which, wait_s = await run("take", name, units)
            assert which == bool(expected_s)
            assert wait_s == pytest.approx(expected_s, abs=1e-3)
            if not which:
                open_[name] = meter.take(units, Instant(now)), units


async def test_all_limits_are_taken_from_or_none(server: RedisServer) -> None:
    async with client_of(server.url) as client:

        async def take(name: str, requests: int, tokens: int) -> int:
            words: list[Any] = [1_000.0, "take", name, 10, 60.0, requests, 100, 60.0, tokens]
            return int((await client.run(SCRIPT, "q", words, 20.0))[0])

        assert await take("a", 1, 90) == 0
        assert await take("b", 1, 20) == 2, "the second leaves no room"
        assert await take("c", 9, 10) == 0, "so the first was not spent from"
        assert await take("d", 1, 0) == 1


async def test_what_nobody_settles_has_an_end(server: RedisServer) -> None:
    async with client_of(server.url) as client:

        async def run(now: float, what: str, name: str, units: int) -> list[Any]:
            words: list[Any] = [now, what, name, 10_000, 60.0, units]
            return await client.run(SCRIPT, "q", words, 20.0)

        for number in range(OPEN_MAX + 100):
            assert (await run(1_000.0, "take", f"id{number}", 1))[0] == 0
        size = int(server.call("STRLEN", "q")[1:])
        assert size < 100 * OPEN_MAX
        await run(1_001.0 + OPEN_S, "take", "last", 1)
        assert int(server.call("STRLEN", "q")[1:]) < 200
        assert 0 < int(server.call("TTL", "q")[1:]) <= OPEN_S
        assert (await run(1_002.0, "settle", "nobody's", 1))[0] == 0


async def test_no_two_nodes_grant_the_same(server: RedisServer) -> None:
    async with strict_at(server, who="a") as a, strict_at(server, who="b") as b:
        found = await asyncio.gather(
            *(node.take("acme", usage("pro"), 100) for node in (a, b) for _ in range(100))
        )
        granted = [one for one in found if isinstance(one, Ticket)]
        refused = [one for one in found if isinstance(one, Exceeded)]
        assert (len(granted), len(refused)) == (100, 100)
        assert {(one.what, one.limit, one.asked) for one in refused} == {
            ("tokens_day", 10_000, 100)
        }
        assert all(one.wait_s > 0 for one in refused)
        other = await a.take("other", usage("pro"), 100)
        assert isinstance(other, Ticket), "another tenant has its own"


async def test_what_was_not_used_is_given_back_to_all(server: RedisServer) -> None:
    async with strict_at(server, who="a") as a, strict_at(server, who="b") as b:
        first = await a.take("acme", usage("pro"), 10_000)
        assert isinstance(first, Ticket)
        assert isinstance(await b.take("acme", usage("pro"), 5_000), Exceeded)
        first.settle(4_000)
        second = None
        async with asyncio.timeout(20):
            while not isinstance(second, Ticket):
                second = await b.take("acme", usage("pro"), 5_000)
        assert isinstance(await a.take("acme", usage("pro"), 2_000), Exceeded)


async def test_calls_are_counted_and_those_that_never_ran_are_not(server: RedisServer) -> None:
    async with strict_at(server) as strict:
        for _ in range(9):
            assert isinstance(await strict.take("acme", usage("few"), 1), Ticket)
        tenth = await strict.take("acme", usage("few"), 1)
        assert isinstance(tenth, Ticket)
        refused = await strict.take("acme", usage("few"), 1)
        assert isinstance(refused, Exceeded)
        assert refused.what == "requests"
        tenth.settle(0.0, 0.0)
        found: object = refused
        async with asyncio.timeout(20):
            while not isinstance(found, Ticket):
                found = await strict.take("acme", usage("few"), 1)


async def test_a_plan_without_limits_asks_nobody(server: RedisServer) -> None:
    async with strict_at(server) as strict:
        assert await strict.take("acme", usage("open"), 1) is None
        assert (strict.fallbacks, server.names()) == (0, [])


async def test_when_it_is_lost_the_node_decides(server: RedisServer) -> None:
    clock = Clock()
    async with strict_at(server, clock) as strict:
        held = await strict.take("acme", usage("pro"), 100)
        assert isinstance(held, Ticket)
        server.kill()
        for _ in range(FAILURES_TO_OPEN + 3):
            assert await strict.take("acme", usage("pro"), 100) is None
        assert strict.fallbacks == FAILURES_TO_OPEN + 3
        held.settle(50)
        await until(lambda: strict.unsettled > 0)
        server.start()
        clock.now += OPEN_S_MAX
        assert isinstance(await strict.take("acme", usage("pro"), 100), Ticket)


async def test_what_may_have_been_granted_too_late_is_given_back(server: RedisServer) -> None:
    async with strict_at(server, timeout_s=0.05) as strict, strict_at(server) as patient:
        await patient.take("warm", usage("pro"), 1)  # a connection, and the script
        server.pause()
        assert await strict.take("acme", usage("pro"), 10_000) is None
        server.resume()
        found: object = None
        async with asyncio.timeout(20):
            while not isinstance(found, Ticket):
                found = await patient.take("acme", usage("pro"), 10_000)


async def test_who_leaves_while_asking_holds_nothing(server: RedisServer) -> None:
    async with strict_at(server) as strict:
        chance = Random(1)
        for _ in range(30):
            asking = asyncio.get_running_loop().create_task(
                strict.take("acme", usage("pro"), 9_000)
            )
            for _ in range(chance.randrange(8)):
                await asyncio.sleep(0)
            asking.cancel()
            outcome = (await asyncio.gather(asking, return_exceptions=True))[0]
            if isinstance(outcome, Ticket):
                outcome.settle(0.0, 0.0)
        found: object = None
        async with asyncio.timeout(20):
            while not isinstance(found, Ticket):
                found = await strict.take("acme", usage("pro"), 10_000)


async def test_what_somebody_wrote_there_is_begun_anew_or_not_believed(
    server: RedisServer,
) -> None:
    """Whoever can write there can also delete: nobody is shut out by it, and no node stumbles."""
    async with strict_at(server) as strict:
        await strict.take("acme", usage("pro"), 1)
        (name,) = server.names()
        assert "acme" not in name
        for value in (b"garbage", b"\x01", b"", b"\x80", b"\xc1", b"\x82\xa4full\x01\xa4open\x80"):
            server.call("SET", name, value)
            assert isinstance(await strict.take("acme", usage("pro"), 10_000), Ticket)
            assert isinstance(await strict.take("acme", usage("pro"), 1), Exceeded)
        server.call("SET", name, b"\x82\xa4full\x91\xa1x\xa4open\x80")
        assert await strict.take("acme", usage("pro"), 1) is None, "as if it were lost"
        server.call("DEL", name)
        server.call("RPUSH", name, "a list")
        assert await strict.take("acme", usage("pro"), 1) is None


async def test_it_stops_when_it_is_told_to(server: RedisServer) -> None:
    """Whatever it is doing: some ways of waiting lose a cancellation."""
    for turns in range(40):
        async with strict_at(server) as strict:
            ticket = await strict.take("acme", usage("pro"), 1)
            assert isinstance(ticket, Ticket)
            ticket.settle(1.0)
            for _ in range(turns):
                await asyncio.sleep(0)
