"""What a QUIC connection sends, found by looking once.

aioquic assembles packets well, but for *every packet* it walks all open streams twice and asks
each whether it has something for this packet, also when the packet is full. With a hundred
requests in flight that is most of the cost of an answer. Here the streams are looked over once for
each flush; those with something to send queue up, and packets are filled from the queue:

    survey ─► finished streams leave, the others with work line up
    packet ─► ACK, window updates, then the line: the first in it until it has said all or the
              packet is full. One with much left goes to the back, so that nobody waits for it.

Everything rare (handshake, path validation, new connection IDs, pings) is left to aioquic's own
loop, which then does the whole flush.
"""

from collections import deque
from typing import Final

from aioquic.quic.connection import (
    END_STATES,
    Limit,
    NetworkAddress,
    QuicConnection,
    QuicNetworkPath,
    stream_is_client_initiated,
)
from aioquic.quic.packet import QuicPacketType
from aioquic.quic.packet_builder import QuicPacketBuilder
from aioquic.quic.recovery import QuicPacketSpace
from aioquic.quic.stream import QuicStream
from aioquic.tls import Epoch

ROOM_MIN: Final = 64
"""Bytes a packet must have left for another stream: MAX_STREAM_DATA, STOP_SENDING and
RESET_STREAM at their longest are 59."""

SOON_DONE_BYTES: Final = 4096
"""A stream with no more than this to send is finished before the next one begins."""


class QuicWriter(QuicConnection):
    _line: deque[QuicStream] | None = None

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, NetworkAddress]]:
        if self._handshake_confirmed and not self._close_pending and self._state not in END_STATES:
            self._line = self._survey()
            if not self._line and self._silent(now):
                self._pacing_at = None
                return []
        return super().datagrams_to_send(now)

    def _silent(self, now: float) -> bool:
        """Whether there is nothing to send besides what streams have."""
        ack_at = self._spaces[Epoch.ONE_RTT].ack_at
        return (
            (ack_at is None or ack_at > now)
            and len(self._network_paths) == 1
            and not self._unusual(self._network_paths[0])
            and not self._limits_due()
        )

    def _unusual(self, path: QuicNetworkPath) -> bool:
        return bool(
            not path.is_validated
            or path.remote_challenges
            or self._handshake_done_pending
            or self._ping_pending
            or self._probe_pending
            or self._retire_connection_ids
            or self._streams_blocked_pending
            or self._datagrams_pending
            or not self._crypto_streams[Epoch.ONE_RTT].sender.buffer_is_empty
            or not all(known.was_sent for known in self._host_cids)
        )

    def _survey(self) -> deque[QuicStream]:
        line: deque[QuicStream] = deque()
        finished = False
        for stream in self._streams_queue:
            sender, receiver = stream.sender, stream.receiver
            if receiver.is_finished:
                if sender.is_finished:
                    finished = True
                    self._discard(stream)
                    continue
            elif self._window_due(stream):
                line.append(stream)
                continue
            if not sender.buffer_is_empty or sender.reset_pending or receiver.stop_pending:
                line.append(stream)
        if finished:
            self._streams_queue = [
                stream for stream in self._streams_queue if stream.stream_id in self._streams
            ]
        return line

    def _discard(self, stream: QuicStream) -> None:
        assert stream.stream_id is not None
        del self._streams[stream.stream_id]
        if stream_is_client_initiated(stream.stream_id):
            # "An endpoint [...] SHOULD allow the peer to open a new one" (RFC 9000, 4.6).
            self._stream_limit(stream.stream_id).value += 1

    def _write_application(
        self, builder: QuicPacketBuilder, network_path: QuicNetworkPath, now: float
    ) -> None:
        line, self._line = self._line, None
        if line is None or self._unusual(network_path):
            super()._write_application(builder, network_path, now)
            return
        served: dict[QuicStream, None] = {}
        try:
            self._write_packets(builder, line, served, now)
        finally:
            if line and served:
                # The window was too small for all: who had nothing comes first next time.
                waiting = [stream for stream in self._streams_queue if stream not in served]
                self._streams_queue = [*waiting, *served]

    def _write_packets(
        self,
        builder: QuicPacketBuilder,
        line: deque[QuicStream],
        served: dict[QuicStream, None],
        now: float,
    ) -> None:
        space = self._spaces[Epoch.ONE_RTT]
        crypto = self._cryptos[Epoch.ONE_RTT]
        pacer = self._loss._pacer
        while True:
            ack_due = space.ack_at is not None and space.ack_at <= now
            if not ack_due:
                if not line and not self._limits_due():
                    return
                self._pacing_at = pacer.next_send_time(now=now)
                if self._pacing_at is not None:
                    return
            builder.start_packet(QuicPacketType.ONE_RTT, crypto)
            if ack_due:
                self._write_ack_frame(builder=builder, space=space, now=now)
            self._write_connection_limits(builder=builder, space=space)
            self._fill(builder, space, line, served)
            if builder.packet_is_empty:
                return
            pacer.update_after_send(now=now)

    def _fill(
        self,
        builder: QuicPacketBuilder,
        space: QuicPacketSpace,
        line: deque[QuicStream],
        served: dict[QuicStream, None],
    ) -> None:
        while line and builder.remaining_flight_space >= ROOM_MIN:
            stream = line[0]
            served[stream] = None
            sender = stream.sender
            self._write_stream_limits(builder=builder, space=space, stream=stream)
            if stream.receiver.stop_pending:
                self._write_stop_sending_frame(builder=builder, stream=stream)
            if sender.reset_pending:
                self._write_reset_stream_frame(builder=builder, stream=stream)
            elif not sender.buffer_is_empty and not stream.is_blocked:
                credit = self._remote_max_data - self._remote_max_data_used
                self._remote_max_data_used += self._write_stream_frame(
                    builder=builder,
                    space=space,
                    stream=stream,
                    max_offset=min(sender.highest_offset + credit, stream.max_stream_data_remote),
                )
                left = len(sender._pending)
                if left or sender._pending_eof:
                    if builder.remaining_flight_space < ROOM_MIN:
                        if left and sender._buffer_stop - sender.next_offset > SOON_DONE_BYTES:
                            line.rotate(-1)
                        return
                    # There was room, so flow control is what stopped it: until the client's word.
                else:
                    sender.buffer_is_empty = True
            line.popleft()

    def _limits_due(self) -> list[Limit]:
        """The connection's limits that the client should hear of. See `ServerConnection`."""
        raise AssertionError("decided by ServerConnection")

    def _window_due(self, stream: QuicStream) -> bool:
        """Whether the client should hear of a larger window of `stream`."""
        raise AssertionError("decided by ServerConnection")
