"""Who is at the other end, as far as a socket address says."""

import ipaddress

from edge.wire.udp import Address


def source_of(address: Address) -> str:
    """What counts as one client when connections are counted: an IPv4 address, an IPv6 /64."""
    host = peer_of(address)
    if ":" not in host:
        return host
    packed = ipaddress.IPv6Address(host.partition("%")[0]).packed
    return f"{ipaddress.IPv6Address(packed[:8] + bytes(8))}/64"


def peer_of(address: Address) -> str:
    """The host of a socket address; an IPv4 client of a dual-stack socket is an IPv4 client."""
    host = str(address[0])
    return host.removeprefix("::ffff:") if host.startswith("::ffff:") and "." in host else host
