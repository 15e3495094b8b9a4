"""Requests and answers over HTTP/3. Rows are those of the conformance table."""

import asyncio
from collections.abc import Coroutine
from email.utils import parsedate_to_datetime
from typing import Any, NoReturn

import pytest

from edge.request import Reply, Request, Response
from edge.wire.http3 import Http3Settings
from tests.edge.wire.http3_harness import (
    JSON,
    FakeHandler,
    Pending,
    echo,
    eventually,
    serving,
    talking,
)
from tests.fakes.h3_client import H3Client, H3Reset, h3_connect

MIB = 1024 * 1024


def fixed(response: Response) -> FakeHandler:
    return FakeHandler(answer=lambda request: response)


async def test_a_hit_is_answered_without_a_task() -> None:
    handler = fixed(Response(200, (*JSON, ("etag", '"a"')), b'{"a":1}'))
    async with talking(handler) as (wire, client):
        response = await client.request("POST", "/v1/chat/completions?x=1&y", {"a": "b"}, b"hello")
        assert (response.status, response.body) == (200, b'{"a":1}')
        assert response.headers["content-length"] == "7"
        assert response.headers["etag"] == '"a"'
        assert parsedate_to_datetime(response.headers["date"])
        assert "alt-svc" not in response.headers
        assert (wire.requests, wire.counters.hits, wire.connections) == (1, 1, 1)
        assert "connections=1" in repr(wire)
    (request,) = handler.requests
    assert (request.head.method, request.head.path, request.head.query) == (
        "POST",
        "/v1/chat/completions",
        "x=1&y",
    )
    assert (request.body, request.http, request.peer) == (b"hello", "3", "127.0.0.1")
    assert request.head.authority == "localhost"


async def test_a_miss_is_answered_when_its_coroutine_is_done() -> None:
    pending = Pending()
    handler = FakeHandler(answer=pending.answer)
    async with talking(handler) as (wire, client):
        stream = client.open("POST", "/", end=True)
        await pending.started.wait()
        assert wire.in_flight == 1
        pending.release.set()
        assert (await stream.response()).body == b"late"
        assert wire.in_flight == 0


async def test_requests_of_one_connection_do_not_wait_for_each_other() -> None:
    pending = Pending()

    def answer(request: Request) -> Response | Coroutine[Any, Any, Reply]:
        return pending.reply() if request.head.path == "/slow" else echo(request)

    async with talking(FakeHandler(answer=answer)) as (_, client):
        slow = client.open("GET", "/slow", end=True)
        bodies = [str(n).encode() * 50 for n in range(90)]
        answers = await asyncio.gather(*(client.request("POST", "/", body=body) for body in bodies))
        assert [answer.body for answer in answers] == bodies
        pending.release.set()
        assert (await slow.response()).body == b"late"


async def test_row_2_head_has_the_length_and_no_body() -> None:
    async with talking(fixed(Response(200, JSON, b"12345"))) as (_, client):
        response = await client.request("HEAD", "/v1/models")
        assert (response.headers["content-length"], response.body) == ("5", b"")


@pytest.mark.parametrize(("status", "body"), [(204, b""), (204, b"x"), (304, b"")])
async def test_204_and_304_have_neither_body_nor_length(status: int, body: bytes) -> None:
    async with talking(fixed(Response(status, (), body))) as (_, client):
        response = await client.request("GET", "/")
        assert (response.status, response.body) == (status, b"")
        assert "content-length" not in response.headers


async def test_an_empty_body_has_length_0() -> None:
    async with talking(fixed(Response(200, ()))) as (_, client):
        response = await client.request("GET", "/")
        assert (response.headers["content-length"], response.body) == ("0", b"")


