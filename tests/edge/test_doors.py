"""Both doors, one table: what holds over HTTP/1.1 holds over HTTP/3, byte for byte.

Row numbers are those of the behaviours in docs/conformance.md.
"""

import asyncio
import json
from typing import Any

import pytest

from edge.node import Node
from tests.fakes.doors import CHAT, JSON, SHORT, Door, ask, chat, read_all, read_torn, read_until
from tests.fakes.upstream import Exchange, ScriptedUpstream, chunk, chunks, completion

Rows = pytest.mark.parametrize


# Methods, bodies, CORS


@Rows("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "TRACE"])
async def test_row_1_other_methods_are_told_what_is_allowed(door: Door, method: str) -> None:
    answer = await door.request(method, CHAT)
    assert answer.status == 405
    assert answer.headers["allow"] == "POST, OPTIONS"
    if method != "HEAD":
        assert answer.error["code"] == "method_not_allowed"


async def test_row_2_head_of_models_is_get_without_its_body(door: Door) -> None:
    got = await door.request("GET", "/v1/models")
    head = await door.request("HEAD", "/v1/models")
    assert got.status == head.status == 200
    assert head.body == b""
    assert int(head.headers["content-length"]) == len(got.body) > 0
    assert head.headers["etag"] == got.headers["etag"]


async def test_row_3_options_without_an_origin(door: Door) -> None:
    answer = await door.request("OPTIONS", CHAT)
    assert (answer.status, answer.headers["allow"], answer.body) == (204, "POST, OPTIONS", b"")
    assert "accept-query" not in answer.headers


async def test_row_4_preflight_of_an_allowed_origin(door: Door, upstream: ScriptedUpstream) -> None:
    preflight = {
        "origin": "https://chat.example",
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization, content-type, x-stainless-lang",
    }
    answer = await door.request("OPTIONS", CHAT, preflight)
    assert answer.status == 204
    assert answer.headers["access-control-allow-origin"] == "https://chat.example"
    assert "POST" in answer.headers["access-control-allow-methods"]
    allowed = answer.headers["access-control-allow-headers"]
    assert {"authorization", "content-type", "x-stainless-lang"} <= set(allowed.split(", "))
    assert answer.headers["vary"] == "Origin"
    assert int(answer.headers["access-control-max-age"]) > 0
    assert not upstream.calls


async def test_row_4_preflight_of_a_foreign_origin(door: Door) -> None:
    foreign = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    answer = await door.request("OPTIONS", CHAT, foreign)
    assert answer.status == 204
    assert "access-control-allow-origin" not in answer.headers


async def test_row_5_cors_fields_are_on_answers_errors_and_streams(door: Door) -> None:
    origin = "https://chat.example"
    for prompt in (chat("hello"), chat("hello", stream=True), {"model": 1}):
        answer = await ask(door, prompt, origin=origin)
        assert answer.headers["access-control-allow-origin"] == origin
        exposed = answer.headers["access-control-expose-headers"]
        assert {"cache-status", "age", "etag", "x-request-id"} <= set(exposed.split(", "))


@Rows("media_type", ["text/plain", "application/x-www-form-urlencoded", ""])
async def test_row_6_other_content_types(door: Door, media_type: str) -> None:
    answer = await door.request("POST", CHAT, {"content-type": media_type}, b"{}")
    assert (answer.status, answer.error["code"]) == (415, "unsupported_media_type")


async def test_row_6_parameters_of_the_content_type_do_not_matter(door: Door) -> None:
    fields = {"content-type": "Application/JSON; charset=utf-8"}
    body = json.dumps(chat("hello")).encode()
    assert (await door.request("POST", CHAT, fields, body)).status == 200


@Rows("path", ["/", "/v1", "/v1/chat", "/v1/%2e%2e/admin/keys", "//admin", "/metrics", "/livez"])
async def test_row_7_unknown_paths(door: Door, path: str) -> None:
    answer = await door.request("GET", path)
    assert (answer.status, answer.error["code"]) == (404, "not_found")
    assert answer.headers["content-type"] == "application/json"


MALFORMED: dict[str, bytes] = {
    "empty": b"",
    "cut": b'{"model":',
    "list": b"[]",
    "nan": b'{"model":"m","temperature":NaN}',
    "infinity": b'{"model":"m","temperature":1e999}',
    "bom": b"\xef\xbb\xbf{}",
    "utf-16": '{"model":"m"}'.encode("utf-16"),
    "not-utf-8": b'{"model":"\xff"}',
    "deep": b"[" * 100_000,
    "many": b"[" + b"[]," * 349_000 + b"[]]",
    "digits": b'{"model":"m","seed":' + b"9" * 5000 + b"}",
    "surrogate": rb'{"model":"m","messages":[{"role":"user","content":"\ud800"}]}',
}


@Rows("name", MALFORMED)
async def test_row_7_malformed_json_case_9_case_11(
    door: Door, upstream: ScriptedUpstream, name: str
) -> None:
    answer = await door.request("POST", CHAT, JSON, MALFORMED[name])
    assert (answer.status, answer.error["code"]) == (400, "invalid_json")
    assert answer.headers["x-request-id"]
    assert not upstream.calls


async def test_case_10_a_name_twice_is_refused_and_named(
    door: Door, upstream: ScriptedUpstream
) -> None:
    body = b'{"model":"a","model":"b","messages":[{"role":"user","content":"x"}]}'
    answer = await door.request("POST", CHAT, JSON, body)
    assert (answer.status, answer.error["code"]) == (400, "duplicate_key")
    assert answer.error["param"] == "model"
    assert not upstream.calls


@Rows(
    ("prompt", "param"),
    [
        ({"messages": [{"role": "user", "content": "x"}]}, "model"),
        ({"model": "test-model"}, "messages"),
        ({"model": "test-model", "messages": []}, "messages"),
        ({"model": "test-model", "messages": ["x"]}, "messages[0]"),
        (chat("x", stream="yes"), "stream"),
        (chat("x", api_base="http://evil.example"), "api_base"),
        (chat("x", base_url="http://evil.example"), "base_url"),
        (chat("x", **{"x-portkey-custom-host": "evil.example"}), "x-portkey-custom-host"),
    ],
)
async def test_case_23_wrong_parameters_are_named(
    door: Door, upstream: ScriptedUpstream, prompt: Any, param: str
) -> None:
    answer = await ask(door, prompt)
    assert answer.status == 400
    assert answer.error["param"] == param
    assert answer.error["type"] == "invalid_request_error"
    assert not upstream.calls


async def test_row_8_compressed_bodies_are_not_inflated(door: Door) -> None:
    answer = await ask(door, "hello", content_encoding="gzip")
    assert (answer.status, answer.error["code"]) == (415, "unsupported_content_encoding")
    assert answer.headers["accept-encoding"] == "identity"


async def test_row_9_case_8_a_body_over_the_limit(door: Door) -> None:
    answer = await door.request("POST", CHAT, JSON, b"x" * (8 * 1024 * 1024 + 1))
    assert (answer.status, answer.error["code"]) == (413, "body_too_large")
    assert (await ask(door, "still here")).status == 200


async def test_a_body_of_just_under_the_limit_arrives_whole(
    door: Door, upstream: ScriptedUpstream
) -> None:
    text = "x" * (8 * 1024 * 1024 - 200)
    answer = await ask(door, text)
    assert answer.status == 200
    assert upstream.calls[0].text == text


async def test_row_12_an_unknown_expectation(door: Door) -> None:
    answer = await ask(door, "hello", expect="a miracle")
    assert answer.status == 417


# Cache semantics


async def test_rows_20_and_21_a_miss_is_stored_and_then_hit(
    door: Door, upstream: ScriptedUpstream
) -> None:
    first = await ask(door, "What is HTTP?")
    assert first.status == 200
    assert first.headers["cache-status"] == "edge; fwd=miss; stored"
    assert "age" not in first.headers
    assert first.headers["cache-control"] == "private, no-store"

    second = await ask(door, "What is HTTP?")
    assert second.cache["hit"] is True
    assert 86_000 < second.cache["ttl"] <= 86_400
    assert int(second.headers["age"]) <= 1
    assert second.body == first.body
    assert second.headers["etag"] == first.headers["etag"]
    assert not second.headers["etag"].startswith("W/")
    assert second.headers["server-timing"].startswith('cache;desc="exact"')
    assert len(upstream.calls) == 1


async def test_row_22_spelling_of_the_json_does_not_matter(
    door: Door, upstream: ScriptedUpstream
) -> None:
    plain = b'{"model":"test-model","messages":[{"role":"user","content":"hi"}],"top_p":1}'
    other = b"""{ "top_p" : 1.0e0, "n": 1, "seed": null, "stream": false,
      "messages" : [ { "content" : "h\\u0069" , "role" : "user" } ] , "model" : "test-model" }"""
    assert (await door.request("POST", CHAT, JSON, plain)).cache["fwd"] == "miss"
    assert (await door.request("POST", "/chat/completions", JSON, other)).cache["hit"] is True
    assert len(upstream.calls) == 1


async def test_row_24_equal_misses_make_one_call(door: Door, upstream: ScriptedUpstream) -> None:
    gate = asyncio.Event()

    async def wait(exchange: Exchange) -> Any:
        await gate.wait()
        return await upstream.answer(exchange)

    upstream.script = wait
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(ask(door, "the same")) for _ in range(50)]
        await upstream.called(1)
        gate.set()
    answers = [task.result() for task in asked]
    assert len(upstream.calls) == 1
    assert len({answer.body for answer in answers}) == 1
    assert {answer.status for answer in answers} == {200}
    led = [answer for answer in answers if answer.cache.get("stored")]
    assert len(led) == 1
    assert all(a.cache.get("collapsed") or a.cache.get("hit") for a in answers if a is not led[0])


