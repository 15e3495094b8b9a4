"""Request streams, header sections and the small books, without a network."""

import asyncio
import contextlib

import pylsqpack
import pytest
from aioquic.buffer import encode_uint_var
from aioquic.h3.connection import FrameError, FrameUnexpected, encode_frame
from hypothesis import given
from hypothesis import strategies as st

from edge.wire.h3_head import (
    CONTINUE,
    ExcessiveLoad,
    HeadDecoder,
    StreamFault,
    encode_head,
    frame_header,
    request_head,
)
from edge.wire.h3_request import RequestStream, pull_varint
from edge.wire.http3_settings import Http3Settings
from edge.wire.limits import Allowance, ByteBudget, Tasks
from edge.wire.log_lines import Repeats

FIELDS = [
    (b":method", b"POST"),
    (b":scheme", b"https"),
    (b":authority", b"edge.example"),
    (b":path", b"/v1/chat?x=%20"),
    (b"content-type", b"application/json"),
]


def block(fields: list[tuple[bytes, bytes]]) -> bytes:
    return pylsqpack.Encoder().encode(0, fields)[1]


def stream(body_max: int = 1 << 20) -> RequestStream:
    settings = Http3Settings()
    return RequestStream(
        HeadDecoder(settings), block_max=settings.header_block_max_bytes, body_max=body_max
    )


PAYLOADS = st.lists(st.binary(max_size=300), max_size=8)


@given(PAYLOADS, st.booleans(), st.data())
def test_chunks_never_change_the_meaning(
    payloads: list[bytes], trailers: bool, data: st.DataObject
) -> None:
    grease = encode_frame(0x21, b"grease")
    message = grease + encode_frame(0x1, block(FIELDS))
    message += b"".join(encode_frame(0x0, payload) + grease for payload in payloads)
    if trailers:
        message += encode_frame(0x1, block([(b"x-sum", b"1")])) + grease
    cuts = sorted(data.draw(st.lists(st.integers(0, len(message)), max_size=12)))
    request = stream()
    at = 0
    for cut in cuts:
        request.feed(message[at:cut], False)
        at = cut
    request.feed(message[at:], True)
    assert request.ended
    assert request.head is not None
    head = request.head.head
    assert (head.method, head.path, head.query) == ("POST", "/v1/chat", "x=%20")
    assert head.authority == "edge.example"
    assert dict(head.headers) == {"content-type": "application/json", "host": "edge.example"}
    assert request.take_body() == b"".join(payloads)


@given(st.binary(max_size=400), st.booleans())
def test_any_bytes_are_a_request_or_an_error(data: bytes, fin: bool) -> None:
    request = stream()
    try:
        request.feed(data, fin)
    except (StreamFault, FrameError, FrameUnexpected, ExcessiveLoad):
        return
    except Exception as exc:
        assert type(exc).__name__ == "QpackDecompressionFailed"  # noqa: PT017
        return
    assert len(request._partial) <= 400


@given(st.integers(0, (1 << 62) - 1), st.binary(max_size=3))
def test_integers_are_those_of_quic(value: int, tail: bytes) -> None:
    data = encode_uint_var(value)
    assert pull_varint(b"x" + data + tail, 1) == (value, 1 + len(data))
    for cut in range(len(data)):
        assert pull_varint(data[:cut], 0) == (0, 0)


@given(st.sampled_from([0, 1, 63, 64, 16383, 16384, (1 << 30) - 1, 1 << 30]))
def test_frame_headers_are_those_of_aioquic(size: int) -> None:
    assert frame_header(0x0, size) == b"\x00" + encode_uint_var(size)


def test_a_body_over_the_limit_is_not_kept() -> None:
    request = stream(body_max=1000)
    request.feed(encode_frame(0x1, block(FIELDS)) + b"\x00" + encode_uint_var(1 << 40), False)
    for _ in range(100):
        request.feed(b"x" * 900, False)
        assert sum(map(len, request._chunks)) <= 1000
    assert request.too_large
    assert request.received == 90_000
    assert request.take_body() == b""


def test_a_header_block_is_held_up_to_its_limit_only() -> None:
    request = stream()
    request.feed(b"\x01" + encode_uint_var(16_384), False)
    with pytest.raises(ExcessiveLoad):
        stream().feed(b"\x01" + encode_uint_var(16_385), False)


def test_a_frame_that_is_cut_short() -> None:
    for tail in (b"\x00", b"\x00\x05abc", b"\x01\x40", b"\x21\x03a"):
        request = stream()
        request.feed(encode_frame(0x1, block(FIELDS)), False)
        with pytest.raises(FrameError):
            request.feed(tail, True)


