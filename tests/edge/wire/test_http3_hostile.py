"""What a client may not do, and that it costs nobody else anything.

Rows 70 to 72 of the conformance table; findings 2 and 3, threats B1, B2, B4, B5 and B7 and case 6
of the security paper. The limits are tested, with the least traffic that reaches them.
"""

import asyncio
import logging

import pylsqpack
import pytest
from aioquic.buffer import encode_uint_var
from aioquic.h3.connection import encode_frame
from aioquic.quic.packet import QuicStreamFrame

from edge.protection.connections import Connections
from edge.protection.settings import ProtectionSettings
from edge.request import Response
from edge.wire.http3 import Http3Settings, Http3Wire
from tests.edge.wire.http3_harness import JSON, FakeHandler, Pending, eventually, serving, talking
from tests.fakes.h3_client import H3Client, H3Reset, H3Stream, h3_connect

GOOD = [
    (b":method", b"POST"),
    (b":scheme", b"https"),
    (b":authority", b"localhost"),
    (b":path", b"/"),
]


def section(fields: list[tuple[bytes, bytes]]) -> bytes:
    _, block = pylsqpack.Encoder().encode(0, fields)
    return block


def headers_frame(fields: list[tuple[bytes, bytes]]) -> bytes:
    return encode_frame(0x1, section(fields))


def uni_stream(client: H3Client, data: bytes) -> int:
    stream_id = client.quic.get_next_available_stream_id(is_unidirectional=True)
    client.quic.send_stream_data(stream_id, data)
    client.transmit()
    return stream_id


async def works(client: H3Client) -> bool:
    return (await client.request("POST", "/", body=b"still")).body == b"still"


def without(name: bytes) -> list[tuple[bytes, bytes]]:
    return [field for field in GOOD if field[0] != name]


ROW_71 = {
    "uppercase name": [*GOOD, (b"X-Upper", b"1")],
    "missing path": without(b":path"),
    "missing scheme": without(b":scheme"),
    "missing method": without(b":method"),
    "duplicate pseudo": [*GOOD, (b":path", b"/other")],
    "unknown pseudo": [*GOOD, (b":protocol", b"websocket")],
    "late pseudo": [*without(b":path"), (b"a", b"b"), (b":path", b"/")],
    "connection": [*GOOD, (b"connection", b"close")],
    "transfer-encoding": [*GOOD, (b"transfer-encoding", b"chunked")],
    "te gzip": [*GOOD, (b"te", b"gzip")],
    "CR LF in a value": [*GOOD, (b"a", b"b\r\nc: d")],
    "NUL in a value": [*GOOD, (b"a", b"b\x00c")],
    "blank before a value": [*GOOD, (b"a", b" b")],
    "space in a name": [*GOOD, (b"a b", b"c")],
    "no authority": without(b":authority"),
    "empty authority": [*without(b":authority"), (b":authority", b"")],
    "userinfo": [*without(b":authority"), (b":authority", b"a@b")],
    "two authorities": [*GOOD, (b"host", b"elsewhere")],
    "two hosts": [*without(b":authority"), (b"host", b"a"), (b"host", b"a")],
    "path without slash": [*without(b":path"), (b":path", b"admin")],
    "path with a blank": [*without(b":path"), (b":path", b"/a b")],
    "path with a line": [*without(b":path"), (b":path", b"/a\r\nx: y")],
    "absolute path": [*without(b":path"), (b":path", b"http://evil/")],
    "negative length": [*GOOD, (b"content-length", b"-1")],
    "signed length": [*GOOD, (b"content-length", b"+1")],
    "two lengths": [*GOOD, (b"content-length", b"1"), (b"content-length", b"1")],
    "endless length": [*GOOD, (b"content-length", b"9" * 5000)],
    "connect with a path": [*without(b":method"), (b":method", b"CONNECT")],
    "bad method": [*without(b":method"), (b":method", b"GET /x")],
}


@pytest.mark.parametrize("fields", ROW_71.values(), ids=ROW_71.keys())
async def test_row_71_a_malformed_request_is_an_error_of_its_stream(
    fields: list[tuple[bytes, bytes]],
) -> None:
    handler = FakeHandler()
    async with talking(handler) as (wire, client):
        beside = client.open("POST", "/")
        stream = client.open_fields(fields)
        with pytest.raises(H3Reset) as caught:
            await stream.response()
        assert caught.value.code == 0x10E  # H3_MESSAGE_ERROR
        await client.until(lambda: stream.stop_code is not None)
        assert stream.stop_code == 0x10E
        beside.send(b"other streams live", end=True)
        assert (await beside.response()).body == b"other streams live"
        assert await works(client)
        assert wire.counters.malformed == 1
        assert len(handler.requests) == 2