async def test_row_26_the_requests_own_cache_control(
    door: Door, upstream: ScriptedUpstream
) -> None:
    assert (await ask(door, "x", cache_control="only-if-cached")).status == 504
    await ask(door, "x")
    again = await ask(door, "x", cache_control="no-cache")
    assert again.headers["cache-status"] == f"edge; fwd=request; stored; {SHORT}"
    unstored = await ask(door, "x", cache_control="no-store")
    assert unstored.headers["cache-status"] == "edge; fwd=request"
    assert [unstored.text, again.text] == ["answer 3 to: x", "answer 2 to: x"]
    kept = await ask(door, "x", cache_control="only-if-cached, max-age=60")
    assert (kept.status, kept.text, kept.cache["hit"]) == (200, "answer 2 to: x", True)
    assert (await ask(door, "x", cache_control="max-age=0")).cache["fwd"] == "request"
    await ask(door, "never", cache_control="no-store")
    assert (await ask(door, "never")).cache["fwd"] == "miss"


async def test_a_caller_may_tighten_what_memory_does(door: Door) -> None:
    await ask(door, "x")
    off = await ask(door, "x", prompt_cache="off")
    assert off.headers["cache-status"] == "edge; fwd=bypass; detail=off"
    assert (await ask(door, "x", prompt_cache="exact")).cache["hit"] is True
    wrong = await ask(door, "x", prompt_cache="sometimes")
    assert (wrong.status, wrong.error["param"]) == (400, "Prompt-Cache")


