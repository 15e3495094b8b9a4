"""HTTP/1.1 on aiohttp's low-level server, in clear text or over TLS.

aiohttp parses and frames; what it leaves to us is here: an absolute deadline for headers and bodies
(it has none), errors in the API's shape (its own are text/plain), 413 and 401 *before* a
100 Continue, a reader that stalls, and an ending that does not look like one for a torn stream.
"""

import asyncio
import logging
import socket
import ssl
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from typing import Annotated

from aiohttp import HttpVersion11, StreamReader, web
from aiohttp.web_protocol import RequestHandler
from annotated_types import Ge, Gt
from multidict import CIMultiDict

from edge.errors import ClientError, EdgeError, StreamCut, body_too_large, body_too_slow
from edge.request import EventStream, Fields, Handler, Head, Reply, Request, Response
from edge.wire.http_date import HttpDate

log = logging.getLogger("http")
_SILENT = logging.getLogger("aiohttp.access")
_SILENT.disabled = True

WRITE_BUFFER_BYTES = 64 * 1024
HEAD_MEMO_ENTRIES = 1024
HEAD_MEMO_FIELDS_MAX = 24
_REASONS = {status.value: status.phrase for status in HTTPStatus}


@dataclass(frozen=True, slots=True)
class Http1Settings:
    """Limits of HTTP/1.1 connections."""

    header_timeout_s: Annotated[float, Gt(0)] = 10.0
    """Absolute: headers that are not complete by then are answered with 408."""
    body_timeout_s: Annotated[float, Gt(0)] = 10.0
    """After this long a body must come at `body_rate_min_bytes` a second, or it is given up."""
    body_rate_min_bytes: Annotated[int, Gt(0)] = 1024
    """The slowest body that is waited for, in bytes a second."""
    idle_timeout_s: Annotated[float, Gt(0)] = 75.0
    """How long an idle connection is kept for the next request."""
    write_stall_s: Annotated[float, Gt(0)] = 30.0
    """A client that takes nothing for so long is given up."""
    connections_max: Annotated[int, Ge(1)] = 4096
    """More connections than this are closed as they come."""


