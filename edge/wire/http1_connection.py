"""One HTTP/1.1 connection: aiohttp's protocol, with an end to everything a client may drag out.

aiohttp has no deadline for a head, none for a client that stops reading, and closes a connection
only when all it wrote was taken. Here each of them ends: slow heads with a 408, heads that grow
with a 431, readers that stall with the connection, and a torn body with the request it was for.
"""

import asyncio
import logging
from typing import Protocol, cast

from aiohttp import StreamReader, web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.web_protocol import RequestHandler, _ErrInfo

from edge.errors import ClientError, EdgeError
from edge.protection.connections import Place
from edge.wire.http1_head import REQUEST_LINE_BYTES_MAX, malformed, too_large
from edge.wire.http1_settings import Http1Settings
from edge.wire.log_lines import Repeats, where
from edge.wire.peer import peer_of

log = logging.getLogger("http")
_SILENT = logging.getLogger("aiohttp.access")
_SILENT.disabled = True

LINGER_S = 2.0
"""What a refused client still sends is thrown away for so long: a reset would take the refusal
with it."""


class Wire(Protocol):
    """What a connection needs of the listener that it came in by."""

    settings: Http1Settings
    repeats: Repeats

    def opened(self, connection: "Connection") -> bool:
        """False when the listener takes no more."""

    def closed(self, connection: "Connection") -> None: ...

    def farewell(self, error: EdgeError) -> bytes:
        """A whole answer to what is no request, after which the connection closes."""

    def error(self, request: web.BaseRequest, error: EdgeError) -> web.StreamResponse:
        """The same, where aiohttp made a request of it."""


