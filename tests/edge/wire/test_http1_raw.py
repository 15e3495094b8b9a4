"""HTTP/1.1 as bytes: what aiohttp's client would never send, and exactly what comes back."""

import asyncio
import json
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from edge.node import Node
from tests.fakes.node import running_node
from tests.fakes.upstream import Exchange, ScriptedUpstream, chunk, scripted_upstream, sse

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEY = "key-of-acme"
LIMIT = 8 * 1024 * 1024
HASTE = {
    "header_timeout_s": 0.2,
    "body_timeout_s": 0.2,
    "idle_timeout_s": 0.8,
    "write_stall_s": 0.2,
}


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes
    version: str

    @property
    def code(self) -> str:
        code: str = json.loads(self.body)["error"]["code"]
        return code

    @property
    def text(self) -> str:
        text: str = json.loads(self.body)["choices"][0]["message"]["content"]
        return text


class Line:
    """One connection to a node, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, method: str = "POST") -> Answer:
        async with asyncio.timeout(20):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
            version, status, _ = first.split(" ", 2)
            headers = {name.lower(): value for name, value in (one.split(": ", 1) for one in lines)}
            assert len(headers) == len(lines), f"a field came twice: {lines}"
            bare = method == "HEAD" or status in ("100", "204")
            length = 0 if bare else int(headers.get("content-length", 0))
            body = await self.reader.readexactly(length)
            return Answer(int(status), headers, body, version)

    async def closed(self) -> bytes:
        """Whatever else comes before the connection ends."""
        async with asyncio.timeout(20):
            return await self.reader.read()


@asynccontextmanager
async def line(node: Node, listener: str = "plain") -> AsyncIterator[Line]:
    address = node.addresses[listener]
    tls = None
    if listener == "listen":
        tls = ssl.create_default_context()
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    reader, writer = await asyncio.open_connection(address.host, address.port, ssl=tls)
    try:
        yield Line(reader, writer)
    finally:
        writer.close()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def shared_upstream() -> AsyncIterator[ScriptedUpstream]:
    async with scripted_upstream() as one:
        yield one


@pytest.fixture
def upstream(shared_upstream: ScriptedUpstream) -> ScriptedUpstream:
    shared_upstream.calls.clear()
    shared_upstream.script = shared_upstream.answer
    return shared_upstream


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def node(
    shared_upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Node]:
    data = tmp_path_factory.mktemp("node")
    async with running_node(data, shared_upstream.base_url, cache={"mode": "off"}) as one:
        yield one


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def locked(
    shared_upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Node]:
    """A node that asks for a key."""
    keys = [{"tenant": "acme", "key_env": "K"}]
    data = tmp_path_factory.mktemp("locked")
    environ = {"K": KEY}
    async with running_node(data, shared_upstream.base_url, environ=environ, keys=keys) as one:
        yield one


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def hasty(
    shared_upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Node]:
    """A node that waits for nothing."""
    data = tmp_path_factory.mktemp("hasty")
    async with running_node(data, shared_upstream.base_url, http1=HASTE) as one:
        yield one


@asynccontextmanager
async def logged(text: str) -> AsyncIterator[None]:
    """Ends when a line with `text` in it has been logged."""
    found = asyncio.Event()

    class Watch(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if text in record.getMessage():
                found.set()

    logger, watch = logging.getLogger("http"), Watch()
    level = logger.level
    logger.addHandler(watch)
    logger.setLevel(logging.INFO)
    try:
        yield
        await asyncio.wait_for(found.wait(), 20)
    finally:
        logger.removeHandler(watch)
        logger.setLevel(level)


def document(text: str = "x", **over: Any) -> bytes:
    messages = [{"role": "user", "content": text}]
    return json.dumps({"model": "test-model", "messages": messages, **over}).encode()


def head(*fields: str, path: str = "/v1/chat/completions", method: str = "POST") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: edge", "Content-Type: application/json", *fields]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"


def post(body: bytes | None = None, *fields: str) -> bytes:
    sent = document() if body is None else body
    return head(f"Content-Length: {len(sent)}", *fields) + sent


def chunked(body: bytes, trailers: bytes = b"") -> bytes:
    half = len(body) // 2
    parts = [body[:half], body[half:]]
    framed = b"".join(b"%x;ext=1\r\n%b\r\n" % (len(part), part) for part in parts if part)
    return framed + b"0\r\n" + trailers + b"\r\n"


# Framing: row 13, case 1


START = b"POST /v1/chat/completions HTTP/1.1\r\n"
TYPE = b"Content-Type: application/json\r\n"
SMUGGLED = b"GET /v1/models HTTP/1.1\r\nHost: edge\r\n\r\n"

MISFRAMED: dict[str, bytes] = {
    "length and chunks": head("Content-Length: 6", "Transfer-Encoding: chunked") + b"0\r\n\r\nG",
    "chunks and length": head("Transfer-Encoding: chunked", "Content-Length: 6") + b"0\r\n\r\nG",
    "two lengths": head("Content-Length: 2", "Content-Length: 3") + b"{}",
    "a list of lengths": head("Content-Length: 2, 3") + b"{}",
    "the same length twice": head("Content-Length: 2", "Content-Length: 2") + b"{}",
    "a negative length": head("Content-Length: -2") + b"{}",
    "a signed length": head("Content-Length: +3") + b"{} ",
    "a hexadecimal length": head("Content-Length: 0x3") + b"{} ",
    "a length with a space": head("Content-Length: 1 0") + b"{}",
    "no length": head("Content-Length: ") + b"{}",
    "a length in other digits": head("Content-Length: \xb2") + b"{}",
    "chunked twice": head("Transfer-Encoding: chunked, chunked") + b"0\r\n\r\n",
    "chunked and more": head("Transfer-Encoding: chunked, identity") + b"0\r\n\r\n",
    "two transfer encodings": head("Transfer-Encoding: chunked", "Transfer-Encoding: x"),
    "an unknown transfer encoding": head("Transfer-Encoding: xchunked") + b"0\r\n\r\n",
    "a transfer encoding with a tab": head("Transfer-Encoding: \x0bchunked") + b"0\r\n\r\n",
    "a space before the colon": START + b"Host: edge\r\nContent-Length : 2\r\n\r\n{}",
    "a space before the name": START + b"Host: edge\r\n Content-Length: 2\r\n\r\n{}",
    "a folded line": START + b"Host: edge\r\nX-A: 1\r\n 2\r\n\r\n",
    "bare line feeds": b"POST / HTTP/1.1\nHost: edge\n\n",
    "a lone carriage return": START + b"Host: edge\r\nX-A: 1\r2\r\n\r\n",
    "a nul": START + b"Host: edge\r\nX-A: 1\x002\r\n\r\n",
    "a nul in a name": START + b"Host: edge\r\nX-\x00A: 1\r\n\r\n",
    "no name": START + b"Host: edge\r\n: 1\r\n\r\n",
    "no colon": START + b"Host: edge\r\nX-A\r\n\r\n",
    "no host": START + TYPE + b"Content-Length: 2\r\n\r\n{}",
    "two hosts": START + b"Host: edge\r\nHost: evil\r\nContent-Length: 2\r\n\r\n{}",
    "another version": b"POST / HTTP/1.2\r\nHost: edge\r\n\r\n",
    "the version of the future": b"POST / HTTP/3.0\r\nHost: edge\r\n\r\n",
    "no version": b"GET /\r\n\r\n",
    "a word": b"HELLO\r\n\r\n",
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "h2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a space in the target": b"GET /a b HTTP/1.1\r\nHost: edge\r\n\r\n",
    "a chunk size with a sign": head("Transfer-Encoding: chunked") + b"+2\r\n{}\r\n0\r\n\r\n",
    "a chunk size with 0x": head("Transfer-Encoding: chunked") + b"0x2\r\n{}\r\n0\r\n\r\n",
    "no chunk size": head("Transfer-Encoding: chunked") + b"\r\n{}\r\n0\r\n\r\n",
    "a chunk without its end": head("Transfer-Encoding: chunked") + b"2\r\n{}x\r\n0\r\n\r\n",
    "a field of 100 KB": head("Authorization: Bearer " + "k" * 100_000),
    "a target of 100 KB": b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: edge\r\n\r\n",
}
TOO_LONG = {"a field of 100 KB": 431, "a target of 100 KB": 431}


@pytest.mark.parametrize("name", MISFRAMED)
async def test_row_13_case_1_what_is_not_http_is_400_and_the_end(
    node: Node, upstream: ScriptedUpstream, name: str
) -> None:
    async with line(node) as client:
        await client.send(MISFRAMED[name])
        answer = await client.answer()
        assert (answer.status, answer.version) == (TOO_LONG.get(name, 400), "HTTP/1.1")
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["connection"] == "close"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-request-id"]
        assert answer.code in ("bad_request", "head_too_large", "invalid_request")
        await client.send(SMUGGLED) if name != "a target of 100 KB" else None
        assert await gone(client)
    assert not upstream.calls


async def gone(client: Line) -> bool:
    """The connection ends, and nothing else was answered on it."""
    try:
        return await client.closed() == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("name", ["length and chunks", "bare line feeds", "two hosts"])
async def test_the_same_within_tls(node: Node, upstream: ScriptedUpstream, name: str) -> None:
    async with line(node, "listen") as client:
        await client.send(MISFRAMED[name])
        answer = await client.answer()
        assert (answer.status, answer.version) == (400, "HTTP/1.1")
        assert answer.headers["alt-svc"].startswith('h3=":')
        assert await gone(client)


async def test_clear_text_on_the_port_for_tls_is_told_where_to_go(node: Node) -> None:
    at, plain = node.addresses["listen"], node.addresses["plain"]
    client = Line(*await asyncio.open_connection(at.host, at.port))
    await client.send(post())
    answer = await client.answer()
    assert (answer.status, answer.code) == (400, "https_required")
    assert f"use https://, or http:// on port {plain.port}." in answer.body.decode()
    client.writer.close()


async def test_a_good_request_before_a_bad_one_is_answered(
    node: Node, upstream: ScriptedUpstream
) -> None:
    async with line(node) as client:
        await client.send(post())
        await upstream.called(1)
        await client.send(MISFRAMED["two lengths"])
        assert (await client.answer()).text == "answer 1 to: x"
        assert (await client.answer()).status == 400
        assert await gone(client)
    assert len(upstream.calls) == 1


@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_case_2_a_body_is_a_body_also_after_an_upgrade(
    node: Node, upstream: ScriptedUpstream, method: str
) -> None:
    """What a request to speak another protocol carries is never run as a request."""
    hidden = post(document("hidden"))
    fields = ("Upgrade: websocket", "Connection: Upgrade", f"Content-Length: {len(hidden)}")
    path = "/v1/chat/completions" if method == "POST" else "/v1/models"
    async with line(node) as client:
        await client.send(head(*fields, method=method, path=path) + hidden)
        assert (await client.answer()).status == (400 if method == "POST" else 200)
        await client.send(post(document("next")))
        client.writer.write_eof()
        rest = await client.closed()
    assert [call.text for call in upstream.calls] in (["next"], [])
    assert b"hidden" not in rest


@pytest.mark.parametrize("method", ["CONNECT", "TRACE"])
async def test_case_15_methods_of_proxies(node: Node, method: str) -> None:
    target = "a:443" if method == "CONNECT" else "/v1/models"
    async with line(node) as client:
        await client.send(f"{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert (await client.answer()).status in (400, 404, 405)


async def test_case_14_an_absolute_target_of_elsewhere(node: Node) -> None:
    async with line(node) as client:
        await client.send(b"GET http://evil/ HTTP/1.1\r\nHost: evil\r\n\r\n")
        assert (await client.answer()).status == 404


# Bodies


async def test_row_14_chunks_and_trailers(node: Node, upstream: ScriptedUpstream) -> None:
    trailers = b"X-Trailer: 1\r\nAuthorization: Bearer x\r\n"
    async with line(node) as client:
        for number in (1, 2):
            await client.send(head("Transfer-Encoding: chunked") + chunked(document(), trailers))
            assert (await client.answer()).text == f"answer {number} to: x"


@pytest.mark.parametrize("step", [1, 7])
async def test_bytes_may_come_one_by_one(node: Node, upstream: ScriptedUpstream, step: int) -> None:
    whole = head("Transfer-Encoding: chunked") + chunked(document("piece by piece"))
    async with line(node) as client:
        for at in range(0, len(whole), step):
            await client.send(whole[at : at + step])
            await asyncio.sleep(0)
        assert (await client.answer()).text == "answer 1 to: piece by piece"


async def test_case_8_a_length_beyond_the_limit_is_refused_at_once(
    node: Node, upstream: ScriptedUpstream
) -> None:
    async with line(node) as client:
        await client.send(head("Content-Length: 10000000000") + b"{} ")
        answer = await client.answer()
        assert (answer.status, answer.code) == (413, "body_too_large")
        assert answer.headers["connection"] == "close"
        assert await gone(client)


async def test_row_9_chunks_beyond_the_limit(
    shared_upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """Whether they come with the head or after it."""
    http = {"body_bytes_max": 1000}
    async with running_node(tmp_path, shared_upstream.base_url, http=http) as small:
        for body in (document("y" * 1000), document("y" * 300_000)):
            async with line(small) as client:
                await client.send(head("Transfer-Encoding: chunked") + chunked(body))
                answer = await client.answer()
                assert (answer.status, answer.code) == (413, "body_too_large")
        async with line(small) as client:
            await client.send(head("Transfer-Encoding: chunked") + chunked(document("y" * 800)))
            assert (await client.answer()).status == 200


@pytest.mark.parametrize("cut", [b"1\r\n{", b"zz\r\n", b"5\r\n{}}}}"])
async def test_a_chunk_that_goes_wrong_later_is_the_clients_fault(
    node: Node, upstream: ScriptedUpstream, cut: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with line(node) as client:
        await client.send(head("Transfer-Encoding: chunked"))
        await client.send(b"2\r\n{}\r\n")
        await asyncio.sleep(0)
        await client.send(cut + b"xx\r\n\r\n")
        answer = await client.answer()
        assert answer.status == 400
        assert await gone(client)
    assert "event=bug" not in caplog.text


async def test_a_client_that_leaves_within_its_body_leaves_no_trace(
    node: Node, upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    async with line(node) as client:
        await client.send(head("Content-Length: 100") + b"{")
    async with line(node) as client:
        await client.send(post())
        assert (await client.answer()).status == 200
    assert "event=bug" not in caplog.text


# 100-continue: rows 10 and 11


async def test_row_10_a_good_expectation(node: Node, upstream: ScriptedUpstream) -> None:
    body = document()
    async with line(node) as client:
        for number in (1, 2):
            await client.send(head(f"Content-Length: {len(body)}", "Expect: 100-continue"))
            assert (await client.answer()).status == 100
            await client.send(body)
            assert (await client.answer()).text == f"answer {number} to: x"


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (("Content-Length: 10000000000",), 413),
        (("Content-Length: 5", "Authorization: Bearer wrong"), 401),
        (("Content-Length: 5", "Content-Encoding: gzip"), 415),
    ],
)
async def test_row_11_a_refusal_comes_without_a_100(
    locked: Node, upstream: ScriptedUpstream, fields: tuple[str, ...], status: int
) -> None:
    key = () if status == 401 else (f"Authorization: Bearer {KEY}",)
    async with line(locked) as client:
        await client.send(head(*fields, *key, "Expect: 100-continue"))
        answer = await client.answer()
        assert answer.status == status
        assert answer.headers["connection"] == "close"
    assert not upstream.calls


async def test_row_12_an_unknown_expectation(node: Node) -> None:
    async with line(node) as client:
        await client.send(head("Content-Length: 5", "Expect: a-miracle"))
        assert (await client.answer()).status == 417


# Connections that are kept


async def test_errors_whose_body_was_read_keep_the_connection(
    node: Node, upstream: ScriptedUpstream
) -> None:
    async with line(node) as client:
        for sent, status in ((post(b"{"), 400), (post(), 200), (post(b"[]"), 400), (post(), 200)):
            await client.send(sent)
            answer = await client.answer()
            assert answer.status == status
            assert "connection" not in answer.headers


async def test_pipelined_requests_are_answered_in_their_order(
    node: Node, upstream: ScriptedUpstream
) -> None:
    async with line(node) as client:
        await client.send(b"".join(post(document(str(n))) for n in range(20)))
        for number in range(20):
            assert (await client.answer()).text == f"answer {number + 1} to: {number}"


async def test_head_has_no_body_and_the_connection_goes_on(node: Node) -> None:
    async with line(node) as client:
        await client.send(head(method="HEAD", path="/v1/models"))
        first = await client.answer("HEAD")
        await client.send(head(method="GET", path="/v1/models"))
        second = await client.answer()
        assert int(first.headers["content-length"]) == len(second.body) > 0
        await client.send(head(method="HEAD"))
        assert (await client.answer("HEAD")).status == 405
        await client.send(head(method="OPTIONS"))
        assert (await client.answer()).status == 204


async def test_connection_close_is_obeyed(node: Node, upstream: ScriptedUpstream) -> None:
    async with line(node) as client:
        await client.send(post(None, "Connection: close"))
        assert (await client.answer()).headers["connection"] == "close"
        assert await gone(client)


async def test_http_1_0(node: Node, upstream: ScriptedUpstream) -> None:
    """No chunks for those who do not know them: a stream then ends with its connection."""
    for stream in (False, True):
        body = document(stream=stream)
        start = head(f"Content-Length: {len(body)}").replace(b"HTTP/1.1", b"HTTP/1.0")
        async with line(node) as client:
            await client.send(start + body)
            got = await client.closed()
        status, _, rest = got.partition(b"\r\n")
        fields, _, content = rest.partition(b"\r\n\r\n")
        assert status.split(b" ")[1] == b"200"
        assert b"chunked" not in fields.lower()
        assert content.endswith(b"data: [DONE]\n\n" if stream else b"}")


# Time


@pytest.mark.parametrize("sent", [b"", b"POST /v1/chat", head()[:-2]])
async def test_row_82_headers_that_do_not_come(hasty: Node, sent: bytes) -> None:
    async with line(hasty) as client:
        await client.send(sent)
        answer = await client.answer()
        assert (answer.status, answer.code) == (408, "timeout")
        assert answer.headers["connection"] == "close"
        assert await gone(client)


async def test_row_82_headers_that_drip(hasty: Node) -> None:
    """The deadline is absolute: a byte now and then does not move it."""
    async with line(hasty) as client:
        dripping = asyncio.get_running_loop().create_task(drip(client, b"x" * 10_000))
        assert (await client.answer()).status == 408
        dripping.cancel()
        await asyncio.gather(dripping, return_exceptions=True)


async def drip(client: Line, data: bytes) -> None:
    await client.send(b"GET / HTTP/1.1\r\nX-A: ")
    for byte in data:
        await client.send(bytes([byte]))
        await asyncio.sleep(0.01)


async def test_row_82_headers_that_drip_on_a_kept_connection(
    hasty: Node, upstream: ScriptedUpstream
) -> None:
    async with line(hasty) as client:
        await client.send(post())
        assert (await client.answer()).status == 200
        await client.send(b"POST /v1")
        assert (await client.answer()).status == 408


async def test_row_82_a_body_that_does_not_come(hasty: Node, upstream: ScriptedUpstream) -> None:
    async with line(hasty) as client:
        await client.send(head("Content-Length: 100") + b"{")
        answer = await client.answer()
        assert (answer.status, answer.code) == (408, "timeout")
        assert answer.headers["connection"] == "close"


async def test_a_body_that_drips(hasty: Node, upstream: ScriptedUpstream) -> None:
    async with line(hasty) as client:
        await client.send(head("Content-Length: 100000"))
        dripping = asyncio.get_running_loop().create_task(drip(client, b"x" * 10_000))
        assert (await client.answer()).status == 408
        dripping.cancel()
        await asyncio.gather(dripping, return_exceptions=True)


async def test_an_idle_connection_is_closed(hasty: Node, upstream: ScriptedUpstream) -> None:
    async with line(hasty) as client:
        await client.send(post())
        assert (await client.answer()).status == 200
        assert await client.closed() == b""


async def test_more_connections_than_allowed_are_closed(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    http1 = {"connections_max": 2}
    async with (
        running_node(tmp_path, upstream.base_url, http1=http1) as narrow,
        line(narrow) as one,
        line(narrow) as two,
    ):
        for client in (one, two):
            await client.send(post())
            assert (await client.answer()).status == 200
        async with line(narrow) as third:
            with suppress(ConnectionResetError):
                await third.send(post())
            assert await gone(third)
        for client in (one, two):
            await client.send(post())
            assert (await client.answer()).status == 200


@pytest.mark.parametrize("stream", [True, False])
async def test_row_58_a_client_that_stops_reading_is_given_up(
    upstream: ScriptedUpstream, tmp_path: Path, stream: bool
) -> None:
    async def endless(exchange: Exchange) -> Any:
        if not stream:
            document = {"message": {"role": "assistant", "content": "x" * 30_000_000}}
            return await exchange.json({"choices": [{**document, "finish_reason": "stop"}]})
        response = await exchange.open_stream()
        while True:
            await response.write(sse(chunk({"content": "x" * 10_000})))

    upstream.script = endless
    async with (
        running_node(tmp_path, upstream.base_url, http1=HASTE) as hasty,
        line(hasty) as client,
        logged("event=timeout phase=write proto=h1"),
    ):
        client.reader._transport.pause_reading()  # type: ignore[attr-defined]
        await client.send(post(document(f"endless {stream}", stream=stream)))
    if stream:
        await asyncio.wait_for(upstream.calls[0].gone.wait(), 20)


async def test_a_slow_client_that_goes_on_reading_is_not_given_up(
    hasty: Node, upstream: ScriptedUpstream
) -> None:
    """The whole takes many times as long as a stall may: what counts is that some is taken."""
    size = 24_000_000

    async def large(exchange: Exchange) -> Any:
        document = {"message": {"role": "assistant", "content": "x" * size}}
        return await exchange.json({"choices": [{**document, "finish_reason": "stop"}]})

    upstream.script = large
    async with line(hasty) as client:
        await client.send(post(document("large")))
        got = 0
        while got < size:
            part = await client.reader.read(1_000_000)
            assert part, f"given up after {got} bytes"
            got += len(part)
            await asyncio.sleep(0.02)


# Logs


async def test_case_12_a_request_id_of_theirs_is_not_ours(
    node: Node, upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    forged = "a b WARNING auth event=auth_fail"
    async with line(node) as client:
        for value in ("\xff\xfe", forged):
            await client.send(post(None, f"X-Request-Id: {value}"))
            answer = await client.answer()
            assert answer.status == 200
            assert answer.headers["x-request-id"] not in (value, "")
        await client.send(post(None, "X-Request-Id: a\nWARNING auth event=auth_fail"))
        assert (await client.answer()).status == 400
    assert "auth_fail" not in caplog.text


async def test_case_24_paths_and_agents_are_not_logged_as_lines(
    node: Node, upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    forged = "WARNING%20auth%20event=auth_fail\x85src=198.51.100.7"
    async with line(node) as client:
        await client.send(head(f"User-Agent: {forged}", method="GET", path=f"/{forged}"))
        assert (await client.answer()).status in (400, 404)
    assert "auth_fail" not in caplog.text
    assert all(len(record.getMessage().splitlines()) == 1 for record in caplog.records)
