"""Event streams over HTTP/3: one by one, at the reader's pace, and never whole when torn."""

import asyncio

import pytest

from edge.errors import StreamCut
from edge.request import Response
from edge.wire.http3 import Http3Settings
from tests.edge.wire.http3_harness import Endless, FakeHandler, Pending, Source, eventually, talking
from tests.fakes.h3_client import H3Reset, H3Stream, client_configuration


async def test_row_59_two_hundred_events_arrive_one_by_one() -> None:
    source = Source()
    async with talking(FakeHandler(answer=source.answer)) as (_, client):
        stream = client.open("POST", "/", end=True)
        assert await stream.head() == 200
        assert "content-length" not in stream.headers
        pieces = aiter(stream)
        for n in range(200):
            # The next event exists only once the one before has arrived.
            event = f"data: {n}\n\n".encode()
            source.queue.put_nowait(event)
            assert await anext(pieces) == event
        source.queue.put_nowait(None)
        with pytest.raises(StopAsyncIteration):
            await anext(pieces)
        assert source.closed.is_set()


async def test_the_head_leaves_before_the_first_event() -> None:
    source = Source()
    async with talking(FakeHandler(answer=source.answer)) as (_, client):
        stream = client.open("POST", "/", end=True)
        assert await stream.head() == 200
        assert not stream.chunks
        source.queue.put_nowait(None)
        assert (await stream.response()).body == b""


async def test_head_of_an_event_stream_has_no_body() -> None:
    source = Source()
    async with talking(FakeHandler(answer=source.answer)) as (_, client):
        response = await client.request("HEAD", "/")
        assert (response.status, response.body) == (200, b"")
        assert not source.started.is_set()


@pytest.mark.parametrize("end", [StreamCut("upstream died"), ValueError("a bug")])
async def test_row_54_a_torn_stream_is_reset_and_never_looks_whole(end: Exception) -> None:
    source = Source()
    async with talking(FakeHandler(answer=source.answer)) as (wire, client):
        stream = client.open("POST", "/", end=True)
        source.queue.put_nowait(b"data: 1\n\n")
        assert await anext(aiter(stream)) == b"data: 1\n\n"
        source.queue.put_nowait(end)
        with pytest.raises(H3Reset) as caught:
            await stream.response()
        assert caught.value.code == 0x102  # H3_INTERNAL_ERROR
        assert not stream.ended
        assert wire.in_flight == 0
        assert (wire.counters.cut, wire.counters.failures) == (
            (1, 0) if isinstance(end, StreamCut) else (0, 1)
        )


@pytest.mark.parametrize("how", ["stop", "close"])
async def test_row_57_a_client_that_leaves_closes_the_source(how: str) -> None:
    source = Source()
    async with talking(FakeHandler(answer=source.answer)) as (wire, client):
        stream = client.open("POST", "/", end=True)
        source.queue.put_nowait(b"data: 1\n\n")
        await anext(aiter(stream))
        _leave(stream, how)
        await asyncio.wait_for(source.closed.wait(), 5)
        assert wire.in_flight == 0
        wire.check()


@pytest.mark.parametrize("how", ["stop", "close"])
async def test_row_57_also_before_the_first_token(how: str) -> None:
    pending = Pending()
    async with talking(FakeHandler(answer=pending.answer)) as (wire, client):
        stream = client.open("POST", "/", end=True)
        await pending.started.wait()
        _leave(stream, how)
        await asyncio.wait_for(pending.cancelled.wait(), 5)
        assert wire.counters.cancelled == (1 if how == "stop" else 0)


async def test_row_57_a_reset_in_the_middle_of_the_body() -> None:
    handler = FakeHandler()
    async with talking(handler) as (wire, client):
        stream = client.open("POST", "/")
        stream.send(b"half of it")
        await eventually(lambda: wire.bodies_held_bytes == 10)
        stream.reset()
        await eventually(lambda: wire.counters.cancelled == 1)
        assert wire.bodies_held_bytes == 0
        assert handler.requests == []


def _leave(stream: H3Stream, how: str) -> None:
    if how == "stop":
        stream.stop()
    else:
        stream.client.close(error_code=0x100)


async def test_a_cancelled_request_that_never_began_leaves_no_trace() -> None:
    """Its reset comes in the same packets as the request itself."""
    pending = Pending()
    async with talking(FakeHandler(answer=pending.answer)) as (wire, client):
        stream = client.open_raw()
        client.h3.send_headers(
            stream.stream_id,
            [
                (b":method", b"GET"),
                (b":scheme", b"https"),
                (b":authority", b"a"),
                (b":path", b"/"),
            ],
            True,
        )
        client.quic.stop_stream(stream.stream_id, 0x10C)
        client.transmit()
        await client.until(lambda: stream.reset_code is not None)
        await eventually(lambda: not wire.in_flight)
        assert not pending.started.is_set()