class Connection(RequestHandler):
    __slots__ = (
        "_closing",
        "_deadline",
        "_head_bytes",
        "_receiving",
        "_sink",
        "_stall",
        "_tls",
        "_wire",
        "half_closed",
        "peer",
        "place",
        "torn",
    )

    def __init__(self, wire: Wire, server: web.Server, place: Place) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(
            server,
            loop=loop,
            keepalive_timeout=wire.settings.idle_timeout_s,
            access_log=_SILENT,
            lingering_time=LINGER_S,
            auto_decompress=False,
            read_bufsize=64 * 1024,
            max_headers=wire.settings.header_fields_max,
        )
        self._wire = wire
        self.place = place
        self.peer = ""
        """The address of the client, without port."""
        self._deadline: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None
        self._closing: asyncio.TimerHandle | None = None
        self._sink: asyncio.Transport | None = None
        self._tls = False
        self._receiving: StreamReader | None = None
        self._head_bytes = 0
        self.half_closed = False
        """The client has closed its side: it asks nothing more."""
        self.torn: StreamReader | None = None
        """The body in which the framing broke, if it did."""

    @property
    def last(self) -> bool:
        """No request can follow the one that is being answered."""
        return self.half_closed and not self._messages

    # The connection itself.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._sink = cast(asyncio.Transport, transport)
        self._tls = transport.get_extra_info("ssl_object") is not None
        if address := transport.get_extra_info("peername"):  # None: it has left already
            self.peer = peer_of(address)
        if self._wire.opened(self):
            self._await_head()
        else:
            self._sink.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        for timer in (self._deadline, self._stall, self._closing):
            if timer is not None:
                timer.cancel()
        self._sink = self._deadline = self._stall = self._closing = None
        self._wire.closed(self)

    def eof_received(self) -> bool | None:  # type: ignore[override]  # asyncio heeds it
        """Keep the connection for what is about to be answered; None closes it.

        Whether the client waits for its answer or has left cannot be told apart without writing
        to it. An answer that is at hand gets out; a model is not kept busy for it.
        """
        self.half_closed = True
        busy = self._request_count and (self._waiter is None or self._waiter.done())
        if not busy or self._tls:
            return None
        self._closing = self._loop.call_later(self._wire.settings.half_closed_s, self.force_close)
        return True

    async def start(self) -> None:
        try:
            await super().start()
        finally:
            if self.transport is not None and self.transport.is_closing():
                self._arm_closing()
            else:
                self.force_close()  # an idle one that is told to close just ends here

    def close(self) -> None:
        """Close once the answer in flight is out; at once when there is none."""
        super().close()
        self._loop.call_soon(self._wake)

    def _wake(self) -> None:
        """A connection of this very moment begins to wait only now."""
        if self._waiter is not None:
            self._waiter.cancel()

    def force_close(self) -> None:
        """Close, and do it once: a TLS transport closed twice can no longer be aborted."""
        if self.transport is not None:
            self._arm_closing()
        super().force_close()

    def abort(self) -> None:
        if self._sink is not None:
            self._sink.abort()

    def _arm_closing(self) -> None:
        """A transport that closes waits until all is taken, and some clients take nothing."""
        if self._closing is not None:
            self._closing.cancel()
        self._closing = self._loop.call_later(self._wire.settings.write_stall_s, self.abort)

    # What comes in.

    def data_received(self, data: bytes) -> None:
        before = self._request_count
        of_a_body = self._receiving is not None and not self._receiving.is_eof()
        super().data_received(data)
        if self._request_count != before:
            self._head_came()
            message, payload = self._messages[-1]
            if isinstance(message, _ErrInfo):
                self._tear()
            else:
                self._receiving = payload
        elif data and not self._close and not of_a_body:
            self._more_of_a_head(data)

    def _more_of_a_head(self, data: bytes) -> None:
        self._head_bytes += len(data)
        limit = self._wire.settings.header_section_max_bytes + REQUEST_LINE_BYTES_MAX
        if self._head_bytes > limit:
            self._give_up(too_large())
        elif self._deadline is None and data.strip(b"\r\n"):
            self._await_head()

    def _await_head(self) -> None:
        timeout_s = self._wire.settings.header_timeout_s
        self._deadline = self._loop.call_later(timeout_s, self._too_late)

    def _head_came(self) -> None:
        self._head_bytes = 0
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_late(self) -> None:
        self._deadline = None
        self._note("event=timeout phase=headers proto=h1", logging.INFO)
        self._give_up(
            ClientError("The request took too long to arrive.", status=408, code="timeout")
        )

    def _give_up(self, error: EdgeError) -> None:
        """Refuse what has not become a request yet; an answer in flight goes out before."""
        if self._waiter is None or self._waiter.done():
            self.close()
        elif self.transport is not None:
            self.transport.write(self._wire.farewell(error))
            self.force_close()

    def _tear(self) -> None:
        """The framing broke. Whoever waits for the rest of a body learns it from `torn`."""
        if self._receiving is not None and not self._receiving.is_eof():
            self.torn = self._receiving
            self._receiving.feed_eof()

    # What goes out.

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_writing()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def _watch_writing(self) -> None:
        if self._sink is not None:
            left = self._sink.get_write_buffer_size()
            stall_s = self._wire.settings.write_stall_s
            self._stall = self._loop.call_later(stall_s, self._still_writing, left)

    def _still_writing(self, before: int) -> None:
        """Slow is fine; nothing at all for so long is not."""
        self._stall = None
        if self._sink is not None and self._sink.get_write_buffer_size() < before:
            self._watch_writing()
            return
        self._note("event=timeout phase=write proto=h1", logging.INFO)
        self.abort()

    # What goes wrong.

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """aiohttp asks this for the answer to a bug, and to what it could not parse."""
        if isinstance(exc, ConnectionError) or request.writer.output_size > 0:
            raise ConnectionResetError("nobody is left to answer, or an answer has begun already")
        if status < 500:
            return self._wire.error(request, self.framing(exc))
        error, at = type(exc).__name__, where(exc) if exc else "?"
        log.error("event=bug proto=h1 error=%s at=%s", error, at)
        return self._wire.error(request, EdgeError("The node made a mistake. It has been logged."))

    def framing(self, exc: BaseException | None = None) -> ClientError:
        """What to answer to bytes that are no request. The reason stays here: it quotes them."""
        self._note("event=bad_request proto=h1 reason=framing", logging.WARNING)
        many = isinstance(exc, LineTooLong) or "Too many headers" in str(exc)
        return too_large() if many else malformed()

    def _note(self, event: str, level: int) -> None:
        count = self._wire.repeats.count(event, self._loop.time())
        if count:
            log.log(level, "%s src=%s count=%d", event, self.peer or "-", count)
