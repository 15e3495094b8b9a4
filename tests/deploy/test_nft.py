"""The nftables ruleset: who is banned is cut off, and no source opens more than it may."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.deploy.street import (
    ATTACKER,
    ATTACKER6,
    NEIGHBOUR,
    NEIGHBOUR6,
    NODE,
    NODE6,
    SAME_64,
    Namespace,
)
from tests.fleet.router import inside

PORT = 8443
Walled = tuple[Namespace, Namespace]


@pytest.fixture
def listening(walled: Walled) -> Iterator[None]:
    """Somebody who takes connections, and answers none."""
    with inside(walled[0].name):
        sock = socket.create_server(
            ("", PORT), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024
        )
    with sock:
        yield


def reaches(world: Namespace, source: str, to: str) -> bool:
    try:
        world.connect(source, (to, PORT), timeout=1.0).close()
    except TimeoutError:
        return False
    return True


def ban(node: Namespace, which: str, whom: str) -> None:
    element = f"{{ {whom} timeout 1h }}"
    node.run("nft", "add", "element", "inet", "promptedge", which, element)


@pytest.mark.usefixtures("listening")
def test_who_is_banned_does_not_get_in_and_others_do(walled: Walled) -> None:
    node, world = walled
    assert reaches(world, ATTACKER, NODE)
    ban(node, "ban4", ATTACKER)
    assert not reaches(world, ATTACKER, NODE)
    assert reaches(world, NEIGHBOUR, NODE)
    node.run("nft", "-f", "deploy/promptedge.nft")
    assert not reaches(world, ATTACKER, NODE)  # loaded anew it forgets nobody


@pytest.mark.usefixtures("listening")
def test_an_ipv6_ban_is_of_all_the_64(walled: Walled) -> None:
    node, world = walled
    ban(node, "ban6", f"{ATTACKER6}/64")
    assert not reaches(world, ATTACKER6, NODE6)
    assert not reaches(world, SAME_64, NODE6)
    assert reaches(world, NEIGHBOUR6, NODE6)


@pytest.mark.usefixtures("listening")
@pytest.mark.parametrize(
    ("to", "flooder", "accomplice", "neighbour"),
    [(NODE, ATTACKER, ATTACKER, NEIGHBOUR), (NODE6, ATTACKER6, SAME_64, NEIGHBOUR6)],
)
def test_a_source_opens_so_many_flows_at_a_time(
    walled: Walled, to: str, flooder: str, accomplice: str, neighbour: str
) -> None:
    node, world = walled
    with ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(world.connect(flooder, (to, PORT)))
        assert not reaches(world, accomplice, to)
        assert reaches(world, neighbour, to)
    assert 'drop comment "open flows"' in node.run("nft", "list", "table", "inet", "promptedge")


@pytest.mark.parametrize(
    ("to", "flooder", "accomplice", "neighbour"),
    [(NODE, ATTACKER, ATTACKER, NEIGHBOUR), (NODE6, ATTACKER6, SAME_64, NEIGHBOUR6)],
)
@pytest.mark.usefixtures("listening")
def test_a_source_that_floods_with_datagrams_can_still_use_tcp(
    walled: Walled, to: str, flooder: str, accomplice: str, neighbour: str
) -> None:
    """Its address may be forged on them."""
    node, world = walled
    family = socket.AF_INET6 if ":" in to else socket.AF_INET
    with inside(node.name):
        quic = socket.socket(family, socket.SOCK_DGRAM)
        quic.bind((to, PORT))
        quic.setblocking(False)
    heard: set[tuple[str, int]] = set()
    with quic:
        for number in range(1000):
            with inside(world.name):
                sender = socket.socket(family, socket.SOCK_DGRAM)
            with sender:
                sender.bind((flooder, 20_000 + number))
                sender.sendto(b"x", (to, PORT))
            heard.update(_received(quic))
        assert 150 < len(heard) <= 220
        for source, arrives in ((accomplice, False), (neighbour, True)):
            with inside(world.name):
                sender = socket.socket(family, socket.SOCK_DGRAM)
            with sender:
                sender.bind((source, 0))
                sender.sendto(b"y", (to, PORT))
                assert bool(_received(quic)) == arrives
    assert reaches(world, flooder, to)


def _received(sock: socket.socket) -> set[tuple[str, int]]:
    """Whom datagrams came from: over a cable in one machine they are there at once."""
    found = set()
    while True:
        try:
            found.add(sock.recvfrom(64)[1][:2])
        except BlockingIOError:
            return found
