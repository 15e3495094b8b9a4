"""aioquic's QUIC connection with the limits a public server needs.

What is changed, and why:

*   **Window from delivered data.** aioquic 1.7.2 grants stream and connection window from the
    highest offset *seen* and doubles it without ceiling, so a client that leaves a hole at the
    start of a stream makes us buffer without bound. Here a window ends a fixed distance beyond
    what was *delivered*; a hole therefore stops the stream, and what a connection can make us
    hold is `connection_window_bytes`.
*   **Few holes.** Reassembly keeps a list of ranges; a client that sends every second byte makes
    it long and slow. An honest network leaves no more holes than the window has packets.
*   **ACKs ride.** An ACK is due at once, and everything is sent once per pass of the event loop,
    so the ACK of a request leaves in the packet of its response instead of in one of its own.
*   **Pacing for real networks.** aioquic paces with millisecond timers, which stalls a connection
    whose round trip is shorter than that. Below 2 ms of round trip nothing is paced; above it,
    bursts may be as long as the initial window (RFC 9002, 7.7).
*   **Silence.** aioquic logs text chosen by the peer. What is worth a line is logged by us.

All of this leans on aioquic's internals, so `check_aioquic()` refuses any other shape of them.
"""

import logging
from collections.abc import Iterator
from typing import Any, Final, Literal

import aioquic
from aioquic._buffer import Buffer
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import (
    CONNECTION_LIMIT_FRAME_CAPACITY,
    END_STATES,
    MAX_STREAM_DATA_FRAME_CAPACITY,
    Limit,
    QuicConnection,
    QuicConnectionAdapter,
    QuicReceiveContext,
)
from aioquic.quic.packet import QuicFrameType
from aioquic.quic.packet_builder import QuicPacketBuilder
from aioquic.quic.rangeset import RangeSet
from aioquic.quic.recovery import QuicPacketPacer, QuicPacketSpace
from aioquic.quic.stream import QuicStream

from edge.wire.quic_writer import QuicWriter
from edge.wire.udp import Address

AIOQUIC_VERSION: Final = "1.7.2"

BYTES_PER_HOLE: Final = 2048
"""If every second full packet is lost, there is a hole for about this many bytes of window."""

UNI_STREAMS_MAX: Final = 16
"""Control, two for QPACK, and room for streams of unknown type, which must be tolerated."""

UNPACED_RTT_S: Final = 0.002
BURST_PACKETS: Final = 10

EXCESSIVE_LOAD: Final = 0x107
"""H3_EXCESSIVE_LOAD: the peer makes us work more than its requests are worth."""


class _Silence(QuicConnectionAdapter):
    """Takes what aioquic would log. A disabled logger would still cost a call and a look-up."""

    def debug(self, msg: object, *args: object, **kwargs: Any) -> None: ...
    def info(self, msg: object, *args: object, **kwargs: Any) -> None: ...
    def warning(self, msg: object, *args: object, **kwargs: Any) -> None: ...
    def error(self, msg: object, *args: object, **kwargs: Any) -> None: ...


_SILENCE: Final = _Silence(logging.getLogger("h3.quic"), {})


class ServerPacer(QuicPacketPacer):
    def update_rate(self, congestion_window: int, smoothed_rtt: float) -> None:
        if smoothed_rtt < UNPACED_RTT_S:
            self.packet_time = None
            return
        super().update_rate(congestion_window, smoothed_rtt)
        burst_s = BURST_PACKETS * self._max_datagram_size * smoothed_rtt / congestion_window
        self.bucket_max = max(self.bucket_max, burst_s)


