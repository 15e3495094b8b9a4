"""The unidirectional streams of a connection: control and QPACK, ours and the client's.

aioquic does this part well; what is changed: our QPACK table has no capacity and nothing may
block on it, we advertise what we are able to do and no more, our encoder never gets a table, and
a frame on the control stream that has to be held whole may not be large.
"""

from typing import Final

import pylsqpack
from aioquic.buffer import encode_uint_var
from aioquic.h3.connection import (
    FrameType,
    H3Connection,
    Setting,
    encode_frame,
    parse_settings,
)
from aioquic.quic.connection import QuicConnection

from edge.wire.h3_head import ExcessiveLoad

CONTROL_FRAME_MAX: Final = 1024
"""Bytes of a SETTINGS frame. Those of today's clients are below 64."""

LAST_REQUEST: Final = (1 << 62) - 4
"""The highest number a request stream can have."""


class ControlStreams(H3Connection):
    """Feed it the events of unidirectional streams only."""

    def __init__(self, quic: QuicConnection, *, section_max: int) -> None:
        self._section_max = section_max
        super().__init__(quic)

    def goaway(self, stream_id: int) -> None:
        """Requests from `stream_id` on will not be answered (RFC 9114, 5.2)."""
        if self._local_control_stream_id is not None:
            self._quic.send_stream_data(
                self._local_control_stream_id,
                encode_frame(FrameType.GOAWAY, encode_uint_var(stream_id)),
            )

    def _init_connection(self) -> None:
        self._max_table_capacity = 0
        self._blocked_streams = 0
        self._decoder = pylsqpack.Decoder(0, 0)
        super()._init_connection()

    def _get_local_settings(self) -> dict[int, int]:
        return {
            Setting.QPACK_MAX_TABLE_CAPACITY: 0,
            Setting.QPACK_BLOCKED_STREAMS: 0,
            Setting.MAX_FIELD_SECTION_SIZE: self._section_max,
            Setting.DUMMY: 1,
        }

    def _check_control_frame_type(self, frame_type: int) -> None:
        super()._check_control_frame_type(frame_type)
        control = self._stream[self._peer_control_stream_id or 0]
        if (
            frame_type in (FrameType.SETTINGS, FrameType.MAX_PUSH_ID)
            and (control.frame_size or 0) > CONTROL_FRAME_MAX
        ):
            raise ExcessiveLoad("control frame too large")

    def _handle_control_frame(self, frame_type: int, frame_data: bytes) -> None:
        if frame_type == FrameType.SETTINGS:
            settings = parse_settings(frame_data)
            self._validate_settings(settings)
            self._received_settings = settings
            self._settings_received = True  # and the encoder is not told: no dynamic table
        else:
            super()._handle_control_frame(frame_type, frame_data)
