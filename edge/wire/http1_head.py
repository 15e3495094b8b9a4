"""Heads of HTTP/1.1 requests: what aiohttp's parser let through, looked at again, as `Head`.

The parser is strict about lines and lengths. What it takes and should not is refused here: codings
of the message other than `chunked`, framing that HTTP/1.0 does not have, versions that do not
exist, a `Host` that is none, and heads whose fields are small but too large together.
"""

import re
from collections.abc import Sequence
from typing import Final

from aiohttp import HttpVersion10, HttpVersion11
from aiohttp.http import RawRequestMessage

from edge.errors import ClientError
from edge.request import Head

MEMO_BYTES_MAX: Final = 1024 * 1024
REQUEST_LINE_BYTES_MAX: Final = 8190

# RFC 9110, 7.2: the host and port of a URI. What they mean is of no concern here.
_HOST: Final = re.compile(r"[A-Za-z0-9\-._~%!$&'()*+,;=:\[\]]*")

_Key = tuple[str, str, object, Sequence[tuple[bytes, bytes]]]


def malformed() -> ClientError:
    return ClientError("This is not a valid HTTP/1.1 request.", code="bad_request")


def too_large() -> ClientError:
    return ClientError(
        "The head of this request is larger than this node takes.",
        status=431,
        code="head_too_large",
    )


class HeadReader:
    """Reads and remembers heads. One serves all connections of a wire."""

    def __init__(self, section_max_bytes: int) -> None:
        self._section_max_bytes = section_max_bytes
        self._known: dict[_Key, Head] = {}
        self._known_bytes = 0

    def __repr__(self) -> str:
        return f"<HeadReader known={len(self._known)} bytes={self._known_bytes}>"

    def read(self, message: RawRequestMessage) -> Head:
        """Raises ClientError, after which nothing on this connection can be trusted."""
        key = (message.method, message.path, message.version, message.raw_headers)
        known = self._known.get(key)
        if known is None:
            size = len(message.path) + section_size(message.raw_headers)
            if size > self._section_max_bytes + REQUEST_LINE_BYTES_MAX:
                raise too_large()
            known = _head(message)
            self._remember(key, known, size)
        return known

    def _remember(self, key: _Key, head: Head, size: int) -> None:
        """Small heads only, and so many bytes in all: clients choose what is in them."""
        cost = 2 * size + 200 * (len(head.headers) + 4)
        if cost > MEMO_BYTES_MAX // 16:
            return
        if self._known_bytes + cost > MEMO_BYTES_MAX:
            self._known.clear()
            self._known_bytes = 0
        self._known[key] = head
        self._known_bytes += cost


def section_size(raw: Sequence[tuple[bytes, bytes]]) -> int:
    """As RFC 9114, 4.2.2 counts: the limit is the same whichever way a request comes."""
    return sum(len(name) + len(value) + 32 for name, value in raw)


def _head(message: RawRequestMessage) -> Head:
    headers: dict[str, str] = {}
    for raw_name, raw_value in message.raw_headers:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    coding = headers.get("transfer-encoding")
    if message.version != HttpVersion11 and (message.version != HttpVersion10 or coding):
        raise malformed()  # RFC 9112, 6.1: HTTP/1.0 with a coding is faulty framing
    if coding is not None and coding.lower() != "chunked":
        raise malformed()
    authority = headers.get("host", "")
    if not _HOST.fullmatch(authority):
        raise malformed()
    path, _, query = message.path.partition("?")
    return Head(message.method, path, query, authority, headers)
