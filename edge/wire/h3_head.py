"""Header sections of HTTP/3: request blocks to `Head`, response fields to blocks.

The QPACK table has no capacity in either direction, so a block means the same on every stream and
every connection. That is worth some twenty microseconds a request: a block seen before is looked
up by its bytes instead of being decoded and checked again.

What RFC 9114 calls malformed raises `StreamFault` (the connection lives on); what cannot be
decoded at all, or is larger than we were told to take, ends the connection.
"""

import re
from collections.abc import Iterable
from types import MappingProxyType
from typing import Final, NamedTuple

import pylsqpack
from aioquic.h3.connection import ErrorCode, ProtocolError, QpackDecompressionFailed

from edge.request import Fields, Head
from edge.wire.http3_settings import Http3Settings


class StreamFault(Exception):  # noqa: N818  a verdict on one stream, not an error of ours
    """This request is malformed; the others are not. `code` goes into RESET_STREAM."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(why)
        self.code = code
        self.why = why


class ExcessiveLoad(ProtocolError):  # noqa: N818  named as RFC 9114 names it
    error_code = ErrorCode.H3_EXCESSIVE_LOAD


class RequestHead(NamedTuple):
    head: Head
    content_length: int | None
    expects_continue: bool


class HeadDecoder:
    """Decodes, checks and remembers header blocks. One serves all connections."""

    def __init__(self, settings: Http3Settings) -> None:
        self._settings = settings
        self._qpack = pylsqpack.Decoder(0, 0)
        self._known: dict[bytes, RequestHead] = {}
        self._known_bytes = 0

    def __repr__(self) -> str:
        return f"<HeadDecoder known={len(self._known)} bytes={self._known_bytes}>"

    def request(self, block: bytes) -> RequestHead:
        known = self._known.get(block)
        if known is None:
            known = request_head(self._fields(block))
            self._remember(block, known)
        return known

    def trailers(self, block: bytes) -> None:
        """Trailers are checked and ignored."""
        for name, value in self._fields(block):
            if name.startswith(b":"):
                raise malformed("a pseudo-header field in the trailers")
            check_field(name, value)

    def _fields(self, block: bytes) -> list[tuple[bytes, bytes]]:
        if block == b"\x00\x00":  # a prefix and no field line: legal, but not to lsqpack
            return []
        try:
            _, fields = self._qpack.feed_header(0, block)
        except (pylsqpack.DecompressionFailed, pylsqpack.StreamBlocked) as exc:
            raise QpackDecompressionFailed("header block") from exc
        if len(fields) > self._settings.header_fields_max:
            raise ExcessiveLoad("too many header fields")
        if section_size(fields) > self._settings.header_section_max_bytes:
            raise ExcessiveLoad("header section too large")
        return fields

    def _remember(self, block: bytes, head: RequestHead) -> None:
        # A parsed head holds its text about once more, and some 200 bytes for each field.
        cost = 2 * len(block) + 200 * (len(head.head.headers) + 4)
        if cost > self._settings.head_cache_max_bytes // 16:
            return
        self._known[block] = head
        self._known_bytes += cost
        if self._known_bytes > self._settings.head_cache_max_bytes:
            # Everything at once: what is in use comes back at the price of one decoding each,
            # and nobody can make us spend more on choosing a victim than that costs.
            self._known.clear()
            self._known_bytes = 0


def section_size(fields: Iterable[tuple[bytes, bytes]]) -> int:
    """RFC 9114, 4.2.2: the lengths of name and value, and an overhead of 32 bytes each."""
    return sum(len(name) + len(value) + 32 for name, value in fields)


# RFC 9110, 5.6.2 (token), without the upper-case letters that HTTP/3 forbids in names.
_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_METHOD: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
# RFC 9110, 5.5: visible characters, obs-text, and blanks that neither begin nor end the value.
_VALUE: Final = re.compile(rb"(?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?")
_VISIBLE: Final = re.compile(rb"[!-~]+")
_LENGTH: Final = re.compile(rb"[0-9]{1,18}")
# RFC 9110, 7.6.1; `te` has a rule of its own.
_HOP_BY_HOP: Final = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"}
)
_PSEUDO: Final = frozenset({b":method", b":scheme", b":authority", b":path"})


def malformed(why: str) -> StreamFault:
    return StreamFault(ErrorCode.H3_MESSAGE_ERROR, why)


def check_field(name: bytes, value: bytes) -> None:
    """RFC 9114, 4.2: "malformed" is what an intermediary could be fooled with."""
    if not _NAME.fullmatch(name):
        raise malformed("a field name with forbidden characters")
    if not _VALUE.fullmatch(value):
        raise malformed("a field value with forbidden characters")
    if name in _HOP_BY_HOP or (name == b"te" and value.lower() != b"trailers"):
        raise malformed("a connection-specific field")


def request_head(fields: Iterable[tuple[bytes, bytes]]) -> RequestHead:
    """The meaning of a request's header section. Raises `StreamFault` where it has none."""
    pseudo: dict[bytes, bytes] = {}
    headers: dict[str, str] = {}
    length: int | None = None
    for name, value in fields:
        if name.startswith(b":"):
            if name not in _PSEUDO or name in pseudo or headers:
                raise malformed("a pseudo-header field unknown, repeated or out of place")
            pseudo[name] = value
            continue
        check_field(name, value)
        if name == b"content-length":
            if length is not None or not _LENGTH.fullmatch(value):
                raise malformed("content-length")
            length = int(value)
        _join(headers, name.decode("ascii"), value.decode("latin-1"))
    head = _head(pseudo, headers)
    expects_continue = headers.get("expect", "").lower() == "100-continue"
    return RequestHead(head, length, expects_continue)


