"""One HTTP/3 connection: its requests, their answers, and what a client may not do.

    bytes ─► RequestStream ─► head ─► admit ── refusal ─► response, STOP_SENDING
                                │ None
                                ▼
                              body ─► complete ─► handle ── Response ─► sent in this very pass
                                                     │ coroutine
                                                     ▼
                                            a task ─► Response | EventStream, as there is room

An exchange lives from the first byte of a request until the last byte of its answer is written.
Whatever ends it early (a reset, a deadline, the end of the connection) cancels its task, and the
cancelled task closes the generator it was reading from.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from aioquic.h3.connection import ErrorCode, ProtocolError
from aioquic.quic.events import QuicEvent, StopSendingReceived, StreamDataReceived, StreamReset

from edge.errors import Overloaded, StreamCut, body_too_large, body_too_slow
from edge.request import EventStream, Handler, Reply, Request, Response
from edge.wire.h3_control import LAST_REQUEST, ControlStreams
from edge.wire.h3_head import CONTINUE, HeadDecoder, StreamFault, encode_head, frame, frame_header
from edge.wire.h3_request import DATA, RequestStream
from edge.wire.http3_settings import Http3Settings
from edge.wire.limits import Allowance, ByteBudget, Tasks
from edge.wire.log_lines import Repeats, where
from edge.wire.peer import peer_of
from edge.wire.quic_connection import ServerConnection

log = logging.getLogger("h3")

STARVATION_BYTES: Final = 4096
"""What a stream may hold even when the connection as a whole holds its fill, so that stalled
streams cannot stop the others."""

UNIDIRECTIONAL: Final = 2
"""The bit in a stream's number. Every stream of a client without it carries a request."""


@dataclass(slots=True)
class Http3Counters:
    requests: int = 0
    """Header sections that made sense."""
    hits: int = 0
    """Requests answered in the same pass, without a task."""
    malformed: int = 0
    cancelled: int = 0
    """Exchanges ended early by the client."""
    timeouts: int = 0
    failures: int = 0
    """Handlers or streams that raised what they should not."""
    cut: int = 0
    """Streams that ended incomplete because their source did."""


@dataclass(slots=True)
class Shared:
    """What all connections of a wire have in common."""

    handler: Handler
    settings: Http3Settings
    heads: HeadDecoder
    tasks: Tasks
    bodies: ByteBudget
    http_date: Callable[[], str]
    counters: Http3Counters = field(default_factory=Http3Counters)
    repeats: Repeats = field(default_factory=Repeats)


class Exchange:
    """A request and its answer."""

    __slots__ = (
        "admitted",
        "answering",
        "body_held",
        "fin_seen",
        "gone",
        "method",
        "opened_at",
        "request",
        "rest",
        "room",
        "stream_id",
        "task",
    )

    def __init__(self, stream_id: int, request: RequestStream, now: float) -> None:
        self.stream_id = stream_id
        self.request = request
        self.opened_at = now
        self.method = ""
        self.admitted = False
        self.answering = False
        """From here on, what the client still sends is not looked at."""
        self.fin_seen = False
        """The client has sent all it will send, and we were told."""
        self.gone = False
        """Over: nothing more may be written."""
        self.body_held = 0
        self.task: asyncio.Task[None] | None = None
        self.rest: memoryview | None = None
        """Of a complete response: what waits for room."""
        self.room: asyncio.Future[None] | None = None
        """Of an event stream: set when there is room for the next chunk."""