class Http1Wire:
    """One listening socket. Started, drained and stopped by the node."""

    def __init__(
        self,
        sock: socket.socket,
        tls: ssl.SSLContext | None,
        handler: Handler,
        settings: Http1Settings,
        alt_svc: str | None = None,
    ) -> None:
        """`alt_svc` is the whole value of the field, or None when HTTP/3 is not to be had."""
        self.draining = False
        self._sock = sock
        self._tls = tls
        self._handler = handler
        self.settings = settings
        self._alt_svc = alt_svc
        self.date = HttpDate()
        self._listener: asyncio.Server | None = None
        self._server: web.Server | None = None

    def __repr__(self) -> str:
        state = "draining" if self.draining else "open"
        return f"<Http1Wire {self._sock.getsockname()} {state} connections={self.connections}>"

    @property
    def connections(self) -> int:
        return len(self._server.connections) if self._server else 0

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = web.Server(self._serve, handler_cancellation=True)
        self._listener = await loop.create_server(
            self._protocol, sock=self._sock, ssl=self._tls, backlog=1024
        )

    def drain(self) -> None:
        """Take no more connections; tell clients to close theirs with the answer they wait for."""
        self.draining = True
        if self._listener:
            self._listener.close()
        if self._server:
            self._server.pre_shutdown()

    async def stop(self, grace_s: float) -> None:
        """Finish what is in flight, for at most `grace_s` seconds, and close everything."""
        self.drain()
        if self._server:
            await self._server.shutdown(timeout=grace_s)

    def _protocol(self) -> asyncio.Protocol:
        assert self._server is not None
        return _Connection(self, self._server)

    # One request.

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        head = _head(request)
        refusal = self._handler.admit(head)
        if refusal is not None:
            return await self._refuse(request, refusal)
        if "expect" in head.headers and request.transport is not None:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        try:
            body = await self._body(request)
        except EdgeError as error:
            return await self._refuse(request, self._handler.refuse(head, error))
        reply = self._handler.handle(Request(head, body, request.remote or "", "1.1"))
        return await self._send(request, reply if isinstance(reply, Response) else await reply)

    async def _body(self, request: web.BaseRequest) -> bytes:
        content = request.content
        if content.is_eof():  # it came with the head
            return content.read_nowait()
        limit = self._handler.body_bytes_max
        chunks: list[bytes] = []
        size = 0
        loop = asyncio.get_running_loop()
        began = loop.time()
        while not content.at_eof():
            chunk = await self._slowly(content)
            chunks.append(chunk)
            size += len(chunk)
            if size > limit:
                raise body_too_large(limit)
            beyond_s = loop.time() - began - self.settings.body_timeout_s
            if size < beyond_s * self.settings.body_rate_min_bytes:
                raise body_too_slow()
        return b"".join(chunks)

    async def _slowly(self, content: StreamReader) -> bytes:
        try:
            async with asyncio.timeout(self.settings.body_timeout_s):
                return await content.readany()
        except TimeoutError as exc:
            raise body_too_slow() from exc

    async def _refuse(self, request: web.BaseRequest, response: Response) -> web.StreamResponse:
        """Answer before the body was read, and close: what follows here is that body."""
        unread = request.body_exists and not request.content.is_eof()
        return self._whole(response, close=unread)

    async def _send(self, request: web.BaseRequest, reply: Reply) -> web.StreamResponse:
        if isinstance(reply, Response):
            return self._whole(reply)
        return await self._stream(request, reply)

    def _whole(self, response: Response, *, close: bool = False) -> "_Whole":
        return _Whole(self, response, close=close or self.draining)

    async def _stream(self, request: web.BaseRequest, stream: EventStream) -> web.StreamResponse:
        response = web.StreamResponse(status=stream.status, headers=self._fields(stream.fields))
        response.enable_chunked_encoding()
        if self.draining:
            response.force_close()
        try:
            await response.prepare(request)
            async for chunk in stream.chunks:
                if chunk:
                    await self._write(request, response, chunk)
        except StreamCut:
            # The last chunk is left out on purpose: RFC 9112, 8 calls such a message incomplete.
            if request.transport is not None:
                request.transport.close()
            raise ConnectionResetError("the answer broke off") from None
        finally:
            await stream.chunks.aclose()
        return response

    async def _write(
        self, request: web.BaseRequest, response: web.StreamResponse, chunk: bytes
    ) -> None:
        try:
            async with asyncio.timeout(self.settings.write_stall_s):
                await response.write(chunk)
        except TimeoutError:
            self.stalled(request)

    def stalled(self, request: web.BaseRequest) -> None:
        """Give up a client that takes nothing."""
        log.info("event=timeout phase=write proto=h1")
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError("the client stopped reading")

    def _fields(self, fields: Fields) -> CIMultiDict[str]:
        """For a stream; `_Whole` writes its own."""
        return CIMultiDict((*fields, *self.own_fields()))

    def own_fields(self) -> Fields:
        """What this wire has to say itself. `server` names no version: that is for operators."""
        own = (("server", "promptedge"),)
        if self._alt_svc is None:
            return own
        return (*own, ("alt-svc", "clear" if self.draining else self._alt_svc))

    def error(self, error: EdgeError) -> "_Whole":
        """An answer to what could not even be parsed. The connection ends with it."""
        return self._whole(self._handler.refuse(None, error), close=True)