async def test_row_58_a_stalled_reader_pauses_the_source() -> None:
    endless = Endless()
    handler = FakeHandler(answer=lambda request: endless.reply())
    # A window of 20 kB that is never opened any further.
    stingy = client_configuration(max_stream_data=20_000, max_data=20_000)
    async with talking(handler, None, stingy) as (wire, client):
        stream = client.open("POST", "/", end=True)
        await stream.head()
        client._quic._write_stream_limits = lambda **_: None  # type: ignore[method-assign]
        client._quic._write_connection_limits = lambda **_: None  # type: ignore[method-assign]
        await _until_paused(endless)
        assert endless.given <= 20_000 + Http3Settings().stream_buffer_bytes + 3 * endless.size
        (link,) = wire._endpoint._links
        assert link.quic.unacknowledged_total() <= Http3Settings().stream_buffer_bytes + 10_000
        stream.stop()
        await asyncio.wait_for(endless.closed.wait(), 5)


async def test_row_58_what_a_connection_holds_for_all_its_streams_is_bounded() -> None:
    settings = Http3Settings(connection_buffer_bytes=100_000)
    sources = [Endless() for _ in range(20)]
    rest = iter(sources)
    handler = FakeHandler(answer=lambda request: next(rest).reply())
    stingy = client_configuration(max_stream_data=2_000)
    async with talking(handler, settings, stingy) as (wire, client):
        client._quic._write_stream_limits = lambda **_: None  # type: ignore[method-assign]
        streams = [client.open("POST", "/", end=True) for _ in sources]
        for stream in streams:
            await stream.head()
        for source in sources:
            await _until_paused(source)
        (link,) = wire._endpoint._links
        # 100 kB in common, and 4 KiB (and the chunk that crosses it) that each may have anyway.
        assert link.quic.unacknowledged_total() <= 100_000 + 20 * (4096 + 1100)


async def test_a_reader_that_takes_its_time_gets_everything() -> None:
    endless = Endless(size=10_000)
    handler = FakeHandler(answer=lambda request: endless.reply())
    slow = client_configuration(max_stream_data=30_000)
    async with talking(handler, None, slow) as (_, client):
        stream = client.open("POST", "/", end=True)
        received = 0
        async for piece in stream:
            received += len(piece)
            if received > 2_000_000:
                break
        assert endless.given <= received + 64 * 1024 + 30_000 + 3 * endless.size + 2_000_000
        stream.stop()
        await asyncio.wait_for(endless.closed.wait(), 5)


@pytest.mark.parametrize("kind", ["events", "response"])
async def test_row_58_a_reader_that_stalls_for_too_long_is_reset(kind: str) -> None:
    endless = Endless()
    handler = FakeHandler(
        answer=(lambda request: endless.reply())
        if kind == "events"
        else (lambda request: Response(200, (), b"x" * 100_000))
    )
    stingy = client_configuration(max_stream_data=5_000)
    settings = Http3Settings(write_stall_s=0.4)
    async with talking(handler, settings, stingy) as (wire, client):
        client._quic._write_stream_limits = lambda **_: None  # type: ignore[method-assign]
        stream = client.open("POST", "/", end=True)
        with pytest.raises(H3Reset) as caught:
            await stream.response()
        assert caught.value.code == 0x10C
        assert wire.counters.timeouts == 1
        if kind == "events":
            await asyncio.wait_for(endless.closed.wait(), 5)


async def test_row_60_a_silent_connection_with_a_pending_request_lives() -> None:
    """Both ends give up after 0.6 s of silence; the answer takes three times as long."""
    pending = Pending()
    settings = Http3Settings(idle_timeout_s=0.6, keepalive_s=0.15)
    brief = client_configuration(idle_timeout=0.6)
    async with talking(FakeHandler(answer=pending.answer), settings, brief) as (_, client):
        stream = client.open("POST", "/", end=True)
        await pending.started.wait()
        asyncio.get_running_loop().call_later(1.8, pending.release.set)
        assert (await stream.response()).body == b"late"


async def _until_paused(endless: Endless) -> None:
    """Until a hundred passes of the event loop have asked for nothing."""
    calm = 0
    while calm < 100:
        before = endless.given
        await asyncio.sleep(0)
        calm = calm + 1 if endless.given == before else 0
