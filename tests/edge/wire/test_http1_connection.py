"""The life of an HTTP/1.1 connection: what ends it, when, and what is still said before.

Here the wire stands alone with a handler that does what a test says; `test_http1_raw` sends the
same kind of bytes to a whole node.
"""

import asyncio
import contextlib
import resource
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import HttpVersion11
from aiohttp.http import RawRequestMessage
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from edge.errors import Overloaded, StreamCut
from edge.listen import Address, bind_tcp
from edge.protection.connections import Connections
from edge.protection.settings import ProtectionSettings
from edge.request import (
    LARGE_BODY_BYTES,
    PIECE_BYTES,
    EventStream,
    Reply,
    Request,
    Response,
)
from edge.wire.http1 import Http1Settings, Http1Wire
from edge.wire.http1_head import MEMO_BYTES_MAX, HeadReader
from edge.wire.tls import ServerTls
from tests.edge.wire.http3_harness import (
    JSON,
    SSE,
    FakeHandler,
    Pending,
    Source,
    certificate,
    eventually,
)

Rows = pytest.mark.parametrize
ALT_SVC = 'h3=":443"; ma=900'
GET = b"GET /v1/models HTTP/1.1\r\nHost: edge\r\n\r\n"


def post(*fields: str, body: bytes = b"", version: str = "1.1") -> bytes:
    lines = [f"POST / HTTP/{version}", "Host: edge", *fields]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


