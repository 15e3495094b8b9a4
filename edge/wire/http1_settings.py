"""What an HTTP/1.1 listener may use up, in bytes, seconds and counts."""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt


@dataclass(frozen=True, slots=True)
class Http1Settings:
    """Limits of HTTP/1.1 connections."""

    header_timeout_s: Annotated[float, Gt(0)] = 10.0
    """Absolute: headers that are not complete by then are answered with 408."""
    header_section_max_bytes: Annotated[int, Gt(0)] = 32 * 1024
    """Size of all header fields as RFC 9114, 4.2.2 counts it: name + value + 32 for each."""
    header_fields_max: Annotated[int, Gt(0)] = 100
    """Number of fields in one header section."""
    body_timeout_s: Annotated[float, Gt(0)] = 10.0
    """After this long a body must come at `body_rate_min_bytes` a second, or it is given up."""
    body_rate_min_bytes: Annotated[int, Gt(0)] = 1024
    """The slowest body that is waited for, in bytes a second."""
    bodies_total_max_bytes: Annotated[int, Gt(0)] = 128 * 1024 * 1024
    """Request bodies held at once on the whole listener; the next one gets a 503."""
    idle_timeout_s: Annotated[float, Gt(0)] = 75.0
    """How long an idle connection is kept for the next request."""
    half_closed_s: Annotated[float, Ge(0)] = 0.5
    """A client that has closed its side may have left, or may still listen (`nc -N`): for so long
    it is still answered. Over TLS both sides close at once."""
    write_stall_s: Annotated[float, Gt(0)] = 30.0
    """A client that takes nothing for so long is given up."""
    connections_max: Annotated[int, Ge(1)] = 4096
    """More connections than this are closed as they come."""
