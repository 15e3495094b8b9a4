"""Who is at the other end, as far as a socket address says."""

from edge.wire.udp import Address


def peer_of(address: Address) -> str:
    """The host of a socket address; an IPv4 client of a dual-stack socket is an IPv4 client."""
    host = str(address[0])
    return host.removeprefix("::ffff:") if host.startswith("::ffff:") and "." in host else host
