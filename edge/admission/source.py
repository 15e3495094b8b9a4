"""What counts as one client, as nobody's address says who they are.

An IPv4 address is a household, or a whole office behind one router. Who has one IPv6 address has
2^64 of them, a /64, and often 2^16 such networks, a /48: what is limited for a /64 is limited for
the /48 around it as well, `WIDER` times as far.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

WIDER = 8


@dataclass(frozen=True, slots=True)
class Source:
    name: str
    """An IPv4 address or an IPv6 /64."""
    wider: str = ""
    """The /48 around it; empty for IPv4."""
    shares: tuple[tuple[str, int], ...] = field(init=False, compare=False)
    """What it is counted under, and how many times as much each may have; at hand, as each request
    asks."""

    def __post_init__(self) -> None:
        wider = ((self.wider, WIDER),) if self.wider else ()
        object.__setattr__(self, "shares", ((self.name, 1), *wider))


def source_of(host: str) -> Source:
    """The source that an address belongs to."""
    address = _address(host)
    if not isinstance(address, IPv6Address):
        return Source(host if address is None else str(address))
    near, far = (IPv6Network((int(address), bits), strict=False) for bits in (64, 48))
    return Source(str(near), str(far))


class Networks:
    """Addresses that are named in the configuration."""

    def __init__(self, networks: Iterable[str]) -> None:
        """Raises ValueError for what is no network, such as `10.0.0.0/8` or `2001:db8::/32`."""
        self._networks = tuple(ip_network(one) for one in networks)

    def __contains__(self, host: object) -> bool:
        address = _address(str(host))
        return address is not None and any(address in one for one in self._networks)


def _address(host: str) -> IPv4Address | IPv6Address | None:
    """None for what is no address. An IPv4 client of a dual-stack socket is an IPv4 client."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