def test_connect_has_no_path() -> None:
    head = request_head([(b":method", b"CONNECT"), (b":authority", b"a:443")]).head
    assert (head.method, head.path, head.authority) == ("CONNECT", "", "a:443")


def test_options_may_ask_for_the_whole_server() -> None:
    fields = [(b":method", b"OPTIONS"), *FIELDS[1:3], (b":path", b"*")]
    assert request_head(fields).head.path == "*"
    with pytest.raises(StreamFault):
        request_head([*FIELDS[:3], (b":path", b"*")])


def test_an_empty_name_is_malformed() -> None:
    with pytest.raises(StreamFault):
        request_head([*FIELDS, (b"", b"x")])


@given(
    st.text("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=20),
    st.binary(max_size=40),
)
def test_a_value_is_text_that_can_be_encoded_again(name: str, value: bytes) -> None:
    if name in ("host", "content-length", "te", "upgrade", "connection"):
        return
    try:
        headers = request_head([*FIELDS[:4], (name.encode(), value)]).head.headers
    except StreamFault:
        assert value != value.strip(b" \t") or any(c < 0x20 or c == 0x7F for c in value)
    else:
        assert headers[name].encode("latin-1") == value


def test_the_cache_of_heads_is_bounded_in_bytes() -> None:
    heads = HeadDecoder(Http3Settings(head_cache_max_bytes=100_000))
    for n in range(2000):
        heads.request(block([*FIELDS, (b"x-request-id", b"%d" % n)]))
        assert heads._known_bytes <= 100_000
    assert 0 < len(heads._known) < 200
    once = heads.request(block(FIELDS))
    assert heads.request(block(FIELDS)) is once
    large = block([*FIELDS, (b"x-large", b"y" * 14_000)])
    assert heads.request(large) is not heads.request(large)


def test_an_interim_response_is_what_it_says() -> None:
    assert encode_frame(0x1, block([(b":status", b"100")])) == CONTINUE


def test_a_response_head() -> None:
    data = encode_head(200, (("x-a", "ü"),), length=3, date="now")
    kind, at = pull_varint(data, 0)
    size, at = pull_varint(data, at)
    assert (kind, at + size) == (1, len(data))
    _, fields = pylsqpack.Decoder(0, 0).feed_header(0, data[at:])
    assert fields == [
        (b":status", b"200"),
        (b"x-a", b"\xfc"),
        (b"content-length", b"3"),
        (b"date", b"now"),
    ]


def test_a_budget_takes_from_the_whole_as_well() -> None:
    whole = ByteBudget(100)
    one, two = ByteBudget(80, whole), ByteBudget(80, whole)
    assert one.take(80)
    assert not one.take(1)
    assert not two.take(30)
    assert (whole.held, two.held) == (80, 0)
    one.give(80)
    assert two.take(80)
    assert repr(whole) == "<ByteBudget 80/100>"


@given(st.lists(st.floats(0, 5), max_size=60))
def test_an_allowance_never_gives_more_than_burst_and_rate(gaps: list[float]) -> None:
    allowance = Allowance(5, 2.0)
    now = given_out = 0.0
    for gap in gaps:
        now += gap
        given_out += allowance.spend(now)
        assert given_out <= 5 + 2.0 * now + 1e-6


def test_a_log_line_a_second_stands_for_all() -> None:
    repeats = Repeats()
    assert [repeats.count("a", now) for now in (0.0, 0.1, 0.9, 1.0, 1.5, 2.5)] == [1, 0, 0, 3, 0, 2]
    assert repeats.count("b", 1.5) == 1


async def test_a_task_that_will_not_end_is_named(caplog: pytest.LogCaptureFixture) -> None:
    tasks, release = Tasks(), asyncio.Event()

    async def stubborn() -> None:
        while not release.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await release.wait()

    task = tasks.start(stubborn(), name="stubborn")
    await asyncio.sleep(0)
    await tasks.close(patience_s=0.01)
    assert "event=task_stuck task=stubborn" in caplog.text
    release.set()
    await task


async def test_tasks_end_with_their_owner(caplog: pytest.LogCaptureFixture) -> None:
    tasks = Tasks()
    ended = asyncio.Event()

    async def stubborn() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.set()

    async def broken() -> None:
        raise ValueError("the prompt")

    tasks.start(stubborn(), name="stubborn")
    failed = tasks.start(broken(), name="broken")
    await asyncio.wait({failed})
    assert repr(tasks) == "<Tasks ['stubborn']>"
    await tasks.close()
    assert ended.is_set()
    assert len(tasks) == 0
    assert "event=task_failed task=broken error=ValueError" in caplog.text
    assert "the prompt" not in caplog.text
