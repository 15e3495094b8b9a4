"""The client of the upstreams: whatever they do becomes an answer, or a fault with a name."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import http_sf
import pytest
from aiohttp import web

from edge.errors import ClientError, EdgeError, UpstreamError
from edge.node import monotonic, wall
from edge.routing.headers import RETRY_AFTER_S_MAX, Told
from edge.routing.settings import UpstreamSettings
from edge.routing.upstream import Upstream
from edge.wire.upstream import ERROR_BYTES_MAX, UpstreamClient, key_of
from tests.fakes.ports import NOWHERE
from tests.fakes.upstream import Exchange, ScriptedUpstream, chunks, completion

KEY = "sk-canary-0123456789"
BODY = json.dumps({"messages": [{"role": "user", "content": "x"}]}).encode()

Conversation = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


def deaf(_: Told) -> None:
    """Does not listen to what header fields say of limits."""


@asynccontextmanager
async def client_of(base_url: str, **over: Any) -> AsyncIterator[tuple[UpstreamClient, Upstream]]:
    upstream = Upstream(UpstreamSettings(base_url, **over), "one", frozenset())
    client = UpstreamClient("edge", wall, monotonic)
    await client.add(upstream, KEY)
    try:
        yield client, upstream
    finally:
        await client.close()


async def read(base_url: str, trace: dict[str, str] | None = None, **over: Any) -> Any:
    async with (
        client_of(base_url, **over) as (client, upstream),
        client.fetch(upstream, "/chat/completions", BODY, trace or {}, deaf) as reply,
    ):
        return reply.is_stream, await reply.read(10_000)


@asynccontextmanager
async def raw(converse: Conversation) -> AsyncIterator[str]:
    """A server that reads the head of a request and then does as told. Yields its base URL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await converse(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    try:
        yield f"http://{host}:{port}/v1"
    finally:
        server.close()


def sends(data: bytes, then: Coroutine[Any, Any, Any] | None = None) -> Conversation:
    async def converse(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        if then is not None:
            await then

    return converse


def head(*fields: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", "content-type: application/json", *fields]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


async def for_ever() -> None:
    await asyncio.Event().wait()


def reason(error: EdgeError) -> str:
    """The error type of its Proxy-Status (RFC 9209)."""
    ((_, value),) = [field for field in error.fields if field[0] == "proxy-status"]
    members: Any = http_sf.parse(value.encode(), tltype="list")
    ((name, parameters),) = members
    assert str(name) == "edge"
    return str(parameters["error"])


async def fault(base_url: str, **over: Any) -> EdgeError:
    async with asyncio.timeout(20):
        with pytest.raises(EdgeError) as raised:
            await read(base_url, **over)
    assert KEY not in f"{raised.value.message} {raised.value.fields} {raised.value.code}"
    return raised.value


# What is sent


async def test_what_an_upstream_is_sent(upstream: ScriptedUpstream) -> None:
    trace = {"traceparent": "00-1-2-01"}
    is_stream, body = await read(upstream.base_url, trace)
    assert not is_stream
    assert json.loads(body)["choices"][0]["message"]["content"] == "answer 1 to: x"
    (call,) = upstream.calls
    assert call.request.headers["authorization"] == f"Bearer {KEY}"
    assert call.request.headers["traceparent"] == "00-1-2-01"
    assert call.request.headers["content-type"] == "application/json"
    assert call.request.headers["accept-encoding"] == "identity"
    assert "promptedge" in call.request.headers["user-agent"]
    assert "cookie" not in call.request.headers


async def test_cookies_are_not_kept_and_no_proxy_is_asked(
    upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def with_cookie(exchange: Exchange) -> Any:
        return await exchange.json(completion("x"), set_cookie="a=b")

    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9/")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9/")
    upstream.script = with_cookie
    async with client_of(upstream.base_url) as (client, place):
        for _ in range(2):
            async with client.fetch(place, "/chat/completions", BODY, {}, deaf) as reply:
                await reply.read(10_000)
    assert all("cookie" not in call.request.headers for call in upstream.calls)


@pytest.mark.parametrize("slash", ["", "/"])
async def test_the_base_url_may_end_in_a_slash(upstream: ScriptedUpstream, slash: str) -> None:
    await read(upstream.base_url + slash)
    assert upstream.calls[0].request.path == "/v1/chat/completions"


# Connections that fail


async def test_nobody_listens() -> None:
    async with raw(sends(b"")) as url:
        pass
    error = await fault(url)
    assert (error.status, reason(error)) == (502, "connection_refused")


async def test_a_name_that_does_not_resolve() -> None:
    error = await fault(f"http://{NOWHERE}/v1")
    assert error.status == 502


async def test_it_cannot_be_reached_in_time() -> None:
    """A listener whose backlog is full answers no SYN: connecting waits until it may not."""
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
        host, port = listener.getsockname()
        error = await fault(f"http://{host}:{port}/v1", connect_timeout_s=0.2)
        for one in waiting:
            one.close()
    assert (error.status, reason(error)) == (504, "connection_timeout")


async def test_it_thinks_for_too_long() -> None:
    async with raw(sends(b"", for_ever())) as url:
        error = await fault(url, first_byte_timeout_s=0.1)
    assert (error.status, reason(error)) == (504, "http_response_timeout")


async def test_it_falls_silent() -> None:
    async with raw(sends(head("content-length: 10") + b"{", for_ever())) as url:
        error = await fault(url, idle_timeout_s=0.1)
    assert (error.status, reason(error)) == (504, "http_response_timeout")


@pytest.mark.parametrize(
    "sent",
    [
        head("content-length: 10") + b'{"a":',
        head("transfer-encoding: chunked") + b'5\r\n{"a":\r\n',
        head("transfer-encoding: chunked") + b'9\r\n{"a":',
    ],
    ids=["length", "chunks", "within a chunk"],
)
async def test_it_breaks_off(sent: bytes) -> None:
    async with raw(sends(sent)) as url:
        error = await fault(url)
    assert (error.status, reason(error)) == (502, "http_response_incomplete")


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"HTTP/1.1 200",
        head("transfer-encoding: chunked") + b"zz\r\n",
        b"SSH-2.0-x\r\n\r\n",
        b"\x15\x03\x01\x00\x02",
    ],
)
async def test_it_says_nothing_or_something_else(sent: bytes) -> None:
    async with raw(sends(sent)) as url:
        error = await fault(url)
    assert (error.status, reason(error)) == (502, "connection_terminated")


async def test_an_answer_has_a_largest_size() -> None:
    async with raw(sends(head("content-length: 20000") + b" " * 20_000)) as url:
        error = await fault(url)
    assert error.status == 502
    assert "10000 bytes" in error.message


# Statuses


async def refuse(
    upstream: ScriptedUpstream, status: int, document: Any, **fields: str
) -> EdgeError:
    async def script(exchange: Exchange) -> Any:
        return await exchange.json(document, status, **fields)

    upstream.script = script
    return await fault(upstream.base_url)


@pytest.mark.parametrize("status", [401, 403])
async def test_a_key_that_is_refused_is_our_trouble_and_not_told(
    upstream: ScriptedUpstream, status: int
) -> None:
    error = await refuse(upstream, status, {"error": {"message": f"Incorrect API key: {KEY}"}})
    assert (type(error), error.status) == (UpstreamError, 502)
    assert "credentials" in error.message


@pytest.mark.parametrize("status", [400, 429, 500])
async def test_our_key_is_in_no_message(upstream: ScriptedUpstream, status: int) -> None:
    error = await refuse(upstream, status, {"error": {"message": f"wrong: {KEY}", "code": KEY}})
    assert error.message == "wrong: ***"


async def test_an_error_without_a_code_has_that_of_its_kind(upstream: ScriptedUpstream) -> None:
    error = await refuse(upstream, 413, {"error": {"message": "m", "code": None}})
    assert error.code == "invalid_request"


@pytest.mark.parametrize("status", [400, 404, 405, 409, 413, 415, 422])
async def test_the_clients_fault_is_told_as_it_is(upstream: ScriptedUpstream, status: int) -> None:
    told = {"message": "m", "code": "context_length_exceeded", "param": "messages"}
    error = await refuse(upstream, status, {"error": told})
    assert (type(error), error.status) == (ClientError, status)
    assert (error.message, error.code, error.param) == tuple(told.values())


async def test_a_code_that_could_forge_a_log_line_is_dropped(upstream: ScriptedUpstream) -> None:
    error = await refuse(upstream, 400, {"error": {"code": "x\nWARNING auth event=auth_fail"}})
    assert error.code == "invalid_request"


@pytest.mark.parametrize(
    ("status", "ours"),
    [
        *((429, 429), (500, 502), (502, 502), (503, 503), (529, 503)),
        *((418, 502), (504, 504), (408, 504), (204, 502), (201, 502)),
    ],
)
async def test_an_upstreams_failure(upstream: ScriptedUpstream, status: int, ours: int) -> None:
    error = await refuse(upstream, status, {"error": {"message": "m"}} if status != 204 else None)
    assert (type(error), error.status) == (UpstreamError, ours)
    assert reason(error) == "http_request_error"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        *(("7", 7), ("0", 0), ("999999999", RETRY_AFTER_S_MAX), ("-1", None), ("soon", None)),
        *(("1.5", 2), ("Fri, 31 Dec 1999 23:59:59 GMT", 0), ("\u0663", None)),
    ],
)
async def test_retry_after(upstream: ScriptedUpstream, value: str, seconds: int | None) -> None:
    error = await refuse(upstream, 503, {}, retry_after=value)
    assert error.retry_after_s == seconds


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>busy</html>",
        b"[]",
        b'{"error":"busy"}',
        b'{"error":[]}',
        b"\xff",
        b"x" * 200_000,
    ],
)
async def test_errors_of_any_shape(upstream: ScriptedUpstream, body: bytes) -> None:
    async def script(exchange: Exchange) -> Any:
        return web.Response(status=500, body=body)

    upstream.script = script
    error = await fault(upstream.base_url)
    assert error.status == 502
    assert error.message
    assert len(error.message) < ERROR_BYTES_MAX


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_finding_9_a_redirect_takes_neither_prompt_nor_key_elsewhere(
    upstream: ScriptedUpstream, status: int
) -> None:
    connections = []

    async def note(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        connections.append(1)

    async with raw(note) as elsewhere:
        error = await refuse(upstream, status, {}, location=elsewhere + "/chat/completions")
        assert (error.status, type(error)) == (502, UpstreamError)
        assert len(upstream.calls) == 1
    assert not connections


# Streams and JSON


async def test_a_stream_is_told_by_its_media_type(upstream: ScriptedUpstream) -> None:
    async def script(exchange: Exchange) -> Any:
        return await exchange.stream(chunks("x"))

    upstream.script = script
    is_stream, body = await read(upstream.base_url)
    assert is_stream
    assert body.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("kind", ["text/event-stream;charset=UTF-8", "Text/Event-Stream"])
async def test_parameters_of_the_media_type_do_not_matter(kind: str) -> None:
    sent = f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: 0\r\n\r\n".encode()
    async with raw(sends(sent)) as url:
        assert await read(url) == (True, b"")


# Connections that are used again


async def _fetch_partly(client: UpstreamClient, upstream: Upstream, whole: bool) -> None:
    async with client.fetch(upstream, "/chat/completions", BODY, {}, deaf) as reply:
        if whole:
            await reply.read(10_000)
        else:
            await anext(aiter(reply.chunks()))


@pytest.mark.parametrize("whole", [True, False])
async def test_a8_a_connection_is_used_again_only_after_a_whole_answer(whole: bool) -> None:
    ports = []

    async def script(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        ports.append(request.transport.get_extra_info("peername")[1])
        await request.read()
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"{")
        if whole:
            await response.write(b"}")
            return response
        await for_ever()
        return response

    app = web.Application()
    app.router.add_post("/v1/chat/completions", script)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    try:
        async with client_of(f"http://{host}:{port}/v1") as (client, upstream):
            for _ in range(3):
                await _fetch_partly(client, upstream, whole)
    finally:
        await runner.cleanup()
    assert len(set(ports)) == (1 if whole else 3)


async def test_an_exchange_that_is_cancelled_closes_its_connection(
    upstream: ScriptedUpstream,
) -> None:
    async def silent(_exchange: Exchange) -> Any:
        await for_ever()

    upstream.script = silent
    async with client_of(upstream.base_url) as (client, place):
        asking = asyncio.get_running_loop().create_task(_fetch_partly(client, place, True))
        await upstream.called(1)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await asyncio.wait_for(upstream.calls[0].gone.wait(), 20)


async def test_adding_an_upstream_again_replaces_it(upstream: ScriptedUpstream) -> None:
    async with client_of(upstream.base_url) as (client, place):
        await client.add(place, "another-key")
        await _fetch_partly(client, place, True)
    assert upstream.calls[0].request.headers["authorization"] == "Bearer another-key"


# Models


async def models(base_url: str) -> list[dict[str, Any]]:
    async with client_of(base_url) as (client, upstream):
        return await client.models(upstream)


async def test_models_are_listed(upstream: ScriptedUpstream) -> None:
    upstream.models = ["a", "b/c"]
    assert [model["id"] for model in await models(upstream.base_url)] == ["a", "b/c"]


@pytest.mark.parametrize("status", ["404 Not Found", "405 No", "501 No"])
async def test_an_upstream_without_a_list_of_models_has_none(status: str) -> None:
    async with raw(sends(head("content-length: 0", status=status))) as url:
        assert await models(url) == []


@pytest.mark.parametrize(
    "sent",
    [
        head("content-length: 0", status="400 No"),
        head("content-length: 0", status="401 No"),
        head("content-length: 0", status="500 No"),
        head("content-length: 0", "location: /", status="302 No"),
        head("content-length: 2") + b"{}",
        head("content-length: 2") + b"[]",
        head("content-length: 3") + b"[",
        b"",
    ],
)
async def test_a_list_that_cannot_be_had_is_an_upstream_error(sent: bytes) -> None:
    async with raw(sends(sent)) as url:
        with pytest.raises(UpstreamError):
            await models(url)


# Keys


def test_keys_come_from_a_file_or_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(f" {KEY}\n")
    assert key_of(UpstreamSettings("http://x"), {"K": KEY}) is None
    assert key_of(UpstreamSettings("http://x", api_key_file=str(file)), {}) == KEY
    assert key_of(UpstreamSettings("http://x", api_key_env="K"), {"K": f"{KEY} "}) == KEY


@pytest.mark.parametrize("content", [b"", b" \n", b"a b", b"a\r\nx: y", b"\xc3\xa9"])
def test_a_key_that_could_not_be_sent_is_refused_and_not_shown(
    tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "key"
    file.write_bytes(content)
    with pytest.raises(ValueError, match="api_key_file"):
        key_of(UpstreamSettings("http://x", api_key_file=str(file)), {})


@pytest.mark.parametrize("environ", [{}, {"K": ""}, {"K": "a b"}, {"K": "\n"}])
def test_a_key_that_is_not_in_the_environment(environ: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="api_key_env"):
        key_of(UpstreamSettings("http://x", api_key_env="K"), environ)
    with pytest.raises(ValueError, match="cannot be read"):
        key_of(UpstreamSettings("http://x", api_key_file="/no/such/file"), {})
