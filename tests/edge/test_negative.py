"""What an upstream refused for the request's own sake is said again for some seconds."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from edge.ask import Query
from edge.dialects import Call
from edge.dialects.openai_chat import OpenAiChat
from edge.errors import ClientError
from edge.negative import KEPT_MAX, Negative, lasting
from edge.policy import Allowed, CacheSettings, Mode, Route
from edge.request import Head
from edge.routing.maintenance import Drain
from index.entry import CacheKey, Instant, Purge, Scope
from index.prompt import Prompt
from tests.fakes.doors import Answer, chat, doors
from tests.fakes.doors import ask as send
from tests.fakes.indoors import Indoors, down, indoors
from tests.fakes.node import running_node
from tests.fakes.upstream import Exchange, ScriptedUpstream

TTL_S = 10
NOW = Instant(1000.0)


def fault(
    status: int = 400,
    code: str = "context_length_exceeded",
    message: str = "This model's maximum context length is 8192 tokens.",
) -> ClientError:
    error = ClientError(message, status=status, code=code, param="messages")
    error.by_upstream = True
    return error


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[Indoors]:
    cache = CacheSettings(mode="exact", negative_ttl_s=TTL_S)
    async with indoors(tmp_path, cache, keys={"key-a": "a", "key-b": "b"}) as one:
        one.upstreams.refusals["one"] = fault()
        yield one


async def ask(house: Indoors, prompt: Any = "x", key: str = "key-a", **fields: str) -> Answer:
    return await house.ask(prompt, authorization=f"Bearer {key}", **fields)


async def test_it_is_said_again_without_asking(house: Indoors) -> None:
    first = await ask(house)
    house.clock.now += 4
    again = await ask(house)
    assert (first.status, again.status) == (400, 400)
    assert again.body == first.body
    assert json.loads(again.body)["error"]["code"] == "context_length_exceeded"
    assert again.headers["cache-status"] == "edge; hit; ttl=6; detail=negative"
    assert again.headers["age"] == "4"
    assert "cache-status" not in first.headers
    assert len(house.upstreams.calls) == 1
    assert house.metrics.registry.get_sample_value("promptedge_negative_hits_total") == 1


async def test_for_some_seconds(house: Indoors) -> None:
    await ask(house)
    house.clock.now += TTL_S
    house.upstreams.refusals.clear()
    assert (await ask(house)).status == 200


@pytest.mark.parametrize("status", [400, 404, 413, 422])
def test_what_follows_from_the_request_is_lasting(status: int) -> None:
    assert lasting(fault(status))


@pytest.mark.parametrize("status", [401, 403, 405, 408, 409, 415, 425, 429])
def test_what_another_moment_or_key_may_change_is_not(status: int) -> None:
    assert not lasting(fault(status))


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("billing_hard_limit_reached", "Billing hard limit has been reached"),
        ("invalid_request_error", "Your credit balance is too low to access the API."),
        ("unsupported_value", "Your organization must be verified to stream this model."),
        ("model_not_found", "The model is currently loading"),
        ("invalid_api_key", "Wrong key"),
        ("long", "x" * 5000),
    ],
)
def test_nor_what_is_said_of_something_else(code: str, message: str) -> None:
    assert not lasting(fault(code=code, message=message))


def test_nor_what_the_node_says_itself() -> None:
    assert not lasting(ClientError("no such thing"))


async def test_never_another_tenants(house: Indoors) -> None:
    await ask(house)
    house.upstreams.refusals.clear()
    assert (await ask(house, key="key-b")).status == 200
    assert (await ask(house)).status == 400


async def test_another_form_and_another_prompt_are_asked(house: Indoors) -> None:
    await ask(house)
    house.upstreams.refusals.clear()
    assert (await ask(house, chat("x", stream=True))).status == 200
    assert (await ask(house, "y")).status == 200


WRONG = chat("x", stream_options={"include_usage": True})


@pytest.mark.parametrize("wrong", [WRONG, chat("x", user=7), chat("x", seed=None)])
async def test_nor_one_that_was_put_right_where_no_key_shows_it(tmp_path: Path, wrong: Any) -> None:
    cache = CacheSettings(mode="exact", negative_ttl_s=TTL_S, ignored_parameters=("user",))
    async with indoors(tmp_path, cache) as house:
        house.upstreams.refusals["one"] = fault(message="That parameter is not allowed.")
        assert (await house.ask(wrong)).status == 400
        house.upstreams.refusals.clear()
        assert (await house.ask("x")).status == 200


@pytest.mark.parametrize("wish", ["no-cache", "no-store", "max-age=3", "min-fresh=7"])
async def test_a_request_may_want_to_hear_it_anew(house: Indoors, wish: str) -> None:
    await ask(house)
    house.clock.now += 4
    await ask(house, cache_control=wish)
    assert len(house.upstreams.calls) == 2


@pytest.mark.parametrize("fields", [{"cache_control": "no-store"}, {"prompt_cache": "off"}])
async def test_a_request_may_not_want_it_kept(house: Indoors, fields: dict[str, str]) -> None:
    await ask(house, **fields)
    house.upstreams.refusals.clear()
    assert (await ask(house)).status == 200


async def test_what_memory_has_no_part_in_is_not_kept(house: Indoors) -> None:
    await ask(house, "Give me a random number between 1 and 6.")
    house.upstreams.refusals.clear()
    assert (await ask(house, "Give me a random number between 1 and 6.")).status == 200


async def test_any_purge_ends_it(house: Indoors) -> None:
    await ask(house)
    await house.purge(Purge(scope=Scope("tenant:b")))
    house.upstreams.refusals.clear()
    assert (await ask(house)).status == 200


async def test_an_answer_that_is_there_is_served_all_the_same(house: Indoors) -> None:
    house.upstreams.refusals.clear()
    await ask(house)
    house.upstreams.refusals["one"] = fault()
    assert (await ask(house, cache_control="no-cache")).status == 400
    assert (await ask(house)).cache["hit"] is True


async def test_not_while_another_upstream_might_have_taken_it(tmp_path: Path) -> None:
    async with indoors(tmp_path, upstreams=["one", "two"]) as house:
        house.upstreams.refusals = {"one": down(), "two": fault()}
        assert (await house.ask("x")).status == 400
        house.upstreams.refusals.clear()
        assert (await house.ask("x")).status == 200
        house.pool.drain("one", Drain(house.clock.wall()))
        house.upstreams.refusals["two"] = fault()
        assert (await house.ask("y")).status == 400
        house.pool.resume("one")
        house.upstreams.refusals.clear()
        assert (await house.ask("y")).status == 200


async def test_off_is_off(tmp_path: Path) -> None:
    async with indoors(tmp_path, CacheSettings(mode="exact", negative_ttl_s=0)) as house:
        house.upstreams.refusals["one"] = fault()
        await house.ask("x")
        await house.ask("x")
        assert len(house.upstreams.calls) == 2


async def test_through_a_real_upstream(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    async def too_long(exchange: Exchange) -> Any:
        error = {"message": "Too long", "code": "context_length_exceeded", "param": "messages"}
        return await exchange.json({"error": error}, 400)

    upstream.script = too_long
    async with running_node(tmp_path, upstream.base_url) as node, doors(node) as every:
        for door in every:
            refused = await send(door, "x")
            assert refused.status == 400
            assert json.loads(refused.body)["error"]["code"] == "context_length_exceeded"
        assert len(upstream.calls) == 1


def test_few_are_kept() -> None:
    negative = Negative("edge", TTL_S, lambda: 0)
    for number in range(KEPT_MAX + 100):
        negative.keep(query(number), fault(), NOW, 0)
    assert len(negative) == KEPT_MAX
    assert negative.find(query(0), NOW) is None
    assert negative.find(query(KEPT_MAX), NOW) is not None


def test_what_was_asked_before_a_purge_is_not_kept_after_it() -> None:
    negative = Negative("edge", TTL_S, lambda: 1)
    negative.keep(query(1), fault(), NOW, 0)
    assert negative.find(query(1), NOW) is None


def query(number: int) -> Query:
    call = Call(Prompt("chat.completions", "m", b"{}"), False, False, None)
    allowed = Allowed(Mode.EXACT, lookup=True, store=True)
    key, head = CacheKey(number.to_bytes(32)), Head("POST", "/", "", "", {})
    route = Route(1, Mode.EXACT)
    return Query(head, b"", OpenAiChat(), call, Scope("s"), key, allowed, route, 1, ())
