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
from typing import Annotated

from aiohttp import StreamReader, hdrs, web
from aiohttp.web_protocol import RequestHandler
from annotated_types import Ge, Gt
from multidict import CIMultiDict

from edge.errors import ClientError, EdgeError, StreamCut, body_too_large, body_too_slow
from edge.request import EventStream, Fields, Handler, Head, Reply, Request, Response

log = logging.getLogger("http")
_SILENT = logging.getLogger("aiohttp.access")
_SILENT.disabled = True


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
        limit = self._handler.body_bytes_max
        chunks: list[bytes] = []
        size = 0
        loop = asyncio.get_running_loop()
        began = loop.time()
        while not content.at_eof():
            chunk = content.read_nowait(-1) if content.is_eof() else await self._slowly(content)
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
        reply = self._response(request, response)
        if request.body_exists and not request.content.is_eof():
            reply.force_close()
            reply.headers[hdrs.CONNECTION] = "close"
        return reply

    async def _send(self, request: web.BaseRequest, reply: Reply) -> web.StreamResponse:
        if isinstance(reply, Response):
            return self._response(request, reply)
        return await self._stream(request, reply)

    def _response(self, request: web.BaseRequest, response: Response) -> web.Response:
        made = web.Response(
            status=response.status, body=response.body, headers=self._fields(response.fields)
        )
        if self.draining:
            made.force_close()
        return made

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
            log.info("event=timeout phase=write proto=h1")
            if request.transport is not None:
                request.transport.abort()
            raise ConnectionResetError("the client stopped reading") from None

    def _fields(self, fields: Fields) -> CIMultiDict[str]:
        made = CIMultiDict(fields)
        made[hdrs.SERVER] = "promptedge"  # and no version: that is for operators to know
        if self._alt_svc:
            made["alt-svc"] = "clear" if self.draining else self._alt_svc
        return made

    def error(self, error: EdgeError) -> web.Response:
        """An answer to what could not even be parsed. The connection ends with it."""
        response = self._handler.refuse(None, error)
        made = web.Response(
            status=response.status, body=response.body, headers=self._fields(response.fields)
        )
        made.force_close()
        return made


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
    headers: dict[str, str] = {}
    for name, value in request.headers.items():
        lower = name.lower()
        text = value.encode("utf-8", "surrogateescape").decode("latin-1")
        headers[lower] = f"{headers[lower]}, {text}" if lower in headers else text
    path, _, query = request.path_qs.partition("?")
    raw = request._message.path.partition("?")[0]
    return Head(
        method=request.method,
        path=raw if raw.startswith("/") else path,
        query=query,
        authority=headers.get("host", ""),
        headers=headers,
    )
