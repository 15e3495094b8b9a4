"""The WAN of these tests is what it says it is, or what they show is nothing."""

import socket
import time
from collections.abc import Iterator

import pytest

from tests.fleet.wan import Site, Wan, unavailable, wan

monotonic = time.monotonic  # noqa: TID251  real packets, real time


@pytest.fixture
def pair() -> Iterator[Wan]:
    if why := unavailable():
        pytest.skip(why)
    with wan(("one", "other"), seed=7) as made:
        yield made


def udp(site: Site) -> socket.socket:
    sock = site.plug(socket.SOCK_DGRAM)
    sock.bind((site.address, 0))
    sock.settimeout(5)
    return sock


def send(one: socket.socket, other: socket.socket, count: int) -> None:
    for number in range(count):
        one.sendto(b"%d" % number, other.getsockname())


def test_packets_take_their_time_and_keep_their_order(pair: Wan) -> None:
    pair.set("one", "other", delay=0.05, jitter=0.02)
    with udp(pair["one"]) as one, udp(pair["other"]) as other:
        began = monotonic()
        send(one, other, 50)
        received = [other.recv(16) for _ in range(50)]
        assert monotonic() - began >= 0.05
        assert received == [b"%d" % number for number in range(50)]
        other.sendto(b"back", one.getsockname())
        assert one.recv(16) == b"back"


def test_a_cut_is_silent_and_heals(pair: Wan) -> None:
    with udp(pair["one"]) as one, udp(pair["other"]) as other:
        pair.cut("one", "other")
        send(one, other, 3)
        other.settimeout(0.1)
        with pytest.raises(TimeoutError):
            other.recv(16)
        pair.heal("one", "other")
        send(one, other, 1)
        other.settimeout(5)
        assert other.recv(16) == b"0"
        stats = pair.stats()["one other"]
        assert (stats["dropped"], stats["packets"]) == (3, 1)


def test_packets_are_lost_by_chance(pair: Wan) -> None:
    pair.set("one", "other", loss=0.3)
    with udp(pair["one"]) as one, udp(pair["other"]) as other:
        send(one, other, 100)
        while sum(_passed(pair)) < 100:
            pass  # some are still in the kernel; each look takes a round trip to the router
        passed, dropped = _passed(pair)
        assert 50 < passed < 90
        received = [int(other.recv(16)) for _ in range(passed)]
        assert received == sorted(received)
        other.settimeout(0.05)
        with pytest.raises(TimeoutError):
            other.recv(16)
        assert dropped == 100 - passed


def _passed(pair: Wan) -> tuple[int, int]:
    """Packets that passed, and packets that did not."""
    stats = pair.stats()["one other"]
    return int(stats["packets"]), int(stats["dropped"])


def test_sites_see_one_another_and_nothing_else(pair: Wan) -> None:
    with (
        pair["other"].listening() as listening,
        pair["one"].plug() as dialling,
        socket.socket() as here,
    ):
        dialling.connect(listening.getsockname())
        accepted, address = listening.accept()
        accepted.close()
        assert address[0] == pair["one"].address
        here.settimeout(0.2)
        with pytest.raises(OSError):  # noqa: PT011  unreachable, or silent: as this machine has it
            here.connect(listening.getsockname())
