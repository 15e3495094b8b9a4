"""From a miss to an answer that is kept: what is stored, for how long, and from whom it came."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from edge.errors import ClientError, UpstreamError
from edge.policy import CacheSettings, RouteSettings
from edge.request import EventStream
from edge.routing.breaker import FAILURES_TO_OPEN, OPEN_S_FIRST, REST_S_FIRST
from edge.routing.settings import UpstreamSettings
from index.entry import Purge, Scope
from tests.fakes.doors import JSON, SHORT, CutError, chat, request_body
from tests.fakes.indoors import Exchange, Indoors, Script, answer, down, indoors
from tests.fakes.upstream import chunk, chunks, completion, sse

DAY = 86_400


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[Indoors]:
    async with indoors(tmp_path) as one:
        yield one


# Freshness


async def test_an_answer_is_fresh_for_its_time_and_not_a_second_longer(house: Indoors) -> None:
    await house.ask("x")
    for age in (0, DAY - 1):
        house.clock.now += age - (house.clock.now - 1_800_000_000)
        hit = await house.ask("x")
        assert (hit.cache["hit"], hit.cache["ttl"]) == (True, DAY - age)
        assert hit.headers["age"] == str(age)
    house.clock.now += 1
    late = await house.ask("x")
    assert (late.cache["fwd"], late.text) == ("miss", "answer 2 to: x")
    assert (await house.ask("x")).headers["age"] == "0"


async def test_ttl_by_route(tmp_path: Path) -> None:
    routes = (RouteSettings("quick*", ttl_s=5), RouteSettings("never", mode="off"))
    async with indoors(tmp_path, CacheSettings(mode="exact", ttl_s=100), routes=routes) as house:
        for model, ttl in (("quick-1", 5), ("other", 100)):
            await house.ask(chat("x", model=model))
            assert (await house.ask(chat("x", model=model))).cache["ttl"] == ttl
        for _ in range(2):
            never = await house.ask(chat("x", model="never"))
            assert never.headers["cache-status"] == "edge; fwd=bypass; detail=off"
        assert len(house.upstreams.calls) == 4


TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}


@pytest.mark.parametrize(
    "prompt",
    [
        chat("What is the weather in Paris today?"),
        chat("What is the weather in Paris today?", tools=[TOOL]),
        chat("Who is the best painter of them all, please?", web_search_options={}),
    ],
    ids=["words", "with tools", "web search"],
)
async def test_what_is_about_now_is_kept_shortly(tmp_path: Path, prompt: Any) -> None:
    settings = CacheSettings(mode="exact", ttl_s=1000, time_bound_ttl_s=30)
    async with indoors(tmp_path, settings) as house:
        await house.ask(prompt)
        assert (await house.ask(prompt)).cache["ttl"] == 30
        house.clock.now += 30
        assert (await house.ask(prompt)).cache["fwd"] == "miss"


async def test_a_short_ttl_is_not_made_longer_by_time_bound_words(tmp_path: Path) -> None:
    settings = CacheSettings(mode="exact", ttl_s=5, time_bound_ttl_s=30)
    async with indoors(tmp_path, settings) as house:
        await house.ask("What is the weather in Paris today?")
        assert (await house.ask("What is the weather in Paris today?")).cache["ttl"] == 5


# The request's own wishes (row 26)


async def test_max_age_takes_what_is_young_enough(house: Indoors) -> None:
    await house.ask("x")
    house.clock.now += 60
    assert (await house.ask("x", cache_control="max-age=60")).cache["hit"] is True
    older = await house.ask("x", cache_control="max-age=59")
    assert (older.cache["fwd"], older.cache["stored"]) == ("miss", True)
    young = await house.ask("x", cache_control="max-age=0, only-if-cached")
    assert (young.status, young.error["code"]) == (504, "not_cached")
    assert (await house.ask("x", cache_control="max-age=1")).text == "answer 2 to: x"


@pytest.mark.parametrize(
    "fields",
    [
        {"cache_control": "only-if-cached"},
        {"cache_control": "only-if-cached, no-cache"},
        {"cache_control": "only-if-cached, no-store"},
        {"cache_control": "only-if-cached, max-age=5"},
        {"cache_control": "only-if-cached", "prompt_cache": "off"},
        {"cache_control": "only-if-cached", "prompt_cache": "exact"},
    ],
    ids=str,
)
@pytest.mark.parametrize("stream", [False, True])
async def test_only_if_cached_never_reaches_an_upstream(
    tmp_path: Path, fields: dict[str, str], stream: bool
) -> None:
    async with indoors(tmp_path, CacheSettings(mode="exact", temperature_max=1)) as house:
        for temperature in (0.5, 1.5):
            refused = await house.ask(chat("x", stream=stream, temperature=temperature), **fields)
            assert refused.status == 504
            assert refused.error["code"] == "not_cached"
        assert not house.upstreams.calls


async def test_no_store_leaves_what_is_stored_alone(house: Indoors) -> None:
    await house.ask("x")
    unstored = await house.ask("x", cache_control="no-store")
    assert unstored.headers["cache-status"] == "edge; fwd=request"
    assert (await house.ask("x")).text == "answer 1 to: x"
    assert (await house.ask("x", prompt_cache="off")).text == "answer 3 to: x"
    assert (await house.ask("x")).text == "answer 1 to: x"


async def test_no_cache_replaces_what_is_stored(house: Indoors) -> None:
    await house.ask("x")
    renewed = await house.ask("x", cache_control="no-cache")
    assert renewed.headers["cache-status"] == f"edge; fwd=request; stored; {SHORT}"
    assert (await house.ask("x")).text == "answer 2 to: x"


@pytest.mark.parametrize("wish", ["no-cache", "no-store", "max-age=0", "max-age=60"])
async def test_a_wish_of_its_own_joins_nobody(house: Indoors, wish: str) -> None:
    gate = asyncio.Event()

    async def wait(exchange: Exchange) -> AsyncIterator[bytes]:
        await gate.wait()
        async for piece in answer(exchange):
            yield piece

    house.upstreams.script = wait
    async with asyncio.TaskGroup() as group:
        plain = group.create_task(house.ask("x"))
        await house.upstreams.called(1)
        other = group.create_task(house.ask("x", cache_control=wish))
        await house.upstreams.called(2)
        gate.set()
    assert {plain.result().text, other.result().text} == {"answer 1 to: x", "answer 2 to: x"}


# The operator's settings


async def test_above_the_temperature_the_operator_set_nothing_is_cached(tmp_path: Path) -> None:
    async with indoors(tmp_path, CacheSettings(mode="exact", temperature_max=0.5)) as house:
        for _ in range(2):
            hot = await house.ask(chat("x", temperature=0.6))
            assert hot.headers["cache-status"] == "edge; fwd=bypass; detail=temperature"
        await house.ask(chat("x", temperature=0.5))
        assert (await house.ask(chat("x", temperature=0.5))).cache["hit"] is True


async def test_temperature_alone_never_forbids_caching_by_default(house: Indoors) -> None:
    await house.ask(chat("x", temperature=2))
    assert (await house.ask(chat("x", temperature=2))).cache["hit"] is True
    assert (await house.ask("x")).cache["fwd"] == "miss"


async def test_ignored_parameters_share_an_answer_and_reach_the_upstream(tmp_path: Path) -> None:
    settings = CacheSettings(mode="exact", ignored_parameters=("user",))
    async with indoors(tmp_path, settings) as house:
        await house.ask(chat("x", user="alice"))
        assert (await house.ask(chat("x", user="bob"))).cache["hit"] is True
        assert (await house.ask(chat("x", metadata={}))).cache["fwd"] == "miss"
        assert house.upstreams.calls[0].body["user"] == "alice"


async def test_answers_larger_than_the_operator_allows_pass_and_are_not_kept(
    tmp_path: Path,
) -> None:
    async with indoors(tmp_path, CacheSettings(mode="exact", answer_bytes_max=2000)) as house:
        for stream in (False, True):
            text = "x" * 3000
            large = await house.ask(chat(text, stream=stream))
            assert large.status == 200
            assert text.encode() in large.body.replace(b"\\n", b"")
            assert (await house.ask(chat(text), cache_control="only-if-cached")).status == 504


async def test_mode_off_by_configuration(tmp_path: Path) -> None:
    async with indoors(tmp_path, CacheSettings(mode="off")) as house:
        for wish in ({}, {"prompt_cache": "semantic"}):
            off = await house.ask("x", **wish)
            assert off.headers["cache-status"] == "edge; fwd=bypass; detail=off"
        assert len(house.upstreams.calls) == 2


# What is kept


def raw(*pieces: bytes) -> Script:
    async def script(_exchange: Exchange) -> AsyncIterator[bytes]:
        for piece in pieces:
            await asyncio.sleep(0)
            yield piece

    return script


def stream_of(*events: str) -> bytes:
    return b"".join(map(sse, events))


async def stored(house: Indoors, text: str = "x") -> bool:
    return (await house.ask(text, cache_control="only-if-cached")).status == 200


WHOLE = stream_of(*chunks("one two three", usage=False))


async def test_a7_a_stream_cut_at_any_byte_is_never_stored(house: Indoors) -> None:
    """Unless what was cut off is the end of the very last line."""
    for cut in range(len(WHOLE) - 2):
        house.upstreams.script = raw(WHOLE[:cut])
        with suppress(CutError):
            await house.ask(chat("x", stream=True))
        assert not await stored(house), WHOLE[:cut]
    house.upstreams.script = raw(WHOLE)
    await house.ask(chat("x", stream=True))
    assert await stored(house)


async def test_a_stream_that_ended_without_done_is_read_and_not_kept(house: Indoors) -> None:
    house.upstreams.script = raw(stream_of(*chunks("one two", usage=False)[:-1]))
    got = await house.ask(chat("x", stream=True))
    assert got.status == 200
    assert not await stored(house)


async def test_done_before_the_answer_has_ended_is_a_failure(house: Indoors) -> None:
    house.upstreams.script = raw(stream_of(chunk({"content": "one"}), "[DONE]"))
    with pytest.raises(CutError):
        await house.ask(chat("x", stream=True))
    assert not await stored(house)
    house.upstreams.script = raw(stream_of("[DONE]"))
    assert (await house.ask(chat("x", stream=True))).status == 502


async def test_what_follows_done_is_not_read(house: Indoors) -> None:
    house.upstreams.script = raw(WHOLE + stream_of(chunk({"content": "more"})))
    got = await house.ask(chat("x", stream=True))
    assert b"more" not in got.body
    assert got.events[-1] == "[DONE]"


@pytest.mark.parametrize("finish", ["length", "content_filter", "error", "unheard-of"])
async def test_row_31_streams_that_did_not_end_by_themselves(house: Indoors, finish: str) -> None:
    events = [chunk({"content": "one"}), chunk({}, finish=finish), "[DONE]"]
    house.upstreams.script = raw(stream_of(*events))
    got = await house.ask(chat("x", stream=True))
    assert got.events[-1] == "[DONE]"
    assert not await stored(house)


async def test_one_unfit_choice_of_several_is_enough(house: Indoors) -> None:
    document = completion("x")
    bad = {**document["choices"][0], "index": 1, "finish_reason": "length"}
    document["choices"].append(bad)
    house.upstreams.script = raw(json.dumps(document).encode())
    assert (await house.ask("x")).status == 200
    assert not await stored(house)


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"[]", b"7", b"<html>", b'{"choices":1}', b'{"choices":[1]}', b"\xff", b"{}"),
        *(b'{"choices":[{"message":1}]}', b'{"choices":[{"message":{"tool_calls":[1]}}]}'),
        b"[" * 9999,
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_json_that_is_no_answer_is_the_upstreams_fault(
    house: Indoors, body: bytes, stream: bool
) -> None:
    house.upstreams.script = raw(body)
    house.upstreams.form = "json"
    got = await house.ask(chat("x", stream=stream))
    assert (got.status, got.error["type"]) == (502, "upstream_error")
    assert not await stored(house)
    assert house.pool.upstreams[0].breaker.failures == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_an_error_in_a_json_answer_of_status_200(house: Indoors, stream: bool) -> None:
    house.upstreams.form = "json"
    house.upstreams.script = raw(b'{"error":{"message":"slow down","code":429}}')
    got = await house.ask(chat("x", stream=stream))
    assert (got.status, "slow down" in got.error["message"]) == (429, True)
    house.upstreams.script = raw(b'{"error":{"message":"too long","code":400}}')
    got = await house.ask(chat("x", stream=stream))
    assert (got.status, got.error["type"]) == (400, "invalid_request_error")
    assert house.pool.upstreams[0].breaker.failures == 0


async def test_json_although_a_stream_was_asked_for(house: Indoors) -> None:
    house.upstreams.form = "json"
    house.upstreams.script = raw(json.dumps(completion("some words")).encode())
    got = await house.ask(chat("x", stream=True))
    assert got.headers["content-type"].startswith("text/event-stream")
    assert got.events[-1] == "[DONE]"
    assert b'"some words"' in got.body
    assert (await house.ask("x")).text == "some words"


async def test_a_stream_although_json_was_asked_for(house: Indoors) -> None:
    house.upstreams.form = "stream"
    house.upstreams.script = raw(WHOLE)
    got = await house.ask("x")
    assert (got.headers["content-type"], got.text) == ("application/json", "one two three")
    assert await stored(house)


# Purge


@pytest.mark.parametrize("stream", [False, True])
async def test_row_40_a_purge_during_a_fill_is_not_undone_by_it(
    house: Indoors, stream: bool
) -> None:
    gate = asyncio.Event()

    async def wait(exchange: Exchange) -> AsyncIterator[bytes]:
        await gate.wait()
        async for piece in answer(exchange):
            yield piece

    house.upstreams.script = wait
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(house.ask(chat("x", stream=stream)))
        await house.upstreams.called(1)
        await house.purge(Purge(label="model:test-model"))
        gate.set()
    assert asking.result().status == 200
    assert "stored" not in asking.result().headers["cache-status"]
    assert not await stored(house)


async def test_row_40_whoever_asks_after_a_purge_is_not_handed_what_began_before_it(
    house: Indoors,
) -> None:
    gate = asyncio.Event()

    async def wait(exchange: Exchange) -> AsyncIterator[bytes]:
        await gate.wait()
        async for piece in answer(exchange):
            yield piece

    house.upstreams.script = wait
    async with asyncio.TaskGroup() as group:
        before = group.create_task(house.ask("x"))
        await house.upstreams.called(1)
        house.collapse.renew()
        after = group.create_task(house.ask("x"))
        await house.upstreams.called(2)
        gate.set()
    assert [before.result().text, after.result().text] == ["answer 1 to: x", "answer 2 to: x"]


async def test_a_purge_of_others_does_not_touch_a_fill(house: Indoors) -> None:
    gate = asyncio.Event()

    async def wait(exchange: Exchange) -> AsyncIterator[bytes]:
        await gate.wait()
        async for piece in answer(exchange):
            yield piece

    house.upstreams.script = wait
    async with asyncio.TaskGroup() as group:
        group.create_task(house.ask("x"))
        await house.upstreams.called(1)
        await house.purge(Purge(scope=Scope("tenant:other")))
        gate.set()
    assert await stored(house)


# Several upstreams


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[Indoors]:
    async with indoors(tmp_path, upstreams=("first", "second")) as one:
        yield one


def asked(house: Indoors) -> list[str]:
    return [call.upstream for call in house.upstreams.calls]


@pytest.mark.parametrize("status", [429, 502, 503, 504])
@pytest.mark.parametrize("stream", [False, True])
async def test_row_55_before_the_first_token_the_next_upstream_is_tried(
    two: Indoors, status: int, stream: bool
) -> None:
    two.upstreams.refusals["first"] = down(status=status)
    got = await two.ask(chat("x", stream=stream))
    assert got.status == 200
    assert asked(two) == ["first", "second"]


async def test_row_56_an_error_as_the_first_event_is_before_the_first_token(two: Indoors) -> None:
    async def script(exchange: Exchange) -> AsyncIterator[bytes]:
        if exchange.upstream == "first":
            yield sse('{"error":{"message":"no","code":503}}')
            return
        async for piece in answer(exchange):
            yield piece

    two.upstreams.script = script
    assert (await two.ask(chat("x", stream=True))).events[-1] == "[DONE]"
    assert asked(two) == ["first", "second"]


async def test_row_54_after_the_first_token_never(two: Indoors) -> None:
    async def script(exchange: Exchange) -> AsyncIterator[bytes]:
        yield sse(chunk({"content": "one"}))
        raise down()

    two.upstreams.script = script
    with pytest.raises(CutError, match=r"(?s)one.*error"):
        await two.ask(chat("x", stream=True))
    assert asked(two) == ["first"]


async def test_the_clients_fault_is_not_tried_elsewhere(two: Indoors) -> None:
    two.upstreams.refusals["first"] = ClientError("too long", code="context_length_exceeded")
    got = await two.ask("x")
    assert (got.status, got.error["code"]) == (400, "context_length_exceeded")
    assert asked(two) == ["first"]
    assert two.pool.upstreams[0].breaker.failures == 0


async def test_when_all_fail_the_last_failure_is_told(two: Indoors) -> None:
    two.upstreams.refusals["first"] = down(status=504)
    two.upstreams.refusals["second"] = UpstreamError("busy", status=503, retry_after_s=9)
    got = await two.ask("x")
    assert (got.status, got.headers["retry-after"]) == (503, "9")


async def test_the_breaker_passes_by_the_first_and_asks_it_again(tmp_path: Path) -> None:
    preferred = UpstreamSettings("http://first/v1", name="first", weight=1000)
    async with indoors(tmp_path, upstreams=(preferred, "second")) as two:
        await _open_and_close(two)


async def _open_and_close(two: Indoors) -> None:
    two.upstreams.refusals["first"] = down()
    for number in range(FAILURES_TO_OPEN + 2):
        await two.ask(f"x{number}")
    assert asked(two).count("first") == FAILURES_TO_OPEN
    two.clock.now += OPEN_S_FIRST
    del two.upstreams.refusals["first"]
    two.upstreams.calls.clear()
    for number in range(3):
        await two.ask(f"y{number}")
    assert asked(two) == ["first"] * 3


async def test_a_quota_is_not_an_illness_and_is_given_a_rest(two: Indoors) -> None:
    two.upstreams.refusals["first"] = down(status=429)
    for number in range(3):
        await two.ask(f"x{number}")
    assert asked(two) == ["first", "second", "second", "second"]
    assert two.pool.upstreams[0].breaker.failures == 0
    two.clock.now += REST_S_FIRST
    del two.upstreams.refusals["first"]
    assert (await two.ask("y")).status == 200
    assert asked(two)[-1] == "first"


async def test_a_probe_that_ends_in_a_mistake_of_ours_does_not_shut_the_upstream_out(
    house: Indoors, caplog: pytest.LogCaptureFixture
) -> None:
    breaker = house.pool.upstreams[0].breaker
    for _ in range(FAILURES_TO_OPEN):
        breaker.failed(house.clock.monotonic(), house.clock.monotonic())
    house.clock.now += OPEN_S_FIRST
    house.upstreams.refusals["one"] = RuntimeError("a bug")
    got = await house.ask("x")
    assert (got.status, got.error["code"]) == (500, None)
    assert "a bug" in caplog.text
    house.upstreams.refusals.clear()
    assert (await house.ask("y")).status == 200
    assert breaker.closed


async def test_no_upstream_at_all(tmp_path: Path) -> None:
    async with indoors(tmp_path, upstreams=()) as house:
        got = await house.ask("x")
        assert (got.status, got.error["code"]) == (503, "no_upstream")
        assert int(got.headers["retry-after"]) > 0


# Bodies beside the loop


async def test_a_large_body_is_the_same_request(house: Indoors) -> None:
    text = "x" * 100_000
    await house.ask(text)
    assert (await house.ask(text)).cache["hit"] is True
    broken = request_body(chat(text))[:-1]
    got = await house.request(JSON, broken)
    assert (got.status, got.error["code"]) == (400, "invalid_json")


async def test_a_stream_is_private_and_names_itself(house: Indoors) -> None:
    stream = await house.stream("x")
    assert isinstance(stream, EventStream)
    fields = dict(stream.fields)
    assert fields["cache-status"] == f"edge; fwd=miss; {SHORT}"
    assert fields["x-request-id"].startswith("test-")
    assert "etag" not in fields
    await stream.chunks.aclose()