async def test_row_71_malformed_trailers() -> None:
    async with talking(FakeHandler()) as (_, client):
        stream = client.open("POST", "/")
        stream.send(b"body")
        client.h3.send_headers(stream.stream_id, [(b":path", b"/")], end_stream=True)
        client.transmit()
        with pytest.raises(H3Reset) as caught:
            await stream.response()
        assert caught.value.code == 0x10E
        assert await works(client)


async def test_a_stream_that_ends_without_a_request() -> None:
    async with talking(FakeHandler()) as (_, client):
        stream = client.open_raw()
        stream.send_raw(b"", end=True)
        with pytest.raises(H3Reset) as caught:
            await stream.response()
        assert caught.value.code == 0x10D  # H3_REQUEST_INCOMPLETE
        assert await works(client)


ROW_70 = {
    "DATA before HEADERS": (encode_frame(0x0, b"x"), 0x105),
    "SETTINGS on a request": (encode_frame(0x4, b""), 0x105),
    "GOAWAY on a request": (encode_frame(0x7, b"\x00"), 0x105),
    "PUSH_PROMISE": (encode_frame(0x5, b"\x00"), 0x105),
    "HTTP/2 PRIORITY": (encode_frame(0x2, b""), 0x105),
    "HTTP/2 PING": (encode_frame(0x6, b""), 0x105),
    "HTTP/2 WINDOW_UPDATE": (encode_frame(0x8, b""), 0x105),
    "HTTP/2 CONTINUATION": (encode_frame(0x9, b""), 0x105),
    "DATA after trailers": (
        headers_frame(GOOD) + headers_frame([(b"a", b"b")]) + encode_frame(0x0, b"x"),
        0x105,
    ),
    "HEADERS after trailers": (
        headers_frame(GOOD) + headers_frame([(b"a", b"b")]) * 2,
        0x105,
    ),
    "undecodable block": (encode_frame(0x1, b"\x02\x00\x80"), 0x200),
    "empty block": (encode_frame(0x1, b""), 0x200),
}


@pytest.mark.parametrize(("data", "code"), ROW_70.values(), ids=ROW_70.keys())
async def test_row_70_a_peer_that_does_not_speak_http_3(data: bytes, code: int) -> None:
    async with talking(FakeHandler()) as (wire, client):
        client.open_raw().send_raw(data)
        assert (await client.until_closed()).error_code == code
        await _gone(wire)
        assert wire.closed[f"{code:#x}"] == 1


async def test_row_70_a_frame_cut_by_the_end_of_the_stream() -> None:
    async with talking(FakeHandler()) as (_, client):
        client.open_raw().send_raw(headers_frame(GOOD) + b"\x00\x10abc", end=True)
        assert (await client.until_closed()).error_code == 0x106  # H3_FRAME_ERROR


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x00", 0x103),  # a second control stream
        (b"\x02", 0x103),  # a second QPACK encoder stream
        (b"\x01\x00", 0x103),  # a push stream
    ],
)
async def test_row_70_unidirectional_streams_that_may_not_be(data: bytes, code: int) -> None:
    async with talking(FakeHandler()) as (_, client):
        assert await works(client)
        uni_stream(client, data)
        assert (await client.until_closed()).error_code == code


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (encode_frame(0x4, b""), 0x105),  # SETTINGS twice
        (encode_frame(0x0, b"x"), 0x105),  # DATA on the control stream
        (encode_frame(0x2, b"x"), 0x105),  # a frame of HTTP/2
        (b"\x0d" + encode_uint_var(1 << 20), 0x107),  # MAX_PUSH_ID of a megabyte
    ],
)
async def test_row_70_on_the_control_stream(data: bytes, code: int) -> None:
    async with talking(FakeHandler()) as (_, client):
        assert await works(client)
        assert client.h3._local_control_stream_id is not None
        client.quic.send_stream_data(client.h3._local_control_stream_id, data)
        client.transmit()
        assert (await client.until_closed()).error_code == code


async def test_row_70_the_control_stream_is_closed() -> None:
    async with talking(FakeHandler()) as (_, client):
        assert await works(client)
        assert client.h3._local_control_stream_id is not None
        client.quic.send_stream_data(client.h3._local_control_stream_id, b"", True)
        client.transmit()
        assert (await client.until_closed()).error_code == 0x104


async def test_row_72_what_must_be_ignored_is_ignored() -> None:
    grease = encode_frame(0x21 + 0x1F * 1000, b"grease")
    async with talking(FakeHandler()) as (_, client):
        uni_stream(client, encode_uint_var(0x21 + 0x1F * 7) + b"whatever")
        assert client.h3._local_control_stream_id is not None
        client.quic.send_stream_data(client.h3._local_control_stream_id, encode_frame(0x7, b"\x00"))
        client.quic.send_stream_data(client.h3._local_control_stream_id, grease)
        stream = client.open_raw()
        stream.send_raw(grease + headers_frame(GOOD) + grease)
        stream.send_raw(encode_frame(0x0, b"body") + grease, end=True)
        assert (await stream.response()).body == b"body"


