"""The frames of one request stream: bytes in; head, body and end out. No I/O.

aioquic's own parser treats a malformed request as the end of the connection and keeps a header
block of any size. This one tells the two apart and holds nothing larger than it was told to.
"""

from typing import Final

from aioquic.h3.connection import ErrorCode, FrameError, FrameUnexpected

from edge.wire.h3_head import ExcessiveLoad, HeadDecoder, RequestHead, StreamFault, malformed

DATA: Final = 0x0
HEADERS: Final = 0x1
# Frames that never belong on a request stream of a server: CANCEL_PUSH, SETTINGS, PUSH_PROMISE,
# GOAWAY, MAX_PUSH_ID, and those of HTTP/2 that HTTP/3 reserves (RFC 9114, 7.2 and 11.2.1).
UNEXPECTED: Final = frozenset({0x3, 0x4, 0x5, 0x7, 0xD, 0x2, 0x6, 0x8, 0x9})

IDLE_FRAMES_MAX: Final = 64
"""Frames that carry no part of the message: unknown types, and DATA without data."""


class RequestStream:
    """What a client has sent on one stream so far."""

    __slots__ = (
        "_block_max",
        "_body_max",
        "_chunks",
        "_decoder",
        "_idle_frames",
        "_in_data",
        "_left",
        "_partial",
        "_trailers",
        "ended",
        "head",
        "received",
        "too_large",
    )

    def __init__(self, decoder: HeadDecoder, *, block_max: int, body_max: int) -> None:
        self._decoder = decoder
        self._block_max = block_max
        self._body_max = body_max
        self._chunks: list[bytes] = []
        self._partial = b""  # a frame header, or a HEADERS frame, that is not complete
        self._left = 0  # of a frame that is taken, or ignored, piece by piece
        self._in_data = False
        self._idle_frames = 0
        self._trailers = False
        self.head: RequestHead | None = None
        self.received = 0
        """Bytes of the body that have come."""
        self.ended = False
        self.too_large = False
        """The body is over the limit and nothing of it is kept."""

    def take_body(self) -> bytes:
        body = b"".join(self._chunks)
        self._chunks.clear()
        return body

    def feed(self, data: bytes, fin: bool) -> None:
        """Take what arrived, in order.

        Raises `StreamFault` when this request is malformed, and a `ProtocolError` when the peer
        does not speak HTTP/3, or asks us to hold too much.
        """
        if self._partial:
            data = self._partial + data
            self._partial = b""
        at, size = 0, len(data)
        while at < size:
            at = self._take(data, at) if self._left else self._frame(data, at)
        if fin:
            self._end()

    def _take(self, data: bytes, at: int) -> int:
        end = min(len(data), at + self._left)
        self._left -= end - at
        if self._in_data:
            self._content(data[at:end])
        return end

    def _frame(self, data: bytes, start: int) -> int:
        kind, at = pull_varint(data, start)
        size, at = pull_varint(data, at) if at else (0, 0)
        if not at:
            self._partial = data[start:]
            return len(data)
        if kind == HEADERS:
            return self._headers(data, start, at, size)
        if kind == DATA:
            if self.head is None or self._trailers:
                raise FrameUnexpected("DATA frame out of place")
        elif kind in UNEXPECTED:
            raise FrameUnexpected("frame type does not belong on a request stream")
        if kind != DATA or not size:
            self._idle_frames += 1
            if self._idle_frames > IDLE_FRAMES_MAX:
                raise ExcessiveLoad("too many frames that carry nothing")
        self._in_data = kind == DATA
        self._left = size
        return at

    def _headers(self, data: bytes, start: int, at: int, size: int) -> int:
        if self._trailers:
            raise FrameUnexpected("HEADERS after the trailers")
        if size > self._block_max:
            raise ExcessiveLoad("header block too large")
        end = at + size
        if end > len(data):
            self._partial = data[start:]
            return len(data)
        if self.head is None:
            self.head = self._decoder.request(data[at:end])
        else:
            self._trailers = True
            self._decoder.trailers(data[at:end])
        return end

    def _content(self, chunk: bytes) -> None:
        self.received += len(chunk)
        if self.too_large:
            return
        declared = self.head.content_length if self.head else None
        if declared is not None and self.received > declared:
            raise malformed("more content than content-length")
        if self.received > self._body_max:
            self.too_large = True
            self._chunks.clear()
        else:
            self._chunks.append(chunk)

    def _end(self) -> None:
        self.ended = True
        if self._partial or self._left:
            raise FrameError("a frame is cut by the end of the stream")
        if self.head is None:
            raise StreamFault(ErrorCode.H3_REQUEST_INCOMPLETE, "no header section")
        declared = self.head.content_length
        if declared is not None and declared != self.received:
            raise malformed("less content than content-length")


def pull_varint(data: bytes, at: int) -> tuple[int, int]:
    """A QUIC integer (RFC 9000, 16) and where it ends; end 0 when `data` does not reach so far."""
    if at >= len(data):
        return 0, 0
    first = data[at]
    if first < 0x40:
        return first, at + 1
    size = 1 << (first >> 6)
    end = at + size
    if end > len(data):
        return 0, 0
    return int.from_bytes(data[at:end], "big") & ((1 << (8 * size - 2)) - 1), end
