"""HTTP/1.1 on aiohttp's low-level server, in clear text or over TLS.

aiohttp parses and frames; what it leaves to us is here and in `http1_connection`: errors in the
API's shape (its own are text/plain), 413 and 401 *before* a 100 Continue, a body that has to come
in time, and an ending that does not look like one for a torn stream.
"""

import asyncio
import contextlib
import logging
import socket
from http import HTTPStatus
from typing import cast

from aiohttp import HttpVersion11, StreamReader, web
from multidict import CIMultiDict

from edge.errors import ClientError, EdgeError, Overloaded, StreamCut, body_too_large, body_too_slow
from edge.protection.connections import Connections, Place
from edge.protection.settings import ProtectionSettings
from edge.request import (
    LARGE_BODY_BYTES,
    PIECE_BYTES,
    EventStream,
    Fields,
    Handler,
    Head,
    Reply,
    Request,
    Response,
)
from edge.wire.acceptor import Acceptor
from edge.wire.http1_connection import Connection
from edge.wire.http1_head import HeadReader
from edge.wire.http1_settings import Http1Settings
from edge.wire.http_date import HttpDate
from edge.wire.limits import ByteBudget
from edge.wire.log_lines import Repeats
from edge.wire.tls import ServerTls

__all__ = ["Http1Settings", "Http1Wire"]

log = logging.getLogger("http")

WRITE_BUFFER_BYTES = 64 * 1024
UNWIND_S = 5.0
LARGE_SHARE = 0.75
"""Of the bytes of bodies that are held: what large ones may fill, so that others find room."""
_SERVER: Fields = (("server", "promptedge"),)
"""Without its version: that is for operators."""
_REASONS = {status.value: status.phrase for status in HTTPStatus}