async def test_finding_3_a_header_block_that_is_declared_too_large(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Refused on the frame's header: not a byte of the block has been sent."""
    async with talking(FakeHandler()) as (wire, client):
        client.open_raw().send_raw(b"\x01" + encode_uint_var(16 * 1024 + 1))
        assert (await client.until_closed()).error_code == 0x107  # H3_EXCESSIVE_LOAD
        await _gone(wire)
    assert "event=closed code=0x107" in caplog.text


async def test_finding_3_case_6a_a_block_that_decodes_to_far_more_than_its_size() -> None:
    # One byte for each of them: an entry of QPACK's static table.
    block = b"\x00\x00" + b"\xff\x11" * 2000
    async with talking(FakeHandler()) as (_, client):
        client.open_raw().send_raw(encode_frame(0x1, block))
        assert (await client.until_closed()).error_code == 0x107


@pytest.mark.parametrize(
    ("fields", "fits"),
    [
        ([(b"a", b"")] * 96, True),
        ([(b"a", b"")] * 97, False),
        ([(b"a", b"x" * 15_000)] * 1, True),
        ([(b"a", b"0" * 12_500)] * 2, True),
        ([(b"a", b"0" * 16_700)] * 2, False),
    ],
)
async def test_finding_3_number_and_size_of_fields(
    fields: list[tuple[bytes, bytes]], fits: bool
) -> None:
    # Digits cost five bits each on the wire, so the decoded limit is met before the encoded one.
    settings = Http3Settings(header_block_max_bytes=32 * 1024)
    async with talking(FakeHandler(), settings) as (_, client):
        stream = client.open_fields(GOOD + fields, end=True)
        if fits:
            assert (await stream.response()).status == 200
        else:
            assert (await client.until_closed()).error_code == 0x107


async def test_finding_3_holds_for_trailers_as_well() -> None:
    async with talking(FakeHandler()) as (_, client):
        stream = client.open("POST", "/")
        stream.send(b"body")
        stream.send_raw(headers_frame([(b"a", b"")] * 101), end=True)
        assert (await client.until_closed()).error_code == 0x107


async def test_frames_that_carry_nothing_are_counted() -> None:
    async with talking(FakeHandler()) as (_, client):
        stream = client.open_fields(GOOD)
        stream.send_raw(encode_frame(0x0, b"") * 100)
        assert (await client.until_closed()).error_code == 0x107


async def test_finding_2_the_window_follows_what_was_delivered() -> None:
    """Case 6b: data behind a hole buys no window, and the connection ends at the deadline."""
    settings = Http3Settings(header_timeout_s=0.5, connection_window_bytes=300_000)
    async with talking(FakeHandler(), settings) as (wire, client):
        streams = [client.open_raw() for _ in range(4)]
        for stream in streams:
            _behind_a_hole(client, stream, 60_000)
        await eventually(lambda: _held(wire) >= 200_000)
        (link,) = wire._endpoint._links
        assert link.quic._local_max_data.value <= 300_000 + 10_000  # SETTINGS were delivered
        assert {s.max_stream_data_local for _, s in link.quic.request_streams()} == {262_144}
        assert (await client.until_closed()).error_code == 0x107
        await _gone(wire)
        assert wire.counters.timeouts >= 1


def _behind_a_hole(client: H3Client, stream: H3Stream, size: int) -> None:
    """Everything but the first byte, which stays away for good."""
    sender = client.quic._streams[stream.stream_id].sender
    sender.write(b"x" * size)
    sender._pending.subtract(0, 1)
    client.transmit()


def _held(wire: Http3Wire) -> int:
    links = wire._endpoint._links
    return sum(
        len(stream.receiver._buffer) for link in links for _, stream in link.quic.request_streams()
    )


async def test_finding_2_more_than_the_window_is_an_error() -> None:
    async with talking(FakeHandler()) as (wire, client):
        stream = client.open_raw()
        quic_stream = client.quic._streams[stream.stream_id]
        quic_stream.max_stream_data_remote = 1 << 40
        client.quic._remote_max_data = 1 << 40
        frame = QuicStreamFrame(data=b"x", offset=262_144)
        quic_stream.sender.get_frame = lambda *_: frame  # type: ignore[method-assign]
        quic_stream.sender.buffer_is_empty = False
        quic_stream.sender.highest_offset = 262_145
        client.transmit()
        assert (await client.until_closed()).error_code == 0x3  # FLOW_CONTROL_ERROR
        await _gone(wire)
        assert wire.closed["quic:0x3"] == 1


async def test_b7_many_holes_are_not_kept() -> None:
    """Every second byte: each of them would be a range to search from then on."""
    async with talking(FakeHandler()) as (wire, client):
        stream = client.open_raw()
        sender = client.quic._streams[stream.stream_id].sender
        sender.write(b"x" * 2000)
        for at in range(0, 2000, 2):
            sender._pending.subtract(at, at + 1)
        client.transmit()
        assert (await client.until_closed()).error_code == 0x107
        await _gone(wire)


async def test_b1_rapid_reset_is_bounded_by_live_tasks_and_by_an_allowance() -> None:
    pending = Pending()
    handler = FakeHandler(answer=pending.answer)
    settings = Http3Settings(resets_burst=100, resets_per_s=0.001)
    async with talking(handler, settings) as (wire, client):
        count = 0
        while client.closed is None and count < 1000:
            stream = client.open("GET", "/", end=True)
            stream.stop()
            count += 1
            await asyncio.sleep(0)
        assert (await client.until_closed()).error_code == 0x107
        assert pending.live_max <= 100
        assert len(handler.requests) <= 101 + 100  # what was under way when the last was spent
        await _gone(wire)
        assert wire.in_flight == 0


async def test_b2_resets_that_a_client_makes_us_send_count_as_well() -> None:
    settings = Http3Settings(resets_burst=20, resets_per_s=0.001)
    async with talking(FakeHandler(), settings) as (wire, client):
        for _ in range(40):
            client.open_fields(without(b":path"))
        assert (await client.until_closed()).error_code == 0x107
        await _gone(wire)
        assert wire.counters.malformed <= 40


async def test_b1_who_is_closed_for_resets_may_come_less_often() -> None:
    settings = Http3Settings(resets_burst=5, resets_per_s=0.001)
    strict = Connections(ProtectionSettings(trusted=(), new_connections_per_minute=2))
    async with serving(FakeHandler(), settings, strict) as (wire, address):
        async with h3_connect(address) as client:
            for _ in range(6):
                client.open_raw().reset()
            assert (await client.until_closed()).error_code == 0x107
        await _gone(wire)
        with pytest.raises(ConnectionError):
            async with h3_connect(address):
                pass


async def test_b1_who_has_most_requests_answered_may_cancel_some() -> None:
    settings = Http3Settings(resets_burst=5, resets_per_s=0.001)
    async with talking(FakeHandler(), settings) as (_, client):
        for _ in range(20):
            client.open_raw().reset()
            assert await works(client)


async def test_b1_tasks_that_will_not_end_keep_new_requests_out() -> None:
    """Cancelled but still unwinding: their places are taken until they are done."""
    release = asyncio.Event()
    started = asyncio.Semaphore(0)

    async def stubborn() -> Response:
        started.release()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await release.wait()
        return Response(200, JSON, b"")

    handler = FakeHandler(answer=lambda request: stubborn())
    async with talking(handler, Http3Settings(streams_max=5)) as (wire, client):
        for _ in range(5):
            stream = client.open("GET", "/", end=True)
            await started.acquire()
            stream.stop()
            await client.until(stream.was_reset)
        with pytest.raises(H3Reset) as caught:
            await client.request("GET", "/")
        assert caught.value.code == 0x10B  # H3_REQUEST_REJECTED: nothing was done
        assert wire.in_flight == 5
        release.set()
        await eventually(lambda: not wire.in_flight)


async def test_b5_headers_that_do_not_come(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "h3")
    settings = Http3Settings(header_timeout_s=0.3)
    async with talking(FakeHandler(), settings) as (wire, client):
        stream = client.open_raw()
        stream.send_raw(headers_frame(GOOD)[:5])
        with pytest.raises(H3Reset) as caught:
            await stream.response()
        assert caught.value.code == 0x10D
        assert await works(client)
        assert wire.counters.timeouts == 1
    assert "event=timeout phase=headers src=127.0.0.1" in caplog.text


async def test_b5_a_body_that_drips() -> None:
    settings = Http3Settings(body_grace_s=0.3, body_rate_min_bytes=1024)
    async with talking(FakeHandler(), settings) as (_, client):
        stream = client.open("POST", "/")
        stream.send(b"d")
        response = await stream.response()
        assert (response.status, response.body) == (408, b"timeout")
        await client.until(lambda: stream.stop_code is not None)
        assert await works(client)


async def test_b5_a_body_that_is_slow_enough_is_waited_for() -> None:
    settings = Http3Settings(body_grace_s=0.2, body_rate_min_bytes=100)
    async with talking(FakeHandler(), settings) as (_, client):
        stream = client.open("POST", "/")
        stream.send(b"x" * 1000)
        asyncio.get_running_loop().call_later(0.6, lambda: stream.send(b"end", end=True))
        assert (await stream.response()).status == 200


async def _gone(wire: Http3Wire) -> None:
    """A connection that is closed lingers for some round trips."""
    await eventually(lambda: not wire.connections)