UNFIT: dict[str, dict[str, Any]] = {
    "length": {"finish_reason": "length"},
    "content_filter": {"finish_reason": "content_filter"},
    "no finish reason": {"finish_reason": None},
    "refusal": {"message": {"role": "assistant", "content": None, "refusal": "I can't."}},
    "empty": {"message": {"role": "assistant", "content": ""}},
}


@Rows("name", UNFIT)
async def test_row_31_what_is_not_whole_is_passed_on_and_not_stored(
    door: Door, upstream: ScriptedUpstream, name: str
) -> None:
    async def script(exchange: Exchange) -> Any:
        document = completion("some words", exchange.number)
        document["choices"][0] |= UNFIT[name]
        return await exchange.json(document)

    upstream.script = script
    first = await ask(door, "x")
    assert first.status == 200
    assert first.headers["cache-status"] == f"edge; fwd=miss; {SHORT}"
    await ask(door, "x")
    assert len(upstream.calls) == 2


@Rows("status", [429, 500, 502, 503, 529])
async def test_row_30_an_upstreams_failure_is_passed_and_not_stored(
    door: Door, upstream: ScriptedUpstream, status: int
) -> None:
    async def fail(exchange: Exchange) -> Any:
        error = {"error": {"message": "too busy", "type": "x", "code": "y", "param": None}}
        return await exchange.json(error, status, retry_after="7")

    upstream.script = fail
    answer = await ask(door, "x")
    assert answer.status == {429: 429, 500: 502, 502: 502, 503: 503, 529: 503}[status]
    assert answer.headers["retry-after"] == "7"
    assert answer.error["message"] == "too busy"
    upstream.script = upstream.answer
    assert (await ask(door, "x", cache_control="only-if-cached")).status == 504


