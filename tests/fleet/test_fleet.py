"""Three real nodes 40 and 80 ms apart, 1 % of packets lost: what they share, whatever goes wrong.

Everything once over links from node to node, and once over a NATS server in Frankfurt.

`FLEET_CUT_S=20 pytest tests/fleet` cuts for as long as a bad day does, and holds the nodes to the
time that they take to be alike again: for a machine that does nothing else.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tests.fakes.doors import chat
from tests.fakes.eventually import until_told
from tests.fakes.nats import BINARIES, NatsServer, nats_server
from tests.fleet.nodes import FleetNode, fleet, in_touch
from tests.fleet.wan import Wan

monotonic = time.monotonic  # noqa: TID251  real nodes, real time

CUT_S = float(os.environ.get("FLEET_CUT_S", "5"))
HEALED_S = 3.0 if "FLEET_CUT_S" in os.environ else 60.0
"""The first answer arrives within so long of the end of a cut."""

Nodes = dict[str, FleetNode]


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module", params=["feed", "nats"])
def server(
    request: pytest.FixtureRequest, net: Wan, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[NatsServer | None]:
    """What carries what nodes say, if not they themselves."""
    if request.param == "feed":
        yield None
        return
    binary = BINARIES["newest"] or BINARIES["system"]
    if binary is None:
        pytest.skip("there is no nats-server on this machine")
    site = net["fra"]
    within = ("ip", "netns", "exec", site.namespace)
    with nats_server(binary, tmp_path_factory.mktemp("nats"), "", site.address, within) as one:
        yield one


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def nodes(
    net: Wan, server: NatsServer | None, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Nodes]:
    """One fleet for all tests: each says what nobody else says, and leaves all nodes in touch."""
    urls = [server.url] if server else []
    async with fleet(net, tmp_path_factory.mktemp("fleet"), urls) as made:
        yield made


async def arrive(node: FleetNode, texts: list[str]) -> float:
    """Wait for answers of another node, told in that order; seconds until the first was there."""
    began = monotonic()
    await until_told(lambda: node.holds(texts[0]))
    first = monotonic() - began
    for text in texts[1:]:
        await until_told(lambda: node.holds(text))  # noqa: B023  awaited before it changes
    return first


async def keep_making(node: FleetNode, name: str, until: float) -> list[str]:
    """Popular answers at a node, one after the other, until then."""
    made: list[str] = []
    while monotonic() < until:
        text = f"{name} {len(made)} of {node.site.name}"
        await node.make_popular(text)
        made.append(text)
        await asyncio.sleep(0.05)
    return made


async def test_what_is_popular_on_one_node_is_answered_by_all(nodes: Nodes) -> None:
    fra, ams, sin = nodes.values()
    await ams.make_popular("What is popular?")
    for node in (fra, sin):
        await arrive(node, ["What is popular?"])
        status, cached, said = await node.ask("What is popular?")
        assert (status, said) == (200, f"answer {len(ams.upstream.calls)} to: What is popular?")
        assert "hit" in cached
        assert "What is popular?" not in [call.text for call in node.upstream.calls]


async def test_a_purge_holds_everywhere_when_it_is_confirmed(nodes: Nodes) -> None:
    fra, ams, sin = nodes.values()
    await ams.make_popular("What is to go?")
    for node in (fra, sin):
        await arrive(node, ["What is to go?"])
    done = await sin.call("/admin/purge", {"request": chat("What is to go?")})
    assert len(done["confirmed"]) == 2
    assert done["unconfirmed"] == []
    for node in nodes.values():
        assert await node.lacks("What is to go?")


async def test_a_cut_loses_nothing_and_revives_nothing(net: Wan, nodes: Nodes) -> None:
    """Amsterdam sees nobody. It serves on, and so do the others; a purge is made without it."""
    fra, ams, sin = nodes.values()
    await ams.make_popular("Known to all")
    for node in (fra, sin):
        await arrive(node, ["Known to all"])
    for other in ("fra", "sin"):
        net.cut("ams", other)
    until = monotonic() + CUT_S
    there, here = await asyncio.gather(
        keep_making(ams, "while cut", until), keep_making(sin, "while cut", until)
    )
    done = await fra.call("/admin/purge", {"request": chat("Known to all")})
    assert [name.split(".")[0] for name in done["unconfirmed"]] == ["ams"]
    for other in ("fra", "sin"):
        net.heal("ams", other)
    first = await asyncio.gather(arrive(sin, there), arrive(fra, there), arrive(ams, here))
    assert max(first) < HEALED_S
    await until_told(lambda: ams.lacks("Known to all"))
    for node in nodes.values():
        assert await node.lacks("Known to all")


async def test_a_node_that_is_killed_comes_back_without_what_was_purged(nodes: Nodes) -> None:
    fra, ams, sin = nodes.values()
    await ams.make_popular("To be purged")
    await ams.make_popular("To be kept")
    for node in (fra, sin):
        await arrive(node, ["To be purged", "To be kept"])
    await until_told(lambda: ams.has_written(2))
    await ams.kill()
    await fra.call("/admin/purge", {"request": chat("To be purged")})
    meanwhile = await keep_making(fra, "while it was away", monotonic() + 1.0)
    await ams.start()
    await in_touch(ams, 2)
    await arrive(ams, meanwhile)
    for node in nodes.values():
        assert await node.holds("To be kept")
        assert await node.lacks("To be purged")


async def test_a_server_that_is_killed_takes_nothing_with_it(
    server: NatsServer | None, nodes: Nodes
) -> None:
    if server is None:
        pytest.skip("there is none")
    fra, ams, sin = nodes.values()
    await ams.make_popular("Known before the server was killed")
    for node in (fra, sin):
        await arrive(node, ["Known before the server was killed"])
    server.kill()
    done = await sin.call("/admin/purge", {"request": chat("Known before the server was killed")})
    assert len(done["unconfirmed"]) == 2
    meanwhile = await keep_making(ams, "without a server", monotonic() + 2.0)
    server.start()
    assert await arrive(sin, meanwhile) < HEALED_S
    await arrive(fra, meanwhile)
    for node in (fra, ams):
        await until_told(lambda: node.lacks("Known before the server was killed"))  # noqa: B023
    for node in nodes.values():
        await in_touch(node, 2)


async def test_a_revoked_node_is_out_and_so_is_what_it_told(nodes: Nodes) -> None:
    """The last test: Singapore does not come back."""
    fra, ams, sin = nodes.values()
    await sin.make_popular("Told by one that will be revoked")
    for node in (fra, ams):
        await arrive(node, ["Told by one that will be revoked"])
    said = await fra.command("revoke", "sin")
    assert said.startswith("sin.")
    assert "is revoked; " in said
    for node in (fra, ams):
        await until_told(lambda: node.lacks("Told by one that will be revoked"))  # noqa: B023
        await in_touch(node, 1)
    status, _, _ = await sin.ask("Told by one that will be revoked")
    assert status == 200, "it serves on, by itself"