class ServerConnection(QuicWriter):
    """One client, as far as QUIC goes."""

    def __init__(
        self,
        *,
        configuration: QuicConfiguration,
        original_destination_connection_id: bytes,
        retry_source_connection_id: bytes | None = None,
        streams_max: int,
    ) -> None:
        super().__init__(
            configuration=configuration,
            original_destination_connection_id=original_destination_connection_id,
            retry_source_connection_id=retry_source_connection_id,
        )
        self.ended_by: Literal["idle", "us", "peer"] = "idle"
        """Who began the end. Only to be read once it has begun."""
        self._ack_delay = 0.0
        self._holes_max = max(16, configuration.max_stream_data // BYTES_PER_HOLE)
        self._logger = self._loss._logger = _SILENCE
        self._loss._pacer = ServerPacer(max_datagram_size=configuration.max_datagram_size)
        self._local_max_streams_bidi = Limit(
            frame_type=QuicFrameType.MAX_STREAMS_BIDI, name="max_streams_bidi", value=streams_max
        )
        self._local_max_streams_uni = Limit(
            frame_type=QuicFrameType.MAX_STREAMS_UNI, name="max_streams_uni", value=UNI_STREAMS_MAX
        )

    # what the layers above ask

    @property
    def closing(self) -> bool:
        """Whether the end has begun, by whomever: nothing more will be answered."""
        return self._close_event is not None or self._state in END_STATES

    @property
    def abused(self) -> bool:
        """Whether we have closed it because the client made too much work."""
        ended = self._close_event
        return self.ended_by == "us" and ended is not None and ended.error_code == EXCESSIVE_LOAD

    @property
    def proven_address(self) -> Address | None:
        """Where the client is, as it has shown by answering from there.

        aioquic follows a packet that comes from elsewhere at once, and only then finds out whether
        the client is there: meanwhile the address may be one that somebody wrote on the packet.
        """
        return next((path.addr for path in self._network_paths if path.is_validated), None)

    @property
    def streams_seen(self) -> int:
        """Request streams the client has opened so far."""
        return self._local_max_streams_bidi.used

    def writable(self, stream_id: int) -> bool:
        stream = self._streams.get(stream_id)
        return (
            stream is not None
            and stream.sender._reset_error_code is None
            and stream.sender._buffer_fin is None
        )

    def unacknowledged(self, stream_id: int) -> int:
        """Bytes of the stream that are held for sending or for sending again."""
        stream = self._streams.get(stream_id)
        return 0 if stream is None else _held(stream)

    def unacknowledged_total(self) -> int:
        return sum(_held(stream) for stream in self._streams.values())

    def request_streams(self) -> Iterator[tuple[int, QuicStream]]:
        return ((number, stream) for number, stream in self._streams.items() if number & 3 == 0)

    def stopped(self, stream_id: int) -> bool:
        """Whether we have asked the client to send no more on this stream."""
        stream = self._streams.get(stream_id)
        return stream is not None and stream.receiver._stop_error_code is not None

    def stop_receiving(self, stream_id: int, code: int) -> None:
        """STOP_SENDING, unless everything has arrived or was stopped already."""
        stream = self._streams.get(stream_id)
        if stream is None or stream.receiver.is_finished or self.stopped(stream_id):
            return
        stream.receiver.stop(code)

    def forget_received(self, stream_id: int) -> None:
        """Let go of what waits behind a hole; it will never be delivered."""
        stream = self._streams.get(stream_id)
        if stream is not None:
            stream.receiver._buffer = bytearray()
            stream.receiver._ranges = RangeSet()

    def reset(self, stream_id: int, code: int) -> None:
        """RESET_STREAM, and the bytes that were still to be sent are let go."""
        stream = self._streams.get(stream_id)
        if stream is None or stream.sender.is_finished:
            return
        stream.sender.reset(code)
        stream.sender._pending = RangeSet()
        stream.sender._buffer = bytearray()
        stream.sender._buffer_start = stream.sender._buffer_stop

    # what is changed in aioquic

    def close(
        self, error_code: int = 0, frame_type: int | None = None, reason_phrase: str = ""
    ) -> None:
        if not self.closing:
            self.ended_by = "us"
        super().close(error_code, frame_type, reason_phrase)

    def _handle_connection_close_frame(
        self, context: QuicReceiveContext, frame_type: int, buf: Buffer
    ) -> None:
        if not self.closing:
            self.ended_by = "peer"
        super()._handle_connection_close_frame(context, frame_type, buf)

    def _get_or_create_stream(self, frame_type: int, stream_id: int) -> QuicStream:
        stream = super()._get_or_create_stream(frame_type, stream_id)
        if stream.receiver._buffer and len(stream.receiver._ranges) > self._holes_max:
            self.close(error_code=EXCESSIVE_LOAD, reason_phrase="too many holes")
        return stream

    def _limits_due(self) -> list[Limit]:
        window = self._configuration.max_data
        data = self._local_max_data
        if data.value - data.used < window // 2:
            data.value = max(data.value, data.used - self._undelivered() + window)
        due = [data] if data.value != data.sent else []
        for streams in (self._local_max_streams_bidi, self._local_max_streams_uni):
            # A batch at a time: once the client can open fewer than the update would grant.
            left, granted = streams.sent - streams.used, streams.value - streams.sent
            if granted and left < granted:
                due.append(streams)
        return due

    def _write_connection_limits(self, builder: QuicPacketBuilder, space: QuicPacketSpace) -> None:
        for limit in self._limits_due():
            buf = builder.start_frame(
                limit.frame_type,
                capacity=CONNECTION_LIMIT_FRAME_CAPACITY,
                handler=self._on_connection_limit_delivery,
                handler_args=(limit,),
            )
            buf.push_uint_var(limit.value)
            limit.sent = limit.value

    def _window_due(self, stream: QuicStream) -> bool:
        receiver, limit = stream.receiver, stream.max_stream_data_local
        if receiver.is_finished or not limit:
            return False  # all there is has come, or there is nothing to come: a stream of our own
        window = self._configuration.max_stream_data
        if limit - receiver._buffer_start < window // 2 and receiver._stop_error_code is None:
            limit = stream.max_stream_data_local = receiver._buffer_start + window
        return limit != stream.max_stream_data_local_sent

    def _write_stream_limits(
        self, builder: QuicPacketBuilder, space: QuicPacketSpace, stream: QuicStream
    ) -> None:
        if not self._window_due(stream):
            return
        buf = builder.start_frame(
            QuicFrameType.MAX_STREAM_DATA,
            capacity=MAX_STREAM_DATA_FRAME_CAPACITY,
            handler=self._on_max_stream_data_delivery,
            handler_args=(stream,),
        )
        buf.push_uint_var(stream.stream_id or 0)
        buf.push_uint_var(stream.max_stream_data_local)
        stream.max_stream_data_local_sent = stream.max_stream_data_local

    def _undelivered(self) -> int:
        """Bytes that count as received but have not been delivered: what waits behind holes."""
        return sum(
            stream.receiver.highest_offset - stream.receiver._buffer_start
            for stream in self._streams.values()
            if not stream.receiver.is_finished
        )


def _held(stream: QuicStream) -> int:
    return stream.sender._buffer_stop - stream.sender._buffer_start


_CONNECTION_SHAPE: Final = """
    _ack_delay _close_event _close_pending _crypto_streams _cryptos _datagrams_pending _events
    _get_or_create_stream _handle_connection_close_frame _handshake_confirmed
    _handshake_done_pending _host_cids _local_max_data _local_max_streams_bidi
    _local_max_streams_uni _logger _loss _network_paths _on_connection_limit_delivery
    _on_max_stream_data_delivery _pacing_at _ping_pending _probe_pending _remote_max_data
    _remote_max_data_used _retire_connection_ids _spaces _state _stream_limit _streams
    _streams_blocked_pending _streams_queue _write_ack_frame _write_application
    _write_connection_limits _write_reset_stream_frame _write_stop_sending_frame
    _write_stream_frame _write_stream_limits
"""
_RECEIVER_SHAPE: Final = """
    _buffer _buffer_start _ranges _stop_error_code highest_offset is_finished stop_pending
"""
_SENDER_SHAPE: Final = """
    _buffer _buffer_fin _buffer_start _buffer_stop _pending _pending_eof _reset_error_code
    buffer_is_empty highest_offset is_finished next_offset reset_pending
"""


def check_aioquic(configuration: QuicConfiguration) -> None:
    """Raise RuntimeError unless aioquic's internals are those this module was written for."""
    stream = QuicStream(stream_id=0)
    connection = QuicConnection(
        configuration=configuration, original_destination_connection_id=bytes(8)
    )
    parts: tuple[tuple[object, str], ...] = (
        (connection, _CONNECTION_SHAPE),
        (connection._loss, "_logger _pacer"),
        (stream.receiver, _RECEIVER_SHAPE),
        (stream.sender, _SENDER_SHAPE),
    )
    missing = [
        f"{type(part).__name__}.{name}"
        for part, names in parts
        for name in names.split()
        if not hasattr(part, name)
    ]
    if aioquic.__version__ != AIOQUIC_VERSION or missing:
        raise RuntimeError(
            f"edge.wire leans on the internals of aioquic {AIOQUIC_VERSION}; installed is "
            f"{aioquic.__version__}, missing: {', '.join(missing) or 'nothing'}. "
            f"Install aioquic=={AIOQUIC_VERSION}."
        )