async def test_a_request_the_upstream_finds_wrong_is_the_clients_fault(
    door: Door, upstream: ScriptedUpstream
) -> None:
    async def refuse(exchange: Exchange) -> Any:
        error = {"message": "seed must be an integer", "code": "invalid_type", "param": "seed"}
        return await exchange.json({"error": error}, 400)

    upstream.script = refuse
    answer = await ask(door, chat("x", seed="one"))
    assert (answer.status, answer.error["param"]) == (400, "seed")
    assert answer.error["message"] == "seed must be an integer"


async def test_finding_9_a_redirect_is_not_followed(door: Door, upstream: ScriptedUpstream) -> None:
    async def redirect(exchange: Exchange) -> Any:
        return await exchange.json({}, 307, location=upstream.base_url + "/elsewhere")

    upstream.script = redirect
    assert (await ask(door, "x")).status == 502
    assert len(upstream.calls) == 1


async def test_row_35_forms_have_strong_etags_of_their_own(door: Door) -> None:
    await ask(door, "x")
    as_json = await ask(door, "x")
    as_stream = await ask(door, chat("x", stream=True))
    assert as_json.headers["etag"] != as_stream.headers["etag"]


async def test_rows_38_39_37_vary_range_and_conditions(door: Door) -> None:
    first = await ask(door, "x")
    answer = await ask(door, "x", range="bytes=0-3", if_none_match=first.headers["etag"])
    assert (answer.status, answer.body) == (200, first.body)
    assert "accept-ranges" not in answer.headers
    assert answer.headers["vary"] == "Origin"


# Streaming

LIVE = (
    ("content-type", "text/event-stream; charset=utf-8"),
    ("cache-control", "no-cache, no-store, no-transform"),
    ("x-accel-buffering", "no"),
    ("incremental", "?1"),
)


async def test_row_50_tokens_leave_as_they_are_made(door: Door, upstream: ScriptedUpstream) -> None:
    step = asyncio.Semaphore(0)

    async def one_by_one(exchange: Exchange) -> Any:
        response = await exchange.open_stream()
        for event in chunks("one two three"):
            await step.acquire()
            await response.write(f"data: {event}\n\n".encode())
        return response

    upstream.script = one_by_one
    for _ in range(2):  # who speaks is no word yet
        step.release()
    async with door.live(json.dumps(chat("count", stream=True)).encode()) as live:
        assert live.status == 200
        assert "content-length" not in live.headers
        assert dict(LIVE).items() <= live.headers.items()
        assert live.headers["cache-status"] == f"edge; fwd=miss; {SHORT}"
        for word in (b'"one ', b'"two ', b'"three"'):
            got = await read_until(live, word)
            assert b"DONE" not in got
            step.release()
        for _ in range(2):
            step.release()
        assert (await read_all(live)).endswith(b"data: [DONE]\n\n")


