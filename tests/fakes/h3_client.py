"""A small HTTP/3 client on aioquic's own client side, for tests.

It verifies nothing about the certificate, shows what arrived as it arrived, and can do what polite
clients do not: reset, stop reading, send raw bytes, grant no window.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aioquic._buffer import Buffer
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import ErrorCode, H3Connection
from aioquic.h3.connection import H3Stream as AioquicStream
from aioquic.h3.events import DataReceived, H3Event, Headers, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import (
    ConnectionTerminated,
    QuicEvent,
    StopSendingReceived,
    StreamReset,
)

PATIENCE_S = 20.0
"""No test waits longer than this for one thing to happen."""


@dataclass(frozen=True, slots=True)
class H3Response:
    status: int
    headers: dict[str, str]
    body: bytes
    interim: tuple[int, ...] = ()
    """Status codes of interim responses, in order."""


class H3Reset(Exception):  # noqa: N818  what the peer did, not an error of ours
    """The server reset the stream."""

    def __init__(self, code: int) -> None:
        super().__init__(f"reset with {code:#x}")
        self.code = code


class H3Closed(Exception):  # noqa: N818
    """The server closed the connection."""

    def __init__(self, code: int) -> None:
        super().__init__(f"closed with {code:#x}")
        self.code = code


@dataclass(eq=False)
class H3Stream:
    """One request and what came back for it."""

    client: "H3Client"
    stream_id: int
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    interim: list[int] = field(default_factory=list)
    chunks: list[bytes] = field(default_factory=list)
    ended: bool = False
    reset_code: int | None = None
    stop_code: int | None = None
    """The code of the server's STOP_SENDING, if it sent one."""

    def send(self, data: bytes, end: bool = False) -> None:
        """A DATA frame."""
        self.client.h3.send_data(self.stream_id, data, end)
        self.client.transmit()

    def send_raw(self, data: bytes, end: bool = False) -> None:
        """Bytes of the stream, whatever they mean."""
        self.client.quic.send_stream_data(self.stream_id, data, end)
        self.client.transmit()

    def reset(self, code: int = ErrorCode.H3_REQUEST_CANCELLED) -> None:
        self.client.quic.reset_stream(self.stream_id, code)
        self.client.transmit()

    def stop(self, code: int = ErrorCode.H3_REQUEST_CANCELLED) -> None:
        """STOP_SENDING: no more of the answer is wanted."""
        self.client.quic.stop_stream(self.stream_id, code)
        self.client.transmit()

    async def head(self) -> int:
        """The final status, once it has come."""
        await self.client.until(lambda: self.status is not None or self.over)
        if self.status is None:
            self._raise()
        assert self.status is not None
        return self.status

    async def response(self) -> H3Response:
        await self.client.until(lambda: self.over)
        if not self.ended or self.status is None:
            self._raise()
        assert self.status is not None
        return H3Response(self.status, self.headers, b"".join(self.chunks), tuple(self.interim))

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The body's pieces as they arrived, one for each DATA frame or part of one."""
        while True:
            await self.client.until(lambda: self.chunks or self.over)
            while self.chunks:
                yield self.chunks.pop(0)
            if self.ended:
                return
            if self.over:
                self._raise()

    @property
    def over(self) -> bool:
        return self.ended or self.reset_code is not None or self.client.closed is not None

    def was_reset(self) -> bool:
        return self.reset_code is not None

    def _raise(self) -> None:
        if self.reset_code is not None:
            raise H3Reset(self.reset_code)
        if self.client.closed is not None:
            raise H3Closed(self.client.closed.error_code)


class _H3(H3Connection):
    """Knows that the answer to HEAD has a length and no content; aioquic's client does not."""

    def __init__(self, quic: QuicConnection) -> None:
        super().__init__(quic)
        self.heads: set[int] = set()
        self.goaway: int | None = None

    def send_headers(self, stream_id: int, headers: Headers, end_stream: bool = False) -> None:
        if (b":method", b"HEAD") in headers:
            self.heads.add(stream_id)
        super().send_headers(stream_id, headers, end_stream)

    def _receive_stream_data_uni(
        self, stream: AioquicStream, data: bytes, stream_ended: bool
    ) -> list[H3Event]:
        # aioquic reads GOAWAY and forgets it. The server sends it in a frame of its own.
        if stream.stream_id == self._peer_control_stream_id and data[:1] == b"\x07":
            self.goaway = Buffer(data=data[2:]).pull_uint_var()
        return super()._receive_stream_data_uni(stream, data, stream_ended)

    def _check_content_length(self, stream: AioquicStream) -> None:
        if stream.stream_id not in self.heads:
            super()._check_content_length(stream)


