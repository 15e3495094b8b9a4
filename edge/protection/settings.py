"""What one address may do."""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt, Le


@dataclass(frozen=True, slots=True)
class ProtectionSettings:
    """What one source may do on this node: an IPv4 address, or an IPv6 /64. The /48 around one may
    do eight times as much."""

    trusted: tuple[str, ...] = ("127.0.0.0/8", "::1/128")
    """Networks that nothing here limits, such as those of a load balancer in front of the node: it
    has to limit its clients itself, as all of them come from its address."""
    connections_per_source_max: Annotated[int, Ge(1)] = 100
    """Connections of one source at a time, HTTP/1.1 and HTTP/3 together. More are refused before
    anything is spent on them."""
    new_connections_per_minute: Annotated[int, Ge(0)] = 600
    """New connections of one source, all at once if it made none before. 0: no limit."""
    anonymous_requests_per_minute: Annotated[int, Ge(0)] = 6000
    """Requests of one source that bring no API key (those that do have a plan), all at once if it
    sent none before. 0: no limit."""
    large_bodies_share: Annotated[float, Gt(0), Le(1)] = 0.25
    """Of one core: what may go into reading bodies of more than 64 KiB. What comes beyond waits,
    tenants or sources in turn. More is right for a node that is sent many pictures."""
    failed_keys_per_minute: Annotated[int, Ge(1)] = 10
    """Wrong API keys that one source may try; with more it is locked out."""
    lockout_s: Annotated[float, Gt(0)] = 300.0
    """For how long; twice as long each time that it begins again within as much time as that."""
    lockout_max_s: Annotated[float, Gt(0)] = 86_400.0
    """The longest lockout."""