class _Whole(web.StreamResponse):
    """A complete response, written with its head at once.

    aiohttp builds one from a dictionary of fields, looks at each again and writes twice; for an
    exact hit that would cost as much as all the rest.
    """

    def __init__(self, wire: Http1Wire, response: Response, *, close: bool) -> None:
        super().__init__(status=response.status)
        self._wire = wire
        self._response = response
        self._close_after = close

    async def prepare(self, request: web.BaseRequest) -> None:
        close = self._close_after or not request.keep_alive
        self._keep_alive = not close
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the client has left")
        head = self._head(close=close, kept=not close and request.version < HttpVersion11)
        bare = request.method == "HEAD" or self._response.status in (204, 304)
        transport.write(head if bare else head + self._response.body)
        if transport.get_write_buffer_size() > WRITE_BUFFER_BYTES:
            await self._drained(request)

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing is left to write."""

    def _head(self, *, close: bool, kept: bool) -> bytes:
        response = self._response
        lines = [f"HTTP/1.1 {response.status} {_REASONS.get(response.status, '')}"]
        lines += [f"{name}: {value}" for name, value in response.fields]
        lines += [f"{name}: {value}" for name, value in self._wire.own_fields()]
        if response.status != 204:
            lines.append(f"content-length: {len(response.body)}")
        if close or kept:
            lines.append("connection: close" if close else "connection: keep-alive")
        lines.append(f"date: {self._wire.date()}\r\n\r\n")
        head = "\r\n".join(lines)
        # One line a field: a value with a line end in it would be a field, or an answer, itself.
        assert head.count("\n") == len(lines) + 1, "a line end in a field"
        return head.encode("latin-1", "replace")

    async def _drained(self, request: web.BaseRequest) -> None:
        """Until the client has taken most of a large body; the wire gives up one that stalls."""
        try:
            async with asyncio.timeout(self._wire.settings.write_stall_s):
                await request.writer.drain()
        except TimeoutError:
            self._wire.stalled(request)


class _Connection(RequestHandler):
    """aiohttp's protocol with a deadline for headers and errors of our own shape."""

    __slots__ = ("_deadline", "_wire")

    def __init__(self, wire: Http1Wire, server: web.Server) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(
            server,
            loop=loop,
            keepalive_timeout=wire.settings.idle_timeout_s,
            access_log=_SILENT,
            lingering_time=2.0,
            auto_decompress=False,
            read_bufsize=64 * 1024,
        )
        self._wire = wire
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self._wire.connections > self._wire.settings.connections_max:
            log.warning("event=closed proto=h1 reason=too_many_connections")
            self.force_close()
            return
        self._await_head()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._head_came()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        before = self._request_count
        super().data_received(data)
        if self._request_count != before:
            self._head_came()
        elif self._deadline is None and self._waiter is not None and not self._waiter.done():
            # The first bytes of another request on a kept connection.
            self._await_head()

    def _await_head(self) -> None:
        timeout_s = self._wire.settings.header_timeout_s
        self._deadline = self._loop.call_later(timeout_s, self._too_late)

    def _head_came(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_late(self) -> None:
        self._deadline = None
        log.info("event=timeout phase=headers proto=h1")
        if self.transport is not None:
            self.transport.write(_TIMEOUT)
        self.force_close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if request.writer is not None and request.writer.output_size > 0:
            raise ConnectionResetError("an answer has begun already")
        if status < 500:
            log.warning("event=bad_request proto=h1 reason=framing src=%s", request.remote)
            return self._wire.error(
                ClientError(
                    "This is not a valid HTTP/1.1 request.", status=status, code="bad_request"
                )
            )
        log.error("event=bug proto=h1", exc_info=exc)
        return self._wire.error(EdgeError("The node made a mistake. It has been logged."))


_TIMEOUT = (
    b"HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\nconnection: close\r\n"
    b"cache-control: no-store\r\ncontent-length: 111\r\n\r\n"
    b'{"error":{"message":"The request took too long.","type":"invalid_request_error",'
    b'"param":null,"code":"timeout"}}'
)


def _head(request: web.BaseRequest) -> Head:
    message = request._message
    if len(message.raw_headers) > HEAD_MEMO_FIELDS_MAX:
        return _read_head(request.method, message.path, message.raw_headers)
    return _head_memo(request.method, message.path, message.raw_headers)


def _read_head(method: str, target: str, raw: tuple[tuple[bytes, bytes], ...]) -> Head:
    headers: dict[str, str] = {}
    for raw_name, raw_value in raw:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    path, _, query = target.partition("?")
    return Head(method, path, query, headers.get("host", ""), headers)


_head_memo = lru_cache(HEAD_MEMO_ENTRIES)(_read_head)