class H3Client(QuicConnectionProtocol):
    def __init__(self, quic: QuicConnection, stream_handler: Any = None) -> None:
        super().__init__(quic, stream_handler)
        self.quic = quic
        self.h3 = _H3(quic)
        self.closed: ConnectionTerminated | None = None
        self.streams: dict[int, H3Stream] = {}
        self._news = asyncio.Condition()
        self._wakers: set[asyncio.Task[None]] = set()

    @property
    def goaway(self) -> int | None:
        """The number in the server's last GOAWAY."""
        return self.h3.goaway

    async def request(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> H3Response:
        stream = self.open(method, path, headers, end=not body)
        if body:
            stream.send(body, end=True)
        return await stream.response()

    def open(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        *,
        end: bool = False,
    ) -> H3Stream:
        fields = [
            (b":method", method.encode()),
            (b":scheme", b"https"),
            (b":authority", b"localhost"),
            (b":path", path.encode()),
        ]
        fields += [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
        return self.open_fields(fields, end=end)

    def open_fields(self, fields: list[tuple[bytes, bytes]], *, end: bool = False) -> H3Stream:
        """A request of exactly these fields, sensible or not."""
        stream = self.open_raw()
        self.h3.send_headers(stream.stream_id, fields, end)
        self.transmit()
        return stream

    def open_raw(self) -> H3Stream:
        """A request stream on which nothing has been sent."""
        stream_id = self.quic.get_next_available_stream_id()
        # Claims the number, so that the next stream gets another one.
        self.quic.send_stream_data(stream_id, b"")
        stream = self.streams[stream_id] = H3Stream(self, stream_id)
        return stream

    async def until(self, condition: Callable[[], Any]) -> None:
        """Wait for something that packets bring."""
        async with asyncio.timeout(PATIENCE_S), self._news:
            await self._news.wait_for(condition)

    async def until_closed(self) -> ConnectionTerminated:
        await self.until(lambda: self.closed is not None)
        assert self.closed is not None
        return self.closed

    async def rebind(self) -> None:
        """What a NAT does: the same connection, from another port."""
        assert self._transport is not None
        before = self._transport
        await self._loop.create_datagram_endpoint(
            lambda: self, local_addr=(before.get_extra_info("sockname")[0], 0)
        )
        before.close()

    def disconnect(self) -> None:
        """At once: a connection that was closed lingers for some round trips of its estimate."""
        assert self._transport is not None
        if self._timer is not None:
            self._timer.cancel()
        self._transport.close()

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, ConnectionTerminated):
            self.closed = event
        elif isinstance(event, StreamReset) and event.stream_id in self.streams:
            self.streams[event.stream_id].reset_code = event.error_code
        elif isinstance(event, StopSendingReceived) and event.stream_id in self.streams:
            self.streams[event.stream_id].stop_code = event.error_code
        for http_event in self.h3.handle_event(event):
            if isinstance(http_event, HeadersReceived | DataReceived):
                self._http(http_event)
        if not self._wakers:
            waker = self._loop.create_task(self._wake(), name="h3-client-news")
            self._wakers.add(waker)
            waker.add_done_callback(self._wakers.discard)

    def _http(self, event: HeadersReceived | DataReceived) -> None:
        stream = self.streams.get(event.stream_id)
        if stream is None:
            return
        if isinstance(event, HeadersReceived):
            fields = {name.decode(): value.decode("latin-1") for name, value in event.headers}
            status = int(fields.pop(":status", "0"))
            if 100 <= status < 200:
                stream.interim.append(status)
            elif status:
                stream.status = status
                stream.headers = fields
        elif event.data:
            stream.chunks.append(event.data)
        stream.ended = stream.ended or event.stream_ended

    async def _wake(self) -> None:
        async with self._news:
            self._news.notify_all()


def client_configuration(**changes: Any) -> QuicConfiguration:
    """For a client that trusts whoever answers: `max_data`, `max_stream_data` and so on."""
    return QuicConfiguration(
        is_client=True,
        alpn_protocols=["h3"],
        server_name="localhost",
        verify_mode=ssl.CERT_NONE,
        **changes,
    )


@asynccontextmanager
async def h3_connect(
    address: Any, configuration: QuicConfiguration | None = None, source: str = ""
) -> AsyncIterator[H3Client]:
    """A connection to `address`, the (host, port, ...) of a UDP socket; `source`: loopback."""
    source = source or ("::1" if ":" in address[0] else "127.0.0.1")
    quic = QuicConnection(configuration=configuration or client_configuration())
    _, client = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: H3Client(quic), local_addr=(source, 0)
    )
    try:
        client.connect(address)
        await client.wait_connected()
        yield client
    finally:
        client.close(error_code=ErrorCode.H3_NO_ERROR)
        client.disconnect()
