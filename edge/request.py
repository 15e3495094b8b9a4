"""One vocabulary for every HTTP version: wires translate into it, the meaning lives once.

A wire does five things with a handler, in this order:

    head arrives          `handler.admit(head, peer)`; a refusal is sent before the body is read
    body arrives          counted against `handler.body_bytes_max`; over it, `handler.refuse(...)`
    more than is small    `await handler.wait_to_read(...)` before each further piece
    body is complete      `reply = handler.handle(request)`
    reply is a Response   send it at once: this is the path of an exact hit, no task is made
    reply is a coroutine  run it in a task the wire owns, then send the Response or the EventStream
"""

from collections.abc import AsyncGenerator, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

from edge.errors import EdgeError

Fields = tuple[tuple[str, str], ...]
"""Response header fields: lower-case names, in order. `date`, `content-length`, `connection`,
`transfer-encoding` and `alt-svc` are the wire's."""

LARGE_BODY_BYTES: Final = 64 * 1024
"""A body of more than that is large: the loop has no time for it."""
PIECE_BYTES: Final = 1024 * 1024
"""What is read of a large body at a time."""

HttpVersion = Literal["1.1", "3"]


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """What a request says before its body. Equal on every wire for the same request.

    Wires hand out the same Head for the same bytes where they can: what was found out about it
    is remembered by its identity.
    """

    method: str
    path: str
    """The path as sent, without query; percent-encoding is left alone."""
    query: str
    authority: str
    headers: Mapping[str, str]
    """Lower-case names, no pseudo-headers; a repeated field is joined with ", " (RFC 9110, 5.3).
    Bytes outside ASCII are decoded as Latin-1, so every value can be encoded again."""


@dataclass(frozen=True, slots=True)
class Request:
    head: Head
    body: bytes
    peer: str
    """The address of the other end of the connection, without port."""
    http: HttpVersion


@dataclass(frozen=True, slots=True)
class Response:
    """A complete answer. Its length is `len(body)`, also where HEAD or 204 leaves the body out."""

    status: int
    fields: Fields
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class EventStream:
    """An answer whose bytes arrive over time. It has no content-length.

    The wire sends the head at once, then each chunk as it comes, asking for the next one only when
    the client has room. When the client leaves, the wire closes `chunks`. When `chunks` raises
    `StreamCut` the wire must end the message *incomplete* (RFC 9112 chunked body left open, RFC
    9114 stream reset with H3_INTERNAL_ERROR), so that nobody takes a torn answer for a whole one.
    """

    status: int
    fields: Fields
    chunks: AsyncGenerator[bytes, None]


Reply = Response | EventStream


class Handler(Protocol):
    """What a wire is given. Nothing here reads a socket."""

    @property
    def body_bytes_max(self) -> int: ...

    def admit(self, head: Head, peer: str) -> Response | None:
        """Refuse what can be refused without the body: 401, 404, 405, 413, 415, 417, 429, CORS.

        `peer` is the address of the other end of the connection, without port.
        """

    async def wait_to_read(self, head: Head, peer: str) -> None:
        """Until `PIECE_BYTES` may be read, of an admitted request whose body is large.

        Raises:
            Overloaded: that would be too long.
        """

    def handle(self, request: Request) -> Response | Coroutine[Any, Any, Reply]:
        """Answer a complete request that `admit` let through."""

    def refuse(self, head: Head | None, error: EdgeError) -> Response:
        """`error` in the API's own shape; `head` is None when not even that could be read."""