@Rows("wants_usage", [True, False])
async def test_row_51_a_replayed_stream_is_framed_as_the_live_one(
    door: Door, upstream: ScriptedUpstream, wants_usage: bool
) -> None:
    options = {"stream_options": {"include_usage": True}} if wants_usage else {}
    prompt = chat("x", stream=True, **options)
    live, replayed = await ask(door, prompt), await ask(door, prompt)
    assert replayed.cache["hit"] is True
    assert dict(LIVE).items() <= dict(replayed.headers).items()
    for answer in (live, replayed):
        *documents, done = answer.events
        parsed = [json.loads(document) for document in documents]
        assert done == "[DONE]"
        assert parsed[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
        text = "".join(p["choices"][0]["delta"].get("content", "") for p in parsed if p["choices"])
        assert text == "answer 1 to: x"
        assert {(p["id"], p["created"], p["object"]) for p in parsed} == {
            ("chatcmpl-1", 1_700_000_001, "chat.completion.chunk")
        }
        assert [p["choices"][0]["finish_reason"] for p in parsed if p["choices"]][-1] == "stop"
        usage = [p for p in parsed if not p["choices"]]
        assert len(usage) == (1 if wants_usage else 0)
        assert all(("usage" in p) <= wants_usage for p in parsed)
    assert len(upstream.calls) == 1
    assert upstream.calls[0].body["stream_options"] == {"include_usage": True}


@Rows("first", [True, False])
async def test_rows_52_41_one_entry_serves_both_forms(
    door: Door, upstream: ScriptedUpstream, first: bool
) -> None:
    """The same id, created and usage, whichever form was asked for first."""
    await ask(door, chat("x", stream=first))
    second = await ask(door, chat("x", stream=not first))
    again = await ask(door, chat("x", stream=False))
    assert second.cache["hit"] is again.cache["hit"] is True
    document = again.json
    assert (document["id"], document["created"]) == ("chatcmpl-1", 1_700_000_001)
    assert document["usage"]["total_tokens"] == 12
    assert document["object"] == "chat.completion"
    assert document["system_fingerprint"] == "fp_test"
    assert again.text == "answer 1 to: x"
    assert len(upstream.calls) == 1


async def test_row_54_an_upstream_that_dies_mid_stream_looks_torn(
    door: Door, upstream: ScriptedUpstream
) -> None:
    async def die(exchange: Exchange) -> Any:
        return await exchange.cut(chunks("one two three")[:3])

    upstream.script = die
    async with door.live(json.dumps(chat("x", stream=True)).encode()) as live:
        got = await read_torn(live)
    assert b"DONE" not in got
    upstream.script = upstream.answer
    assert (await ask(door, "x")).cache["fwd"] == "miss"


@Rows("events", [0, 1, 2, 3, 4])
async def test_case_26_a_stream_cut_anywhere_is_never_stored(
    door: Door, upstream: ScriptedUpstream, events: int
) -> None:
    async def cut(exchange: Exchange) -> Any:
        return await exchange.cut(chunks("one two", usage=False)[:events])

    upstream.script = cut
    answer = await ask(door, chat("x"), prompt_cache="exact") if not events else None
    try:
        answer = answer or await ask(door, chat("x", stream=True))
        assert answer.status == 502
    except Exception:  # each client calls a torn answer something else
        assert events
    upstream.script = upstream.answer
    assert (await ask(door, "x")).cache["fwd"] == "miss"


async def test_row_55_an_upstream_that_dies_before_the_first_token(
    door: Door, upstream: ScriptedUpstream
) -> None:
    async def die(exchange: Exchange) -> Any:
        return await exchange.cut([])

    upstream.script = die
    answer = await ask(door, chat("x", stream=True))
    assert answer.status == 502
    assert answer.headers["content-type"] == "application/json"
    assert "error=" in answer.headers["proxy-status"]


@Rows(("code", "status"), [(429, 429), ("rate_limit_exceeded", 429), (503, 503), ("boom", 502)])
async def test_row_56_an_error_in_band_gets_a_real_status(
    door: Door, upstream: ScriptedUpstream, code: Any, status: int
) -> None:
    async def fail(exchange: Exchange) -> Any:
        return await exchange.stream([json.dumps({"error": {"message": "no", "code": code}})])

    upstream.script = fail
    answer = await ask(door, chat("x", stream=True))
    assert answer.status == status
    assert "no" in answer.error["message"]


async def test_an_error_after_the_first_token_is_told_and_torn(
    door: Door, upstream: ScriptedUpstream
) -> None:
    async def fail(exchange: Exchange) -> Any:
        error = json.dumps({"error": {"message": "model fell over"}})
        return await exchange.stream([*chunks("one two")[:2], error])

    upstream.script = fail
    async with door.live(json.dumps(chat("x", stream=True)).encode()) as live:
        got = await read_torn(live)
    assert b"DONE" not in got


@Rows("stream", [True, False])
async def test_row_57_a_client_that_leaves_before_the_first_token(
    door: Door, upstream: ScriptedUpstream, stream: bool
) -> None:
    upstream.script = silent
    body = json.dumps(chat("x", stream=stream)).encode()
    waiting = asyncio.get_running_loop().create_task(_live_forever(door, body))
    await upstream.called(1)
    waiting.cancel()
    await asyncio.wait_for(upstream.calls[0].gone.wait(), 5)


async def test_row_57_a_client_that_leaves_mid_stream(
    door: Door, upstream: ScriptedUpstream
) -> None:
    async def begin(exchange: Exchange) -> Any:
        response = await exchange.open_stream()
        await response.write(f"data: {chunk({'content': 'one'})}\n\n".encode())
        await asyncio.Event().wait()

    upstream.script = begin
    async with door.live(json.dumps(chat("x", stream=True)).encode()) as live:
        await read_until(live, b"one")
    await asyncio.wait_for(upstream.calls[0].gone.wait(), 5)


async def silent(_exchange: Exchange) -> Any:
    await asyncio.Event().wait()


async def _live_forever(door: Door, body: bytes) -> None:
    async with door.live(body) as live:
        await read_all(live)


async def test_tool_calls_choices_and_parts_are_forwarded_faithfully(
    door: Door, upstream: ScriptedUpstream
) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}

    async def script(exchange: Exchange) -> Any:
        document = completion("", exchange.number)
        document["choices"] = [
            {
                "index": at,
                "message": {"role": "assistant", "content": None, "tool_calls": [call]},
                "finish_reason": "tool_calls",
            }
            for at in range(2)
        ]
        return await exchange.json(document)

    upstream.script = script
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    prompt = chat(
        "x",
        messages=[{"role": "user", "content": [{"type": "text", "text": "what?"}, picture]}],
        n=2,
        tools=[{"type": "function", "function": {"name": "f", "parameters": {}}}],
        something_new={"deep": [1, 2.5, None, "é"]},
    )
    first = await ask(door, prompt)
    assert upstream.calls[0].body == prompt
    assert first.json["choices"][1]["message"]["tool_calls"] == [call]
    streamed = await ask(door, {**prompt, "stream": True})
    assert streamed.cache["hit"] is True
    deltas = [json.loads(e)["choices"][0] for e in streamed.events[:-1]]
    assert [d["index"] for d in deltas if d["finish_reason"] == "tool_calls"] == [0, 1]
    calls = [d["delta"]["tool_calls"] for d in deltas if "tool_calls" in d["delta"]]
    assert calls == [[{"index": 0, **call}]] * 2


async def test_case_12_the_request_id_is_ours(door: Door) -> None:
    answer = await ask(door, "x", x_request_id="a b")
    assert answer.headers["x-request-id"] not in ("", "a b")


async def test_models_lists_what_upstreams_have(door: Door, node: Node) -> None:
    await node.models.listed.wait()
    listed = (await door.request("GET", "/v1/models")).json["data"]
    assert [model["id"] for model in listed] == ["test-model"]
    one = await door.request("GET", "/v1/models/test-model")
    assert one.json["id"] == "test-model"
    assert (await door.request("GET", "/v1/models/other")).status == 404