class Http1Wire:
    """One listening socket. Started, drained and stopped by the node."""

    def __init__(
        self,
        sock: socket.socket,
        tls: ServerTls | None,
        handler: Handler,
        settings: Http1Settings,
        alt_svc: str | None = None,
        connections: Connections | None = None,
        plain_port: int | None = None,
    ) -> None:
        """`alt_svc` is the whole value of the field, or None when HTTP/3 is not to be had.

        `connections` are counted together with those of other wires. `plain_port` is where clear
        text is spoken, if anywhere, for those who speak it to the port for TLS."""
        self.draining = False
        self.settings = settings
        self.date = HttpDate()
        self.repeats = Repeats()
        self._address = sock.getsockname()
        self._handler = handler
        self._alt_svc = alt_svc
        self._plain_port = plain_port
        if tls is not None:
            tls.in_clear_text = self._in_clear_text
        self._heads = HeadReader(settings.header_section_max_bytes)
        self._bodies = ByteBudget(max(settings.bodies_total_max_bytes, handler.body_bytes_max))
        large_max_bytes = int(self._bodies.max_bytes * LARGE_SHARE)
        self._large = ByteBudget(max(large_max_bytes, handler.body_bytes_max), self._bodies)
        self._open: set[Connection] = set()
        self._all_closed = asyncio.Event()
        self._all_closed.set()
        self._acceptor = Acceptor(
            sock,
            tls,
            connections or Connections(ProtectionSettings()),
            self._protocol,
            connections_max=settings.connections_max,
            handshake_timeout_s=settings.header_timeout_s,
        )
        self._server: web.Server | None = None

    def __repr__(self) -> str:
        state = "draining" if self.draining else "open"
        return f"<Http1Wire {self._address} {state} connections={self.connections}>"

    @property
    def connections(self) -> int:
        return self._acceptor.connections

    @property
    def refused(self) -> int:
        """Connections that were not let in."""
        return self._acceptor.refused

    @property
    def in_flight(self) -> int:
        """Requests that have begun and are not answered yet."""
        return sum(connection._request_in_progress for connection in self._open)

    async def start(self) -> None:
        self._server = web.Server(self._serve, handler_cancellation=True)
        self._acceptor.start()

    def drain(self) -> None:
        """Take no more connections; tell clients to close theirs with the answer they wait for."""
        self.draining = True
        self._acceptor.close()
        for connection in self._open:
            connection.close()

    async def stop(self, grace_s: float) -> None:
        """Finish what is in flight, for at most `grace_s` seconds, and close everything."""
        self.drain()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await self._all_closed.wait()
        await self._acceptor.stop()
        unwinding = [task for one in self._open if (task := one._task_handler) is not None]
        for connection in list(self._open):
            connection.abort()
        if unwinding:
            await asyncio.wait(unwinding, timeout=UNWIND_S)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(UNWIND_S):
                await self._all_closed.wait()

    # Connections.

    def _protocol(self, place: Place) -> asyncio.Protocol:
        assert self._server is not None
        return Connection(self, self._server, place)

    def opened(self, connection: Connection) -> bool:
        self._open.add(connection)
        self._all_closed.clear()
        return not self.draining

    def closed(self, connection: Connection) -> None:
        self._open.discard(connection)
        self._acceptor.left(connection.place)
        if not self._open:
            self._all_closed.set()

    def error(self, request: web.BaseRequest, error: EdgeError) -> web.StreamResponse:
        return self._whole(request, self._handler.refuse(None, error), close=True)

    def farewell(self, error: EdgeError) -> bytes:
        response = self._handler.refuse(None, error)
        return self._head(response, "close") + response.body

    def _in_clear_text(self) -> bytes:
        other = f", or http:// on port {self._plain_port}" if self._plain_port else ""
        said = f"This port speaks HTTPS, and the request came in clear text: use https://{other}."
        response = self._handler.refuse(None, ClientError(said, code="https_required"))
        return self._head(response, "close", _SERVER) + response.body

    # One request.

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            head = self._heads.read(request._message)
        except EdgeError as error:
            _connection(request).framing()
            return self.error(request, error)
        peer = _connection(request).peer
        refusal = self._handler.admit(head, peer)
        if refusal is not None:
            return self._refuse(request, refusal)
        try:
            body = await self._body(request, head)
        except EdgeError as error:
            return self._refuse(request, self._handler.refuse(head, error))
        try:
            answer = self._handler.handle(Request(head, body, peer, "1.1"))
            reply = answer if isinstance(answer, Response) else await answer
        finally:
            self._give(len(body))
        return await self._send(request, reply)

    async def _body(self, request: web.BaseRequest, head: Head) -> bytes:
        """The whole body, taken from the budget: `_serve` gives it back."""
        content = request.content
        if content.is_eof():  # it came with the head
            chunks = [content.read_nowait()]
            size = self._take(0, chunks[0])
        else:
            if "expect" in head.headers and request.version >= HttpVersion11:
                _transport(request).write(b"HTTP/1.1 100 Continue\r\n\r\n")
            chunks, size = await self._rest(content, head, _connection(request).peer)
        if _connection(request).torn is content:
            self._give(size)
            raise _connection(request).framing()
        return b"".join(chunks)

    async def _rest(self, content: StreamReader, head: Head, peer: str) -> tuple[list[bytes], int]:
        """What is still to come, as long as it comes fast enough.

        What waits to be read waits at the client: no more is taken from its connection."""
        loop, chunks = asyncio.get_running_loop(), list[bytes]()
        size, may_read = 0, LARGE_BODY_BYTES
        began = loop.time() + self.settings.body_timeout_s
        try:
            while not content.at_eof():
                if size > may_read:
                    waits_since = loop.time()
                    await self._handler.wait_to_read(head, peer)
                    may_read += PIECE_BYTES
                    began += loop.time() - waits_since
                async with asyncio.timeout_at(began + size / self.settings.body_rate_min_bytes):
                    chunks.append(await content.readany())
                size = self._take(size, chunks[-1])
        except BaseException as exc:
            self._give(size)
            if isinstance(exc, TimeoutError):
                log.info("event=timeout phase=body proto=h1")
                raise body_too_slow() from exc
            raise
        return chunks, size

    def _take(self, size: int, chunk: bytes) -> int:
        """The size of the body with `chunk`. Raises EdgeError when that is too much."""
        limit = self._handler.body_bytes_max
        if size + len(chunk) > limit:
            raise body_too_large(limit)
        large = _large(size + len(chunk)) - _large(size)
        if self._large.take(large):
            if self._bodies.take(len(chunk) - large):
                return size + len(chunk)
            self._large.give(large)
        raise Overloaded("Too many bytes of requests are held already.", retry_after_s=1)

    def _give(self, size: int) -> None:
        self._large.give(_large(size))
        self._bodies.give(size - _large(size))

    def _refuse(self, request: web.BaseRequest, response: Response) -> web.StreamResponse:
        """Answer what is not read to its end, and close then: what follows is the rest of it."""
        unread = request.body_exists and not request.content.is_eof()
        torn = _connection(request).torn is not None
        tunnel = request.method == "CONNECT"  # what follows is for the other end of it
        return self._whole(request, response, close=unread or torn or tunnel)

    # Answers.

    async def _send(self, request: web.BaseRequest, reply: Reply) -> web.StreamResponse:
        if isinstance(reply, Response):
            return self._whole(request, reply)
        return await self._stream(request, reply)

    def _whole(
        self, request: web.BaseRequest, response: Response, *, close: bool = False
    ) -> web.StreamResponse:
        close = close or not request.keep_alive or self._says_goodbye(request)
        connection = "close" if close else "" if request.version >= HttpVersion11 else "keep-alive"
        head = self._head(response, connection)
        bare = request.method == "HEAD" or response.status in (204, 304)
        return _Whole(response.status, head if bare else head + response.body, close=close)

    def _says_goodbye(self, request: web.BaseRequest) -> bool:
        return self.draining or _connection(request).last

    def _head(self, response: Response, connection: str, own: Fields = ()) -> bytes:
        lines = [f"HTTP/1.1 {response.status} {_REASONS.get(response.status, '')}"]
        lines += [f"{name}: {value}" for name, value in response.fields]
        lines += [f"{name}: {value}" for name, value in own or self._own_fields()]
        # RFC 9110, 8.6: no content-length with 204, and with 304 only that of the 200.
        if response.status != 204 and (response.status != 304 or response.body):
            lines.append(f"content-length: {len(response.body)}")
        if connection:
            lines.append(f"connection: {connection}")
        lines.append(f"date: {self.date()}\r\n\r\n")
        head = "\r\n".join(lines)
        # One line a field: a value with a line end in it would be a field, or an answer, itself.
        if not head.count("\n") == head.count("\r") == len(lines) + 1:
            raise ValueError("a line end in a field")
        return head.encode("latin-1", "replace")

    def _own_fields(self) -> Fields:
        """What this wire has to say itself."""
        if self._alt_svc is None:
            return _SERVER
        return (*_SERVER, ("alt-svc", "clear" if self.draining else self._alt_svc))

    async def _stream(self, request: web.BaseRequest, stream: EventStream) -> web.StreamResponse:
        fields = CIMultiDict((*stream.fields, *self._own_fields()))
        response = web.StreamResponse(status=stream.status, headers=fields)
        if request.version >= HttpVersion11:
            response.enable_chunked_encoding()
        else:
            response.force_close()  # HTTP/1.0 knows no other end of such an answer
        if self._says_goodbye(request):
            response.force_close()
        try:
            await response.prepare(request)
            async for chunk in stream.chunks:
                if chunk:
                    await response.write(chunk)
        except StreamCut:
            # The last chunk is left out on purpose: RFC 9112, 8 calls such a message incomplete.
            _connection(request).force_close()
            raise ConnectionResetError("the answer broke off") from None
        finally:
            await stream.chunks.aclose()
        return response


class _Whole(web.StreamResponse):
    """A complete response, written with its head at once.

    aiohttp builds one from a dictionary of fields, looks at each again and writes twice; for an
    exact hit that would cost as much as all the rest.
    """

    def __init__(self, status: int, message: bytes, *, close: bool) -> None:
        super().__init__(status=status)
        self._bytes = message
        self._keep_alive = not close

    async def prepare(self, request: web.BaseRequest) -> None:
        transport = _transport(request)
        transport.write(self._bytes)
        if transport.get_write_buffer_size() > WRITE_BUFFER_BYTES:
            # The connection gives up a client that takes nothing.
            await request.writer.drain()

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing is left to write."""


def _large(size: int) -> int:
    """What of a body of `size` bytes is beyond a small one."""
    return max(size - LARGE_BODY_BYTES, 0)


def _connection(request: web.BaseRequest) -> Connection:
    return cast(Connection, request.protocol)


def _transport(request: web.BaseRequest) -> asyncio.Transport:
    if request.transport is None:
        raise ConnectionResetError("the client has left")
    return request.transport