@dataclass
class Peer:
    """The client's end of one connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def head(self) -> tuple[int, dict[str, str]]:
        async with asyncio.timeout(10):
            text = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status, *lines = text.removesuffix("\r\n\r\n").split("\r\n")
        assert status.startswith(("HTTP/1.1 ", "HTTP/1.0 200"))
        fields = dict(line.split(": ", 1) for line in lines)
        assert len(fields) == len(lines)
        return int(status.split(" ")[1]), fields

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        status, fields = await self.head()
        length = int(fields.get("content-length", 0))
        return status, fields, await self.reader.readexactly(length)

    async def ask(self, data: bytes) -> tuple[int, dict[str, str], bytes]:
        self.writer.write(data)
        return await self.answer()

    async def rest(self) -> bytes:
        """What else comes before the end. A reset is an end."""
        got = b""
        with contextlib.suppress(ConnectionResetError):
            async with asyncio.timeout(10):
                while part := await self.reader.read(65536):
                    got += part
        return got


@dataclass
class Place:
    """A wire, and where it listens."""

    wire: Http1Wire
    address: tuple[str, int]
    tls: ssl.SSLContext | None = None
    peers: list[Peer] = field(default_factory=list)

    async def connect(self, *, plain: bool = False) -> Peer:
        tls = None if plain else self.tls
        peer = Peer(*await asyncio.open_connection(*self.address, ssl=tls))
        self.peers.append(peer)
        return peer


@asynccontextmanager
async def place(
    handler: FakeHandler,
    *,
    tls: bool = False,
    send_buffer: int = 0,
    connections: Connections | None = None,
    **settings: Any,
) -> AsyncIterator[Place]:
    sock = bind_tcp(Address("127.0.0.1", 0))
    if send_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
    server, client = _contexts() if tls else (None, None)
    alt_svc = ALT_SVC if tls else None
    wire = Http1Wire(sock, server, handler, Http1Settings(**settings), alt_svc, connections)
    await wire.start()
    here = Place(wire, sock.getsockname()[:2], client)
    try:
        yield here
    finally:
        for peer in here.peers:
            peer.writer.close()
        await wire.stop(0)
        assert wire.connections == 0


def _contexts() -> tuple[ServerTls, ssl.SSLContext]:
    server = ServerTls(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(*certificate())
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    return server, client


def later(reply: Callable[[Request], Coroutine[Any, Any, Reply]]) -> FakeHandler:
    return FakeHandler(answer=reply)


# Framing that the parser alone would let pass


MISFRAMED: dict[str, bytes] = {
    "a coding that is not known": post("Transfer-Encoding: gzip, chunked") + b"0\r\n\r\n",
    "a coding in HTTP/1.0": post("Transfer-Encoding: chunked", version="1.0") + b"0\r\n\r\n",
    "version 2.0": b"GET / HTTP/2.0\r\nHost: edge\r\n\r\n",
    "version 0.9": b"GET / HTTP/0.9\r\nHost: edge\r\n\r\n",
    "version 1.11": b"GET / HTTP/1.11\r\nHost: edge\r\n\r\n",
    "no version at all": b"GET /\r\n\r\n",
    "a host with a blank": b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
    "a host with a path": b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "a host with a user": b"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n",
    "a host in Latin-1": b"GET / HTTP/1.1\r\nHost: \xe9\r\n\r\n",
    "a target in Latin-1": b"GET /\xff\xfe HTTP/1.1\r\nHost: a\r\n\r\n",
    "a target with a nul": b"GET /a\x00b HTTP/1.1\r\nHost: a\r\n\r\n",
    "a relative target": b"GET a HTTP/1.1\r\nHost: a\r\n\r\n",
    "an asterisk without OPTIONS": b"GET * HTTP/1.1\r\nHost: a\r\n\r\n",
    "a method in lower case": b"get / HTTP/1.1\r\nHost: a\r\n\r\n",
    "a method that is none": b"GE(T / HTTP/1.1\r\nHost: a\r\n\r\n",
    "another protocol": b"\x00\x01\x02\x03\r\n\r\n",
    "a preface of a proxy": b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + GET,
    "a field name in Latin-1": b"GET / HTTP/1.1\r\nHost: a\r\nX\xe9: a\r\n\r\n",
    "a bell in a value": b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x07\r\n\r\n",
    "a length of 26 digits": post("Content-Length: " + "9" * 26),
}


@Rows("name", MISFRAMED)
async def test_row_13_what_cannot_be_trusted_ends_the_connection(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    handler = FakeHandler()
    async with place(handler) as here:
        peer = await here.connect()
        peer.writer.write(MISFRAMED[name])
        peer.writer.write(GET)
        status, fields, body = await peer.answer()
        assert (status, fields["connection"], body) == (400, "close", b"bad_request")
        assert fields["server"] == "promptedge"
        assert await peer.rest() == b""
    assert not handler.requests
    assert [(r.levelname, r.getMessage().split(" src")[0]) for r in caplog.records] == [
        ("WARNING", "event=bad_request proto=h1 reason=framing")
    ]


BAD_CHUNKS = [
    b"-5\r\nhello\r\n",
    b"0x5\r\nhello\r\n",
    b"+5\r\nhello\r\n",
    b" 5\r\nhello\r\n",
    b"5 \r\nhello\r\n",
    b"5\nhello\r\n",
    b"5;a\nhello\r\n",
    b"3\r\nhello\r\n",
    b"5\r\nhello0\r\n",
    b"10000000000000005\r\nhello\r\n",
    b"\r\nhello\r\n",
    b"0\r\nno trailer\r\n\r\n",
]


@Rows("chunk", BAD_CHUNKS)
@Rows("together", [True, False])
async def test_row_13_chunks_that_are_none_wherever_the_packets_end(
    chunk: bytes, together: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """At once, not when the body is late: the parser says nothing to who waits for the rest."""
    handler = FakeHandler()
    async with place(handler, body_timeout_s=60.0) as here:
        peer = await here.connect()
        peer.writer.write(post("Transfer-Encoding: chunked"))
        if not together:
            await eventually(lambda: handler.admitted)
        peer.writer.write(chunk + b"0\r\n\r\n")
        status, fields, _ = await peer.answer()
        assert (status, fields["connection"]) == (400, "close")
        assert await peer.rest() == b""
    assert not handler.requests
    assert "Traceback" not in caplog.text


LARGE = "x" * 7000


async def test_heads_that_are_large_in_all() -> None:
    """No field of them is too long. The limit is that of HTTP/3."""
    handler = FakeHandler()
    async with place(handler) as here:
        for fields in ([f"X: {LARGE}"] * 6, ["X: y"] * 100):
            peer = await here.connect()
            status, answered, body = await peer.ask(post(*fields))
            assert (status, answered["connection"], body) == (431, "close", b"head_too_large")
            assert await peer.rest() == b""
        for fields in ([f"X: {LARGE}"] * 4, ["X: y"] * 99):
            assert (await (await here.connect()).ask(post(*fields)))[0] == 200
        peer = await here.connect()
        peer.writer.write(post(*([f"X: {LARGE}"] * 6))[:-4])  # which never ends
        assert (await peer.answer())[0] == 431
        assert await peer.rest() == b""
    assert len(handler.requests) == 2


def test_heads_are_remembered_within_bounds() -> None:
    reader = HeadReader(32 * 1024)
    assert reader.read(_message("/a")) is reader.read(_message("/a"))
    for number in range(3000):
        assert reader.read(_message(f"/{number}", "x" * 2000)).path == f"/{number}"
    held = int(repr(reader).rstrip(">").partition("bytes=")[2])
    assert 0 < held <= MEMO_BYTES_MAX


def _message(path: str, value: str = "") -> RawRequestMessage:
    raw = ((b"Host", b"edge"), (b"X", value.encode()))
    none: CIMultiDictProxy[str] = CIMultiDictProxy(CIMultiDict())
    return RawRequestMessage(
        "GET", path, HttpVersion11, none, raw, False, None, False, False, URL(path)
    )


@Rows("path", ["/a?b=c&d", "//admin", "/%2e%2e/x", "http://evil/v1/models"])
async def test_case_14_paths_are_handed_on_as_they_came(path: str) -> None:
    handler = FakeHandler()
    async with place(handler) as here:
        await (await here.connect()).ask(f"GET {path} HTTP/1.1\r\nHost: a:1\r\n\r\n".encode())
    head = handler.requests[0].head
    assert (head.path, head.query) == (path.partition("?")[0], path.partition("?")[2])
    assert head.authority == "a:1"


async def test_case_15_connect_opens_no_tunnel() -> None:
    """What follows is not a request, whatever it looks like."""
    refuse = FakeHandler(refusal=lambda head: Response(405, (("allow", "POST"),)))
    async with place(refuse) as here:
        peer = await here.connect()
        tunnelled = b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n" + GET
        status, fields, _ = await peer.ask(tunnelled)
        assert (status, fields["connection"]) == (405, "close")
        peer.writer.write_eof()
        assert await peer.rest() == b""


@Rows("upgrade", ["websocket", "h2c", "websocket, h2c"])
@Rows("chunked", [True, False])
async def test_case_2_an_upgrade_is_not_taken(upgrade: str, chunked: bool) -> None:
    """The body is the body, however much it looks like a request, and the next request is next."""
    handler = FakeHandler()
    ask = ("Connection: Upgrade, HTTP2-Settings", f"Upgrade: {upgrade}", "HTTP2-Settings: AAMAAABk")
    if chunked:
        sent = post(*ask, "Transfer-Encoding: chunked") + b"%x\r\n%b\r\n0\r\n\r\n" % (len(GET), GET)
    else:
        sent = post(*ask, body=GET)
    async with place(handler) as here:
        peer = await here.connect()
        assert (await peer.ask(sent))[::2] == (200, GET)
        assert (await peer.ask(post(body=b"next")))[::2] == (200, b"next")
    assert [request.body for request in handler.requests] == [GET, b"next"]


# 100-continue, and HTTP/1.0


async def test_row_10_a_100_is_sent_only_to_who_waits_for_it() -> None:
    async with place(FakeHandler()) as here:
        peer = await here.connect()
        assert (await peer.ask(post("Expect: 100-continue", body=b"here")))[::2] == (200, b"here")
        assert (await peer.ask(post("Expect: 100-continue")))[::2] == (200, b"nothing")
        peer.writer.write(post("Expect: 100-continue", "Content-Length: 4"))
        assert (await peer.head()) == (100, {})
        assert (await peer.ask(b"late"))[::2] == (200, b"late")
        old = await here.connect()
        old.writer.write(post("Expect: 100-continue", "Content-Length: 4", version="1.0"))
        assert (await old.ask(b"late"))[0] == 200


async def test_http_1_0_keeps_a_connection_only_when_asked() -> None:
    async with place(FakeHandler()) as here:
        peer = await here.connect()
        kept = b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
        for _ in range(2):
            assert (await peer.ask(kept))[1]["connection"] == "keep-alive"
        assert (await peer.ask(b"GET / HTTP/1.0\r\n\r\n"))[1]["connection"] == "close"
        assert await peer.rest() == b""
        new = await here.connect()
        assert "connection" not in (await new.ask(GET))[1]


@Rows("version", ["1.0", "1.1"])
async def test_a_live_stream_that_is_cut_does_not_end_as_one_that_is_whole(version: str) -> None:
    source = Source()
    async with place(FakeHandler(answer=source.answer)) as here:
        for end in (None, StreamCut("cut")):
            peer = await here.connect()
            peer.writer.write(post(version=version))
            status, fields = await peer.head()
            assert (status, "content-length" in fields) == (200, False)
            chunked = fields.get("Transfer-Encoding") == "chunked"
            assert chunked is (version == "1.1")
            source.queue.put_nowait(b"data: 1\n\n")
            source.queue.put_nowait(end)
            if end is None and chunked:
                assert await peer.reader.readuntil(b"0\r\n\r\n") == b"9\r\ndata: 1\n\n\r\n0\r\n\r\n"
                continue
            rest = await peer.rest()
            assert rest == (b"9\r\ndata: 1\n\n\r\n" if chunked else b"data: 1\n\n")


# What a refusal does to the connection


async def test_a_refusal_closes_only_what_has_an_unread_body() -> None:
    handler = FakeHandler(refusal=lambda head: Response(401, JSON, b"{}"))
    async with place(handler) as here:
        peer = await here.connect()
        assert "connection" not in (await peer.ask(post(body=b"whole")))[1]
        assert "connection" not in (await peer.ask(GET))[1]
        assert (await peer.ask(post("Content-Length: 9") + b"part"))[1]["connection"] == "close"


async def test_a_chunked_body_that_grows_is_refused_before_its_end() -> None:
    async with place(FakeHandler(body_bytes_max=100_000)) as here:
        peer = await here.connect()
        peer.writer.write(post("Transfer-Encoding: chunked"))
        for _ in range(11):
            peer.writer.write(b"%x\r\n%b\r\n" % (10_000, b"x" * 10_000))
        status, fields, body = await peer.answer()
        assert (status, fields["connection"], body) == (413, "close", b"body_too_large")


async def test_bodies_of_all_connections_have_a_limit_together() -> None:
    pending = Pending()
    async with place(
        FakeHandler(answer=pending.answer, body_bytes_max=1000), bodies_total_max_bytes=1500
    ) as here:
        first, second = await here.connect(), await here.connect()
        first.writer.write(post(body=b"x" * 900))
        await pending.started.wait()
        status, fields, body = await second.ask(post(body=b"x" * 900))
        assert (status, body) == (503, b"overloaded")
        assert "connection" not in fields
        pending.release.set()
        assert (await first.answer())[0] == 200
        assert (await second.ask(post(body=b"x" * 900)))[0] == 200


async def test_a_large_body_is_read_piece_by_piece() -> None:
    handler = FakeHandler()
    async with place(handler) as here:
        peer = await here.connect()
        small, large = b"x" * LARGE_BODY_BYTES, b"x" * (3 * PIECE_BYTES)
        assert (await peer.ask(post(body=small)))[2] == small
        assert handler.waits == 0
        assert (await peer.ask(post(body=large)))[2] == large
        assert handler.waits == 3


async def test_the_end_of_a_body_is_not_taken_for_a_head() -> None:
    async with place(FakeHandler()) as here:
        peer = await here.connect()
        data = post(body=b"x" * 200_000)
        peer.writer.write(data[:100_000])
        await eventually(lambda: here.wire._bodies.held)
        status, fields, _ = await peer.ask(data[100_000:])
        assert (status, "connection" in fields) == (200, False)
        (connection,) = here.wire._open
        assert connection._deadline is None
        assert (await peer.ask(data))[0] == 200


async def test_what_waits_to_be_read_stays_with_the_client() -> None:
    turn = asyncio.Event()
    handler = FakeHandler(may_read=turn.wait)
    async with place(handler) as here:
        peer, other = await here.connect(), await here.connect()
        large = b"x" * (4 * PIECE_BYTES)
        peer.writer.write(post(body=large))
        await eventually(lambda: handler.waits)
        assert (await other.ask(post(body=b"small")))[2] == b"small"
        assert here.wire._bodies.held < PIECE_BYTES
        turn.set()
        assert (await peer.answer())[2] == large
        assert here.wire._bodies.held == 0


async def test_who_waits_too_long_to_be_read_is_refused_and_not_read() -> None:
    async def never() -> None:
        raise Overloaded("Too many wait.")

    async with place(FakeHandler(may_read=never)) as here:
        peer = await here.connect()
        status, fields, body = await peer.ask(post(body=b"x" * PIECE_BYTES))
        assert (status, fields["connection"], body) == (503, "close", b"overloaded")
        await eventually(lambda: here.wire._bodies.held == 0)


async def test_large_bodies_leave_room_for_others() -> None:
    pending = Pending()
    async with place(
        FakeHandler(answer=pending.answer, body_bytes_max=700_000), bodies_total_max_bytes=2_000_000
    ) as here:
        peers = [await here.connect() for _ in range(2)]
        for peer in peers:
            peer.writer.write(post(body=b"x" * 700_000))
        await eventually(lambda: pending.live == 2)
        third, small = await here.connect(), await here.connect()
        third.writer.write(post("Content-Length: 700000") + b"x" * 599_000)  # the rest never comes
        assert (await third.answer())[0] == 503
        small.writer.write(post(body=b"x" * 2_000))
        await eventually(lambda: pending.live == 3)
        pending.release.set()
        assert [(await peer.answer())[0] for peer in (*peers, small)] == [200] * 3


# Time


async def test_a_half_of_a_pipelined_request_does_not_cut_the_answer_before_it() -> None:
    pending = Pending()
    async with place(FakeHandler(answer=pending.answer), header_timeout_s=0.1) as here:
        peer = await here.connect()
        peer.writer.write(post())
        await pending.started.wait()
        peer.writer.write(b"GET /half HTTP/1.1\r\n")
        (connection,) = here.wire._open
        await eventually(lambda: connection._close)  # the deadline has passed
        pending.release.set()
        assert (await peer.answer())[::2] == (200, b"late")
        assert await peer.rest() == b""


async def test_a_stray_line_end_after_a_body_is_no_request() -> None:
    async with place(FakeHandler(), header_timeout_s=0.1, idle_timeout_s=0.3) as here:
        peer = await here.connect()
        await peer.ask(post(body=b"x"))
        peer.writer.write(b"\r\n")
        assert await peer.rest() == b""  # idle, and not late


async def test_nothing_but_a_handshake() -> None:
    async with place(FakeHandler(), tls=True, header_timeout_s=0.1) as here:
        late = Peer(*await asyncio.open_connection(*here.address))
        assert await late.rest() == b""
        late.writer.close()
        for wrong in (b"SSH-2.0-OpenSSH_9.9\r\n", b"\x16\x03\x01", b"get / HTTP/1.1\r\n\r\n"):
            peer = await here.connect(plain=True)
            peer.writer.write(wrong)
            assert b"HTTP" not in await peer.rest()
        told = await here.connect(plain=True)
        told.writer.write(GET)
        assert (await told.rest()).startswith(b"HTTP/1.1 400 ")  # and then it is no longer there


async def test_a_slow_body_has_a_rate_and_not_only_pauses() -> None:
    """Each byte comes soon after the one before; all of them together come too slowly."""
    async with place(FakeHandler(), body_timeout_s=0.2, body_rate_min_bytes=1000) as here:
        peer = await here.connect()
        peer.writer.write(post("Content-Length: 100000"))
        dripping = asyncio.get_running_loop().create_task(_drip(peer))
        assert (await peer.answer())[::2] == (408, b"timeout")
        dripping.cancel()
        await asyncio.gather(dripping, return_exceptions=True)


async def _drip(peer: Peer) -> None:
    while True:
        peer.writer.write(b"x")
        await asyncio.sleep(0.01)


# Clients that close their side, or take nothing


async def test_a_client_that_closes_its_side_still_gets_what_is_at_hand() -> None:
    async with place(FakeHandler()) as here:
        peer = await here.connect()
        peer.writer.write(GET + post(body=b"second"))
        peer.writer.write_eof()
        assert (await peer.answer())[::2] == (200, b"nothing")
        assert (await peer.answer())[::2] == (200, b"second")
        assert await peer.rest() == b""


async def test_a_client_that_closes_its_side_is_told_that_it_was_the_last_answer() -> None:
    pending = Pending()
    async with place(FakeHandler(answer=pending.answer), half_closed_s=60.0) as here:
        peer = await here.connect()
        peer.writer.write(GET)
        await pending.started.wait()
        peer.writer.write_eof()
        (connection,) = here.wire._open
        await eventually(lambda: connection.half_closed)
        pending.release.set()
        assert (await peer.answer())[1]["connection"] == "close"
        assert await peer.rest() == b""


@Rows("tls", [False, True])
async def test_row_57_a_client_that_closes_its_side_may_as_well_have_left(tls: bool) -> None:
    pending = Pending()
    async with place(FakeHandler(answer=pending.answer), half_closed_s=0.05, tls=tls) as here:
        peer = await here.connect()
        peer.writer.write(GET)
        await pending.started.wait()
        peer.writer.close() if tls else peer.writer.write_eof()
        await asyncio.wait_for(pending.cancelled.wait(), 10)
        await eventually(lambda: not here.wire.connections)


async def test_an_idle_client_that_closes_its_side_is_gone() -> None:
    async with place(FakeHandler(), half_closed_s=60.0) as here:
        fresh, kept = await here.connect(), await here.connect()
        await kept.ask(GET)
        for peer in (fresh, kept):
            peer.writer.write_eof()
            assert await peer.rest() == b""
        await eventually(lambda: not here.wire.connections)


@Rows("size", [60_000, 4_000_000])
async def test_a_closing_connection_does_not_wait_for_who_takes_nothing(size: int) -> None:
    """Whether or not what is left to write is enough to call the writing paused."""
    large = FakeHandler(answer=lambda request: Response(200, JSON, b"x" * size))
    async with place(large, send_buffer=4096, write_stall_s=0.1) as here:
        deaf = socket.socket()
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(deaf, here.address)
        await loop.sock_sendall(deaf, post("Connection: close"))
        await eventually(lambda: here.wire.connections == 1 and large.requests)
        await eventually(lambda: not here.wire.connections)
        deaf.close()


async def test_case_3_an_address_with_too_many_connections_is_refused_before_its_tls() -> None:
    """Those count that never begin to shake hands, and a place is free again when they go."""
    strict = Connections(ProtectionSettings(trusted=(), connections_per_source_max=3))
    async with place(FakeHandler(), tls=True, connections=strict) as here:
        silent = [await here.connect(plain=True) for _ in range(3)]
        await eventually(lambda: here.wire.connections == 3)
        assert await (await here.connect(plain=True)).rest() == b""
        assert (here.wire.connections, here.wire.refused) == (3, 1)
        silent[0].writer.close()
        await eventually(lambda: here.wire.connections == 2)
        assert (await (await here.connect()).ask(GET))[0] == 200


async def test_who_never_shakes_hands_is_given_up() -> None:
    async with place(FakeHandler(), tls=True, header_timeout_s=0.2) as here:
        assert await (await here.connect(plain=True)).rest() == b""
        await eventually(lambda: not here.wire.connections)


async def test_an_address_may_come_so_often_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    strict = Connections(ProtectionSettings(trusted=(), new_connections_per_minute=2))
    async with place(FakeHandler(), connections=strict) as here:
        for _ in range(2):
            assert (await (await here.connect()).ask(GET))[0] == 200
        assert await (await here.connect()).rest() == b""
    assert "event=refused proto=h1 reason=too_many_new_connections src=127.0.0.1" in caplog.text


async def test_g13_without_descriptors_it_waits_for_somebody_to_leave(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with place(FakeHandler()) as here:
        waiting = [await here.connect() for _ in range(2)]
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        await eventually(lambda: here.wire.connections == 2)
        late = socket.socket()  # has its descriptor already
        late.setblocking(False)
        resource.setrlimit(resource.RLIMIT_NOFILE, (late.fileno(), hard))
        try:
            await asyncio.get_running_loop().sock_connect(late, here.address)
            await eventually(lambda: "event=accept_failed" in caplog.text)
            assert (await waiting[0].ask(GET))[0] == 200
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        await eventually(lambda: here.wire.connections == 3)
        late.close()
    assert "Too many open files" in caplog.text


async def test_more_connections_than_allowed(caplog: pytest.LogCaptureFixture) -> None:
    async with place(FakeHandler(), connections_max=2) as here:
        for _ in range(2):
            assert (await (await here.connect()).ask(GET))[0] == 200
        for _ in range(5):
            assert await (await here.connect()).rest() == b""
        here.peers[0].writer.close()
        await eventually(lambda: here.wire.connections == 1)
        assert (await (await here.connect()).ask(GET))[0] == 200
    assert caplog.text.count("reason=too_many_connections") == 1  # a line a second, with a count


# What the answers say


@Rows("value", ["a\r\nx-b: 1", "a\nx-b: 1", "a\rx-b: 1", "a\r\n\r\nHTTP/1.1 200 OK"])
async def test_a_field_cannot_become_two(value: str, caplog: pytest.LogCaptureFixture) -> None:
    handler = FakeHandler(answer=lambda request: Response(200, (("x-a", value),), b"{}"))
    async with place(handler) as here:
        peer = await here.connect()
        status, fields, _ = await peer.ask(GET)
        assert (status, "x-b" in fields) == (500, False)
        assert await peer.rest() == b""
    assert "event=bug proto=h1 error=ValueError" in caplog.text
    assert "x-b" not in caplog.text


@Rows("value", ["a\r\nx-b: 1", "a\nx-b: 1"])
async def test_a_field_of_a_stream_cannot_become_two(value: str) -> None:
    async def reply(request: Request) -> Reply:
        return EventStream(200, (*SSE, ("x-a", value)), Source().chunks())

    async with place(later(reply)) as here:
        peer = await here.connect()
        status, fields, _ = await peer.ask(GET)
        assert (status, "x-b" in fields) == (500, False)


async def test_row_80_alt_svc_is_on_every_answer_over_tls() -> None:
    source = Source()
    handler = FakeHandler(
        answer=lambda request: source.reply() if request.body else Response(200, JSON, b"{}"),
        refusal=lambda head: Response(404, JSON) if head.path == "/none" else None,
    )
    async with place(handler, tls=True, header_timeout_s=0.3) as here:
        assert here.wire.settings.header_timeout_s == 0.3
        for sent, expected in (
            (GET, 200),
            (b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", 200),
            (b"GET /none HTTP/1.1\r\nHost: a\r\n\r\n", 404),
            (b"GET / HTTP/1.1\r\n\r\n", 400),
            (b"GET / HTTP", 408),
            (post(body=b"stream"), 200),
        ):
            peer = await here.connect()
            peer.writer.write(sent)
            status, fields = await peer.head()
            low = {name.lower(): value for name, value in fields.items()}
            assert (status, low["alt-svc"], low["server"]) == (expected, ALT_SVC, "promptedge")
            assert "date" in low


async def test_alt_svc_is_not_said_in_clear_text() -> None:
    async with place(FakeHandler()) as here:
        assert "alt-svc" not in (await (await here.connect()).ask(GET))[1]


@Rows("method", ["GET", "POST", "PUT", "HEAD", "CONNECT"])
async def test_clear_text_on_the_port_for_tls_is_answered_in_clear_text(method: str) -> None:
    async with place(FakeHandler(), tls=True) as here:
        peer = await here.connect(plain=True)
        status, fields, _ = await peer.ask(f"{method} / HTTP/1.1\r\nHost: edge\r\n\r\n".encode())
        assert (status, fields["connection"], "alt-svc" in fields) == (400, "close", False)
        peer.writer.close()
        await eventually(lambda: here.wire.connections == 0)
        assert (await (await here.connect()).ask(GET))[0] == 200


async def test_a_204_has_no_length() -> None:
    async with place(FakeHandler(answer=lambda request: Response(204, ()))) as here:
        peer = await here.connect()
        for _ in range(2):
            peer.writer.write(GET)
            status, fields = await peer.head()
            assert (status, "content-length" in fields) == (204, False)


async def test_a_bug_is_named_and_its_words_are_kept(caplog: pytest.LogCaptureFixture) -> None:
    """An exception may quote the prompt."""

    def break_down(request: Request) -> Response:
        raise LookupError("the prompt said ...")

    async with place(FakeHandler(answer=break_down)) as here:
        assert (await (await here.connect()).ask(GET))[0] == 500
    assert "error=LookupError at=test_http1_connection.py:" in caplog.text
    assert "the prompt" not in caplog.text


# Drain: row 73


async def test_row_73_idle_connections_close_and_the_busy_finish() -> None:
    pending = Pending()
    handler = FakeHandler(
        answer=lambda r: pending.answer(r) if r.body else Response(200, JSON, b"{}")
    )
    async with place(handler) as here:
        idle, busy, fresh = [await here.connect() for _ in range(3)]
        await idle.ask(GET)
        busy.writer.write(post(body=b"slow"))
        await pending.started.wait()
        stopping = asyncio.get_running_loop().create_task(here.wire.stop(10))
        assert await idle.rest() == await fresh.rest() == b""
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(*here.address)
        assert not stopping.done()
        pending.release.set()
        status, fields, body = await busy.answer()
        assert (status, fields["connection"], body) == (200, "close", b"late")
        await asyncio.wait_for(stopping, 10)


async def test_row_73_a_connection_of_this_very_moment_closes_as_well() -> None:
    async with place(FakeHandler()) as here:
        peer = await here.connect()
        while not here.wire.connections:  # noqa: ASYNC110  one turn at a time, not to miss it
            await asyncio.sleep(0)
        await asyncio.wait_for(here.wire.stop(60), 10)
        assert await peer.rest() == b""


async def test_what_was_answered_is_delivered_before_the_wire_has_stopped() -> None:
    """The last bytes of a large answer wait for the client, and the loop may end with `stop`."""
    size = 3_000_000
    large = FakeHandler(answer=lambda request: Response(200, JSON, b"x" * size))
    async with place(large, send_buffer=4096) as here:
        peer = await here.connect()
        peer.writer.write(GET)
        await peer.head()
        stopping = asyncio.get_running_loop().create_task(here.wire.stop(10))
        assert len(await peer.reader.readexactly(size)) == size
        await asyncio.wait_for(stopping, 10)


@Rows("grace_s", [0, 0.05])
async def test_a_client_that_does_not_say_goodbye_does_not_hold_up_the_end(grace_s: float) -> None:
    """Over TLS both sides say that they close; a pool of idle connections never looks."""
    async with place(FakeHandler(), tls=True) as here:
        assert here.tls is not None
        deaf = socket.create_connection(here.address)
        shake = asyncio.to_thread(here.tls.wrap_socket, deaf)
        with await shake as silent:
            await eventually(lambda: here.wire.connections == 1)
            await asyncio.wait_for(here.wire.stop(grace_s), 10)
            assert here.wire.connections == 0
            assert silent.fileno() > 0


@Rows("grace_s", [0, 0.05])
async def test_stop_does_not_wait_longer_than_it_was_told(grace_s: float) -> None:
    pending = Pending()
    async with place(FakeHandler(answer=pending.answer)) as here:
        peer = await here.connect()
        peer.writer.write(GET)
        await pending.started.wait()
        await asyncio.wait_for(here.wire.stop(grace_s), 10)
        assert pending.cancelled.is_set()
        assert here.wire.connections == 0


async def test_row_80_alt_svc_is_taken_back_on_drain() -> None:
    pending = Pending()
    async with place(FakeHandler(answer=pending.answer), tls=True) as here:
        peer = await here.connect()
        peer.writer.write(GET)
        await pending.started.wait()
        here.wire.drain()
        pending.release.set()
        assert (await peer.answer())[1]["alt-svc"] == "clear"