async def test_a_long_answer_is_whole() -> None:
    body = bytes(range(256)) * (5 * MIB // 256)
    async with talking(fixed(Response(200, JSON, body))) as (_, client):
        response = await client.request("GET", "/")
        assert response.body == body
        assert response.headers["content-length"] == str(len(body))


async def test_finding_2_an_upload_of_6_mib_completes() -> None:
    body = bytes(range(256)) * (6 * MIB // 256)
    async with talking(FakeHandler()) as (wire, client):
        response = await client.request("POST", "/", body=body)
        assert response.body == body
        assert wire.bodies_held_bytes == 0


async def test_row_9_a_body_over_the_limit_gets_413_and_stop_sending() -> None:
    handler = FakeHandler(body_bytes_max=300_000)
    async with talking(handler) as (wire, client):
        stream = client.open("POST", "/")
        stream.send(b"x" * 310_000)
        response = await stream.response()
        assert (response.status, response.body) == (413, b"body_too_large")
        await client.until(lambda: stream.stop_code is not None)
        assert stream.stop_code == 0x100  # H3_NO_ERROR
        assert handler.requests == []
        assert wire.bodies_held_bytes == 0
        assert (await client.request("POST", "/", body=b"next")).body == b"next"


async def test_row_9_a_refusal_is_sent_without_reading_the_body() -> None:
    handler = FakeHandler(refusal=lambda head: Response(413, JSON, b"no"))
    async with talking(handler) as (wire, client):
        stream = client.open("POST", "/", {"content-length": "10000000000"})
        stream.send(b"abc")
        response = await stream.response()
        assert (response.status, response.body) == (413, b"no")
        await client.until(lambda: stream.stop_code is not None)
        assert stream.stop_code == 0x100
        assert wire.bodies_held_bytes == 0
        assert client.closed is None


async def test_a_refusal_of_a_complete_request_stops_nothing() -> None:
    handler = FakeHandler(refusal=lambda head: Response(401, JSON, b"no"))
    async with talking(handler) as (_, client):
        stream = client.open("GET", "/", end=True)
        assert (await stream.response()).status == 401
        assert (await client.request("GET", "/")).status == 401
        assert stream.stop_code is None


async def test_bodies_that_a_connection_holds_are_bounded_together() -> None:
    settings = Http3Settings(bodies_max_bytes=100_000)
    async with talking(FakeHandler(body_bytes_max=70_000), settings) as (wire, client):
        first = client.open("POST", "/")
        first.send(b"x" * 60_000)
        await eventually(lambda: wire.bodies_held_bytes == 60_000)
        second = client.open("POST", "/")
        second.send(b"x" * 60_000)
        assert (await second.response()).status == 503
        assert wire.bodies_held_bytes <= 100_000
        first.send(b"x", end=True)
        assert len((await first.response()).body) == 60_001


async def test_row_10_expect_continue_gets_a_100_first() -> None:
    async with talking(FakeHandler()) as (_, client):
        stream = client.open("POST", "/", {"expect": "100-continue"})
        await client.until(lambda: stream.interim)
        stream.send(b"body", end=True)
        response = await stream.response()
        assert (response.status, response.body, response.interim) == (200, b"body", (100,))


async def test_row_11_a_refused_expectation_gets_no_100() -> None:
    handler = FakeHandler(refusal=lambda head: Response(401, JSON, b"no"))
    async with talking(handler) as (_, client):
        stream = client.open("POST", "/", {"expect": "100-continue"})
        response = await stream.response()
        assert (response.status, response.interim) == (401, ())


async def test_row_14_trailers_are_ignored() -> None:
    async with talking(FakeHandler()) as (_, client):
        stream = client.open("POST", "/")
        stream.send(b"body")
        client.h3.send_headers(stream.stream_id, [(b"x-checksum", b"1")], end_stream=True)
        client.transmit()
        assert (await stream.response()).body == b"body"


@pytest.mark.parametrize("declared", ["3", "5"])
async def test_row_15_a_wrong_content_length_is_an_error_of_the_stream(declared: str) -> None:
    handler = FakeHandler()
    async with talking(handler) as (_, client):
        stream = client.open("POST", "/", {"content-length": declared})
        stream.send(b"four", end=True)
        with pytest.raises(H3Reset) as caught:
            await stream.response()
        assert caught.value.code == 0x10E
        assert handler.requests == []
        assert (await client.request("POST", "/", body=b"ok")).body == b"ok"


async def test_repeated_fields_cookies_and_host() -> None:
    handler = FakeHandler()
    async with talking(handler) as (_, client):
        stream = client.open_fields(
            [
                (b":method", b"GET"),
                (b":scheme", b"https"),
                (b":path", b"/"),
                (b"host", b"edge.example"),
                (b"accept", b"a"),
                (b"accept", b"b"),
                (b"cookie", b"x=1"),
                (b"cookie", b"y=2"),
                (b"x-name", "café".encode("latin-1")),
            ],
            end=True,
        )
        await stream.response()
    head = handler.requests[0].head
    assert head.authority == "edge.example"
    assert dict(head.headers) == {
        "host": "edge.example",
        "accept": "a, b",
        "cookie": "x=1; y=2",
        "x-name": "café",
    }


@pytest.mark.parametrize("phase", ["admit", "handle", "coroutine"])
async def test_a_handler_that_raises_costs_one_stream(
    phase: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def later() -> Response:
        raise ValueError("the prompt was: secret")

    def fail(_: object) -> NoReturn:
        raise ValueError("the prompt was: secret")

    handler = FakeHandler()
    async with talking(handler) as (wire, client):
        if phase == "admit":
            handler.refusal = fail
        else:
            handler.answer = (lambda request: later()) if phase == "coroutine" else fail
        with pytest.raises(H3Reset) as caught:
            await client.request("POST", "/", body=b"x")
        assert caught.value.code == 0x102
        handler.refusal, handler.answer = (lambda head: None), echo
        assert (await client.request("POST", "/", body=b"ok")).body == b"ok"
        assert wire.counters.failures == 1
    assert "event=handler_failed error=ValueError at=test_http3.py:" in caplog.text
    assert "secret" not in caplog.text


async def test_equal_header_blocks_mean_equal_heads_on_every_connection() -> None:
    handler = FakeHandler()
    async with serving(handler) as (_, address):
        for _ in range(2):
            async with h3_connect(address) as client:
                await client.request("GET", "/same")
                await client.request("GET", "/other")
    paths = [request.head.path for request in handler.requests]
    assert paths == ["/same", "/other", "/same", "/other"]
    assert handler.requests[0].head is handler.requests[2].head


async def test_a_thousand_requests_leave_nothing_behind() -> None:
    async with talking(FakeHandler()) as (wire, client):
        await asyncio.gather(*(_ask(client, 50) for _ in range(20)))
        assert wire.requests == 1000
        (link,) = wire._endpoint._links
        assert len(link.quic._streams) <= 120
        wire.check()


async def _ask(client: H3Client, count: int) -> None:
    for n in range(count):
        body = str(n).encode()
        assert (await client.request("POST", "/", body=body)).body == body