def _join(headers: dict[str, str], name: str, value: str) -> None:
    if name not in headers:
        headers[name] = value
    elif name == "cookie":  # RFC 9114, 4.2.1: crumbs of one field
        headers[name] += "; " + value
    elif name == "host":
        raise malformed("two hosts")
    else:
        headers[name] += ", " + value


def _head(pseudo: dict[bytes, bytes], headers: dict[str, str]) -> Head:
    method = pseudo.get(b":method", b"")
    if not _METHOD.fullmatch(method):
        raise malformed(":method")
    # `host` is there in either case, as it is in HTTP/1.1.
    authority = headers["host"] = _authority(pseudo.get(b":authority"), headers.get("host"))
    path = pseudo.get(b":path")
    if method == b"CONNECT":
        # RFC 9114, 4.4: ":scheme and :path are omitted".
        if path is not None or b":scheme" in pseudo:
            raise malformed("CONNECT with a scheme or a path")
        path = b""
    elif b":scheme" not in pseudo or not path or not _VISIBLE.fullmatch(path):
        raise malformed(":scheme or :path")
    elif not path.startswith(b"/") and not (path == b"*" and method == b"OPTIONS"):
        raise malformed(":path")
    target, _, query = path.decode("ascii").partition("?")
    fields = MappingProxyType(headers)  # a head that is remembered is shared by many requests
    return Head(method.decode("ascii"), target, query, authority, fields)


def _authority(pseudo: bytes | None, host: str | None) -> str:
    """RFC 9114, 4.3.1: `:authority` or `host` must be there; if both are, they must be equal."""
    if pseudo is None:
        authority = host
    elif not _VISIBLE.fullmatch(pseudo) or b"@" in pseudo:
        raise malformed(":authority")
    else:
        authority = pseudo.decode("ascii")
        if host is not None and host != authority:
            raise malformed("host differs from :authority")
    if not authority:
        raise malformed("no authority")
    return authority


_encoder: Final = pylsqpack.Encoder()  # never given a table: static entries and literals only

CONTINUE: Final = b"\x01\x04\x00\x00\xff\x00"  # the interim response: `:status: 100`


def encode_head(status: int, fields: Fields, *, length: int | None, date: str) -> bytes:
    """A HEADERS frame. Names and values are ours or were checked on their way in."""
    lines = [(b":status", b"%d" % status)]
    lines += [(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields]
    if length is not None:
        lines.append((b"content-length", b"%d" % length))
    lines.append((b"date", date.encode("ascii")))
    _, block = _encoder.encode(0, lines)
    return frame(0x01, block)


def frame(kind: int, payload: bytes) -> bytes:
    return frame_header(kind, len(payload)) + payload


def frame_header(kind: int, size: int) -> bytes:
    """Type and length of a frame of a known type, as QUIC's variable-length integers."""
    if size < 0x40:
        return bytes((kind, size))
    if size < 0x4000:
        return bytes((kind, 0x40 | size >> 8, size & 0xFF))
    if size < 0x40000000:
        return bytes((kind,)) + (size | 0x80000000).to_bytes(4, "big")
    return bytes((kind,)) + (size | 0xC000000000000000).to_bytes(8, "big")