class H3Session:
    def __init__(self, quic: ServerConnection, shared: Shared, wake: Callable[[], None]) -> None:
        settings = shared.settings
        self._quic = quic
        self._shared = shared
        self._wake = wake
        self._control = ControlStreams(quic, section_max=settings.header_section_max_bytes)
        self._exchanges: dict[int, Exchange] = {}
        self._blocked: dict[Exchange, None] = {}
        # One body of the size that the handler allows fits in any case.
        bodies_max = max(settings.bodies_max_bytes, shared.handler.body_bytes_max)
        self._bodies = ByteBudget(bodies_max, parent=shared.bodies)
        self._resets = Allowance(settings.resets_burst, settings.resets_per_s)
        self._reject_from = LAST_REQUEST + 1
        self._deaf: set[int] = set()
        """Streams that are dealt with, though the client may not have ended them yet."""
        self._live_tasks = 0
        self._outstanding = 0  # bytes written and perhaps not acknowledged: an upper bound
        self._heard_at = 0.0
        self._silent: dict[int, float] = {}
        self._progress: dict[int, tuple[int, float]] = {}

    def __repr__(self) -> str:
        return (
            f"<H3Session exchanges={len(self._exchanges)} blocked={len(self._blocked)} "
            f"tasks={self._live_tasks} bodies={self._bodies.held}>"
        )

    @property
    def busy(self) -> bool:
        return bool(self._exchanges) or any(
            stream.sender._buffer_fin is not None and not stream.sender.is_finished
            for _, stream in self._quic.request_streams()
        )

    # what the connection reports

    def handle(self, event: QuicEvent, now: float) -> None:
        self._heard_at = now
        try:
            if isinstance(event, StreamDataReceived):
                if event.stream_id & UNIDIRECTIONAL:
                    self._control.handle_event(event)
                else:
                    self._data(event.stream_id, event.data, event.end_stream, now)
            elif isinstance(event, StreamReset | StopSendingReceived):
                if event.stream_id & UNIDIRECTIONAL or event.stream_id & 1:
                    self._control.handle_event(event)
                else:
                    self._left(event, now)
        except ProtocolError as exc:
            self._quic.close(error_code=exc.error_code, reason_phrase=exc.reason_phrase)

    def resume(self, now: float) -> None:
        self._heard_at = now
        for exchange in list(self._blocked):
            if exchange.rest is not None:
                self._refill(exchange)
            elif self._room(exchange, self._shared.settings.stream_buffer_bytes) > 0:
                del self._blocked[exchange]
                if exchange.room is not None and not exchange.room.done():
                    exchange.room.set_result(None)

    def goaway(self, *, final: bool) -> None:
        """First without a limit, so that no request on its way is lost; then for good."""
        if final:
            self._reject_from = self._quic.streams_seen * 4
        self._control.goaway(self._reject_from if final else LAST_REQUEST)

    def abandon(self) -> None:
        for exchange in list(self._exchanges.values()):
            self._end(exchange)

    # a request comes in

    def _data(self, stream_id: int, data: bytes, fin: bool, now: float) -> None:
        exchange = self._exchanges.get(stream_id)
        if exchange is None:
            if stream_id in self._deaf:
                if fin:
                    self._deaf.discard(stream_id)
                return
            exchange = self._open(stream_id, fin, now)
            if exchange is None:
                return
        exchange.fin_seen = fin
        if exchange.answering:
            return
        try:
            exchange.request.feed(data, fin)
            self._advance(exchange)
        except StreamFault as fault:
            self._shared.counters.malformed += 1
            if count := self._shared.repeats.count("malformed", now):
                log.info(
                    'event=malformed stream=%d why="%s" src=%s count=%d',
                    stream_id,
                    fault.why,
                    self.peer,
                    count,
                )
            self._reset(exchange, fault.code)
            self._spend_reset(now)
        except ProtocolError:
            raise
        except Exception as exc:  # the handler's: one request fails, not the wire
            self._failed(exchange, exc)

    def _open(self, stream_id: int, fin: bool, now: float) -> Exchange | None:
        shared = self._shared
        if not self._quic.writable(stream_id):
            # STOP_SENDING overtook the request, in one packet even: nobody waits for an answer.
            if not fin:
                self._deaf.add(stream_id)
            return None
        if (
            stream_id >= self._reject_from
            or self._live_tasks >= shared.settings.streams_max
            or len(shared.tasks) >= shared.settings.tasks_max
        ):
            # "Rejected" promises that nothing was done, so the client may send it elsewhere.
            self._quic.reset(stream_id, ErrorCode.H3_REQUEST_REJECTED)
            self._quic.stop_receiving(stream_id, ErrorCode.H3_REQUEST_REJECTED)
            if not fin:
                self._deaf.add(stream_id)
            return None
        request = RequestStream(
            shared.heads,
            block_max=shared.settings.header_block_max_bytes,
            body_max=shared.handler.body_bytes_max,
        )
        exchange = self._exchanges[stream_id] = Exchange(stream_id, request, now)
        return exchange

    def _advance(self, exchange: Exchange) -> None:
        """The steps of `edge.request`: admit, read, handle."""
        request, handler = exchange.request, self._shared.handler
        if request.head is None:
            return
        head = request.head.head
        if not exchange.admitted:
            exchange.admitted = True
            exchange.method = head.method
            self._shared.counters.requests += 1
            refusal = handler.admit(head, self.peer)
            if refusal is not None:
                self._refuse(exchange, refusal)
                return
            if request.head.expects_continue and not request.ended and not request.received:
                self._write(exchange, CONTINUE)
        if request.too_large:
            over = body_too_large(handler.body_bytes_max)
            self._refuse(exchange, handler.refuse(head, over))
        elif not self._hold(exchange):
            full = Overloaded("Too many bytes of requests are held already.", retry_after_s=1)
            self._refuse(exchange, handler.refuse(head, full))
        elif request.ended:
            exchange.answering = True
            body = request.take_body()
            reply = handler.handle(Request(head, body, self.peer, "3"))
            if isinstance(reply, Response):
                self._shared.counters.hits += 1
                self._respond(exchange, reply)
            else:
                self._start(exchange, reply)

    def _hold(self, exchange: Exchange) -> bool:
        """Count what the body occupies; a body that came in one piece never enters the books."""
        request = exchange.request
        if request.ended and not exchange.body_held:
            return True
        more = request.received - exchange.body_held
        if not self._bodies.take(more):
            return False
        exchange.body_held += more
        return True

    def _refuse(self, exchange: Exchange, refusal: Response) -> None:
        """Answer now; the rest of the request is not wanted (RFC 9114, 4.1)."""
        exchange.answering = True
        exchange.request.take_body()
        self._respond(exchange, refusal)
        self._quic.stop_receiving(exchange.stream_id, ErrorCode.H3_NO_ERROR)

    # an answer goes out

    def _start(self, exchange: Exchange, coroutine: Coroutine[Any, Any, Reply]) -> None:
        self._live_tasks += 1
        exchange.task = self._shared.tasks.start(
            self._answer(exchange, coroutine), name=f"h3-request-{exchange.stream_id}"
        )
        exchange.task.add_done_callback(partial(self._task_done, coroutine))

    def _task_done(self, coroutine: Coroutine[Any, Any, Reply], task: asyncio.Task[None]) -> None:
        self._live_tasks -= 1
        coroutine.close()  # a task cancelled before its first step has not even begun it

    async def _answer(self, exchange: Exchange, coroutine: Coroutine[Any, Any, Reply]) -> None:
        try:
            reply = await coroutine
            if isinstance(reply, Response):
                self._respond(exchange, reply)
            else:
                await self._stream(exchange, reply)
        except StreamCut as exc:
            await self._delivered(exchange)
            self._failed(exchange, exc)
        except Exception as exc:
            self._failed(exchange, exc)
        self._wake()

    def _respond(self, exchange: Exchange, response: Response) -> None:
        status, body = response.status, response.body
        # RFC 9110, 8.6: no content-length with 204, and with 304 only that of the 200.
        counted = status != 204 and (status != 304 or body)
        head = encode_head(
            status,
            response.fields,
            length=len(body) if counted else None,
            date=self._shared.http_date(),
        )
        if not body or exchange.method == "HEAD" or status in (204, 304):
            self._write(exchange, head, fin=True)
        elif len(body) <= STARVATION_BYTES * 4:
            self._write(exchange, head + frame_header(DATA, len(body)) + body, fin=True)
        else:
            self._write(exchange, head + frame_header(DATA, len(body)))
            exchange.rest = memoryview(body)
            self._refill(exchange)
            return
        self._end(exchange)

    def _refill(self, exchange: Exchange) -> None:
        """Copy as much of a long response as there is room for."""
        assert exchange.rest is not None
        room = self._room(exchange, self._shared.settings.response_buffer_bytes)
        if room < min(STARVATION_BYTES, len(exchange.rest)):
            self._blocked[exchange] = None
            return
        piece, exchange.rest = exchange.rest[:room], exchange.rest[room:]
        last = not exchange.rest
        self._write(exchange, bytes(piece), fin=last)
        if last:
            self._end(exchange)
        else:
            self._blocked[exchange] = None

    async def _stream(self, exchange: Exchange, reply: EventStream) -> None:
        chunks = reply.chunks
        try:
            head = encode_head(
                reply.status, reply.fields, length=None, date=self._shared.http_date()
            )
            self._write(exchange, head)
            self._wake()
            while exchange.method != "HEAD":
                await self._wait_for_room(exchange)
                chunk = await anext(chunks, None)
                if chunk is None:
                    break
                if chunk:
                    self._write(exchange, frame(DATA, chunk))
                    self._wake()
        finally:
            await chunks.aclose()
        self._write(exchange, b"", fin=True)
        self._end(exchange)

    async def _wait_for_room(self, exchange: Exchange) -> None:
        while self._room(exchange, self._shared.settings.stream_buffer_bytes) <= 0:
            exchange.room = asyncio.get_running_loop().create_future()
            self._blocked[exchange] = None
            await exchange.room

    async def _delivered(self, exchange: Exchange) -> None:
        """Until the client has acknowledged what was written, which a reset would take back.

        The answer broke off, but its beginning, and the event that says why, are for the client.
        """
        self._wake()
        while not exchange.gone and self._quic.unacknowledged(exchange.stream_id):
            exchange.room = asyncio.get_running_loop().create_future()
            self._blocked[exchange] = None
            await exchange.room

    def _room(self, exchange: Exchange, limit: int) -> int:
        """How many bytes this stream may still hold, of `limit` and of the connection's share."""
        held = self._quic.unacknowledged(exchange.stream_id)
        share = self._shared.settings.connection_buffer_bytes - self._outstanding
        if share < limit - held:
            self._outstanding = self._quic.unacknowledged_total()
            share = self._shared.settings.connection_buffer_bytes - self._outstanding
        return max(min(limit - held, share), min(limit, STARVATION_BYTES) - held)

    def _write(self, exchange: Exchange, data: bytes, fin: bool = False) -> None:
        # The client may have stopped the stream in a packet whose event is still to come.
        if not exchange.gone and self._quic.writable(exchange.stream_id):
            self._outstanding += len(data)
            self._quic.send_stream_data(exchange.stream_id, data, fin)
            if fin:
                self._resets.earn()  # who has most of its requests answered may cancel some

    # an exchange ends

    def _end(self, exchange: Exchange) -> None:
        """Leave the books. A task that is still at work is cancelled."""
        if exchange.gone:
            return
        exchange.gone = True
        del self._exchanges[exchange.stream_id]
        if not exchange.fin_seen:
            self._deaf.add(exchange.stream_id)
        self._blocked.pop(exchange, None)
        exchange.rest = None
        self._bodies.give(exchange.body_held)
        if exchange.task is not None and exchange.task is not asyncio.current_task():
            exchange.task.cancel()

    def _reset(self, exchange: Exchange, code: int) -> None:
        """End without an answer, or in the middle of one: never as if it were whole."""
        self._quic.reset(exchange.stream_id, code)
        self._quic.stop_receiving(exchange.stream_id, code)
        self._end(exchange)
        self._wake()

    def _failed(self, exchange: Exchange, exc: Exception) -> None:
        if isinstance(exc, StreamCut):
            self._shared.counters.cut += 1
        else:
            self._shared.counters.failures += 1
            log.error("event=handler_failed error=%s at=%s", type(exc).__name__, where(exc))
        self._reset(exchange, ErrorCode.H3_INTERNAL_ERROR)

    def _left(self, event: StreamReset | StopSendingReceived, now: float) -> None:
        """The client reset its half of a stream, or wants no more of ours."""
        stream_id, reset = event.stream_id, isinstance(event, StreamReset)
        if reset:
            self._quic.forget_received(stream_id)
        if stream_id in self._deaf:
            if reset:
                self._deaf.discard(stream_id)
            return
        exchange = self._exchanges.get(stream_id)
        if exchange is None:
            self._quic.reset(stream_id, ErrorCode.H3_REQUEST_INCOMPLETE)
        elif reset and exchange.answering:
            exchange.fin_seen = True  # the reset answers our STOP_SENDING; the response goes on
            return
        else:
            exchange.fin_seen = exchange.fin_seen or reset
            self._shared.counters.cancelled += 1
            self._reset(exchange, ErrorCode.H3_REQUEST_CANCELLED)
        self._spend_reset(now)

    def _spend_reset(self, now: float) -> None:
        if not self._resets.spend(now):
            self._quic.close(error_code=ErrorCode.H3_EXCESSIVE_LOAD, reason_phrase="resets")

    # deadlines

    def sweep(self, now: float) -> None:
        for exchange in list(self._exchanges.values()):
            if not exchange.answering:
                self._sweep_request(exchange, now)
        self._sweep_silent(now)
        self._sweep_stalled(now)
        if self._exchanges and now - self._heard_at >= self._shared.settings.keepalive_s:
            self._heard_at = now
            self._quic.send_ping(0)
            self._wake()

    def _sweep_request(self, exchange: Exchange, now: float) -> None:
        settings, request = self._shared.settings, exchange.request
        open_for = now - exchange.opened_at
        if request.head is None:
            if open_for > settings.header_timeout_s:
                self._timeout("headers", now)
                self._reset(exchange, ErrorCode.H3_REQUEST_INCOMPLETE)
        elif request.received < settings.body_rate_min_bytes * (open_for - settings.body_grace_s):
            self._timeout("body", now)
            late = self._shared.handler.refuse(request.head.head, body_too_slow())
            self._refuse(exchange, late)
            self._wake()

    def _sweep_silent(self, now: float) -> None:
        """Streams that were opened and delivered nothing, perhaps behind a hole."""
        silent: dict[int, float] = {}
        for number, stream in self._quic.request_streams():
            receiver = stream.receiver
            if receiver.is_finished or receiver.starting_offset() or self._quic.stopped(number):
                continue
            since = silent[number] = self._silent.get(number, now)
            if now - since <= self._shared.settings.header_timeout_s:
                continue
            self._timeout("headers", now)
            if receiver.highest_offset:
                # A lost packet is sent again within a second; who never does it does not mean to.
                self._quic.close(
                    error_code=ErrorCode.H3_EXCESSIVE_LOAD, reason_phrase="data behind a hole"
                )
                self._wake()
                return
            self._quic.reset(number, ErrorCode.H3_REQUEST_INCOMPLETE)
            self._quic.stop_receiving(number, ErrorCode.H3_REQUEST_INCOMPLETE)
            self._wake()
        self._silent = silent

    def _sweep_stalled(self, now: float) -> None:
        """Answers of which nothing was acknowledged for too long, complete ones as well."""
        progress: dict[int, tuple[int, float]] = {}
        for number, stream in self._quic.request_streams():
            acknowledged = stream.sender._buffer_start
            if not self._quic.unacknowledged(number):
                continue
            before, since = self._progress.get(number, (-1, now))
            progress[number] = (acknowledged, since if acknowledged == before else now)
            if now - progress[number][1] > self._shared.settings.write_stall_s:
                self._timeout("write", now)
                self._quic.reset(number, ErrorCode.H3_REQUEST_CANCELLED)
                if (exchange := self._exchanges.get(number)) is not None:
                    self._end(exchange)
                self._wake()
        self._progress = progress

    def _timeout(self, phase: str, now: float) -> None:
        self._shared.counters.timeouts += 1
        if count := self._shared.repeats.count(phase, now):
            log.info("event=timeout phase=%s src=%s count=%d", phase, self.peer, count)

    @property
    def peer(self) -> str:
        address = self._quic.proven_address
        return "" if address is None else peer_of(address)
