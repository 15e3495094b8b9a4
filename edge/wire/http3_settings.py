"""What the HTTP/3 wire may use up, in bytes, seconds and counts.

The defaults follow two rules: no client can make the node hold more than it was told to hold, and
no limit is tight enough for an honest client on a bad network to notice it.
"""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt, Le


@dataclass(frozen=True, slots=True)
class Http3Settings:
    idle_timeout_s: Annotated[float, Gt(0)] = 600.0
    """A connection on which nothing was heard for this long is forgotten. The client's own limit
    counts as well (browsers say 30 s), so this alone does not keep a waiting request alive."""

    keepalive_s: Annotated[float, Gt(0)] = 10.0
    """While a request waits for a slow model, the quiet connection is pinged this often, so that
    neither end (nor a NAT in between) gives it up."""

    handshake_timeout_s: Annotated[float, Gt(0)] = 10.0
    """A handshake that is not complete by then is given up."""

    header_timeout_s: Annotated[float, Gt(0)] = 10.0
    """Absolute: a stream whose header section is not complete by then is reset."""

    body_grace_s: Annotated[float, Gt(0)] = 10.0
    """How long a body may take before its rate is looked at."""

    body_rate_min_bytes: Annotated[int, Ge(0)] = 1024
    """Bytes a second that a body must bring once the grace is over; a slower one gets a 408."""

    write_stall_s: Annotated[float, Gt(0)] = 30.0
    """A stream whose client acknowledges nothing for this long, with data outstanding, is reset."""

    max_datagram_bytes: Annotated[int, Ge(1200), Le(1452)] = 1350
    """UDP payload sent. There is no path MTU discovery: 1350 passes every tunnel in common use."""

    stream_window_bytes: Annotated[int, Ge(16_384)] = 256 * 1024
    """What a client may send on one stream beyond what was delivered from it: bounds reassembly."""

    connection_window_bytes: Annotated[int, Ge(65_536)] = 1024 * 1024
    """The same for all streams of a connection together."""

    streams_max: Annotated[int, Ge(1)] = 100
    """Requests a client may have open at once, and handler tasks one connection may keep alive."""

    header_block_max_bytes: Annotated[int, Gt(0)] = 16 * 1024
    """Length of an encoded header block. More closes the connection: H3_EXCESSIVE_LOAD."""

    header_section_max_bytes: Annotated[int, Gt(0)] = 32 * 1024
    """Size of the decoded fields as RFC 9114, 4.2.2 counts it: name + value + 32 for each."""

    header_fields_max: Annotated[int, Gt(0)] = 100
    """Number of fields in one header or trailer section."""

    head_cache_max_bytes: Annotated[int, Ge(0)] = 1024 * 1024
    """Header blocks whose parsed form is remembered. Blocks are stateless, so equal bytes mean
    equal heads, whoever sent them."""

    bodies_max_bytes: Annotated[int, Gt(0)] = 16 * 1024 * 1024
    """Request bodies that one connection may have us hold at once; the next one gets a 503."""

    bodies_total_max_bytes: Annotated[int, Gt(0)] = 128 * 1024 * 1024
    """The same for the whole wire."""

    stream_buffer_bytes: Annotated[int, Gt(0)] = 64 * 1024
    """Unacknowledged bytes of an event stream beyond which no further chunk is asked for."""

    response_buffer_bytes: Annotated[int, Gt(0)] = 256 * 1024
    """The same for a complete response, whose bytes exist anyway: here it only bounds the copy."""

    connection_buffer_bytes: Annotated[int, Gt(0)] = 1024 * 1024
    """The same for all streams of a connection together; each stream may still have 4 KiB."""

    resets_burst: Annotated[int, Ge(1)] = 100
    """Requests that a client may cancel, or send malformed, at once (Rapid Reset)."""

    resets_per_s: Annotated[float, Gt(0)] = 10.0
    """How fast that allowance comes back, besides one for each request that is answered. Beyond it
    the connection is closed."""

    connections_max: Annotated[int, Ge(1)] = 2048
    """Connections alive at once, about 120 KiB each. Further ones are refused."""

    retry_half_open: Annotated[int, Ge(0)] = 64
    """With more handshakes unfinished than this, a client must prove its address (Retry) before it
    costs us the 3 ms of a handshake."""

    half_open_max: Annotated[int, Ge(1)] = 200
    """Unfinished handshakes alive at once. Further first packets are ignored."""

    tasks_max: Annotated[int, Ge(1)] = 4096
    """Handler tasks alive at once on the whole wire, also those that are still unwinding."""

    receive_buffer_bytes: Annotated[int, Gt(0)] = 4 * 1024 * 1024
    """SO_RCVBUF: with the kernel's default a burst of a few hundred packets is lost."""
