"""What counts as one client."""

import pytest

from edge.admission.source import WIDER, Networks, source_of


@pytest.mark.parametrize(
    ("host", "name", "wider"),
    [
        ("203.0.113.7", "203.0.113.7", ""),
        ("::ffff:203.0.113.7", "203.0.113.7", ""),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64", "2001:db8:1::/48"),
        ("fe80::1%eth0", "fe80::/64", "fe80::/48"),
        ("not an address", "not an address", ""),
    ],
)
def test_an_ipv4_address_and_an_ipv6_network_are_one_source(
    host: str, name: str, wider: str
) -> None:
    source = source_of(host)
    assert (source.name, source.wider) == (name, wider)
    assert source.shares[0] == (name, 1)
    assert source.shares[1:] == (((wider, WIDER),) if wider else ())


def test_networks_that_are_named() -> None:
    networks = Networks(("10.0.0.0/8", "2001:db8::/32"))
    assert "10.1.2.3" in networks
    assert "::ffff:10.1.2.3" in networks
    assert "2001:db8::1" in networks
    assert "11.0.0.1" not in networks
    assert "2001:db9::1" not in networks
    assert "" not in networks
    with pytest.raises(ValueError, match="host bits"):
        Networks(("10.0.0.1/8",))
