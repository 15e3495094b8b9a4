"""Who may open a connection."""

from edge.protection.connections import Connections
from edge.protection.settings import ProtectionSettings

NOW = 1000.0
V4, OTHER = "203.0.113.7", "203.0.113.8"


def limited(**limits: int) -> Connections:
    return Connections(ProtectionSettings(**limits))  # type: ignore[arg-type]


def test_a_source_has_so_many_connections_and_another_has_its_own() -> None:
    connections = limited(connections_per_source_max=3)
    places = [connections.enter(V4, NOW) for _ in range(3)]
    assert connections.refusal(V4, NOW) == "too_many_connections"
    assert connections.refusal(OTHER, NOW) is None
    assert places[0].leave()
    assert not places[0].leave()
    assert connections.refusal(V4, NOW) is None


def test_a_source_comes_so_often_and_again_after_a_while() -> None:
    connections = limited(new_connections_per_minute=60)
    for _ in range(60):
        assert connections.refusal(V4, NOW) is None
        connections.enter(V4, NOW).leave()
    assert connections.refusal(V4, NOW) == "too_many_new_connections"
    assert connections.refusal(OTHER, NOW) is None
    assert connections.refusal(V4, NOW + 1) is None


def test_a_large_ipv6_network_is_limited_as_a_whole() -> None:
    connections = limited(connections_per_source_max=2)
    for subnet in range(8):
        for _ in range(2):
            host = f"2001:db8:1:{subnet:x}::1"
            assert connections.refusal(host, NOW) is None
            connections.enter(host, NOW)
    assert connections.refusal("2001:db8:1:ff::1", NOW) == "too_many_connections"
    assert connections.refusal("2001:db8:2:ff::1", NOW) is None


def test_who_is_trusted_is_not_limited() -> None:
    connections = limited(connections_per_source_max=1, new_connections_per_minute=1)
    for host in ("127.0.0.1", "::1", "::ffff:127.0.0.1"):
        for _ in range(5):
            assert connections.refusal(host, NOW) is None
            connections.enter(host, NOW).fine(NOW)


def test_who_made_too_much_work_may_come_less_often_for_a_while() -> None:
    connections = limited(new_connections_per_minute=600)
    for _ in range(5):
        assert connections.refusal(V4, NOW) is None
        place = connections.enter(V4, NOW)
        place.fine(NOW)
        place.leave()
    assert connections.refusal(V4, NOW) == "too_many_new_connections"
    assert connections.refusal(OTHER, NOW) is None
    assert connections.refusal(V4, NOW + 12) is None
    connections.enter(V4, NOW + 12).fine(NOW + 12)
    assert connections.refusal(V4, NOW + 12) == "too_many_new_connections"
    assert connections.refusal(V4, NOW + 25) is None


def test_no_limit() -> None:
    connections = limited(new_connections_per_minute=0)
    for _ in range(1000):
        connections.enter(V4, NOW).leave()
    assert connections.refusal(V4, NOW) is None
