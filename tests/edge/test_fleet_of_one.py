"""A node whose fleet is itself: what it says to its operator."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from edge import neighbours
from edge.membership import SETTINGS, Wanted, join
from edge.node import Node, wall
from index.entry import EVERYWHERE, Instant, NodeName, Purge, Scope
from sync.application import Refused
from sync.digest import Holdings
from sync.invites import Terms
from sync.peer_client import Peer
from sync.roster import enrol
from tests.fakes.entries import entry
from tests.fakes.node import running_node, url
from tests.fakes.ports import free_address


def listens_on(data: Path, address: str) -> None:
    """As if `promptedge join` had chosen it: in place of port 8444, which others may have."""
    (data / SETTINGS).parent.mkdir(parents=True)
    (data / SETTINGS).write_text(json.dumps({"listen": address}))


@pytest.fixture
async def alone(tmp_path: Path) -> AsyncIterator[Node]:
    async with running_node(tmp_path / "a", "http://127.0.0.1:1/v1") as node:
        yield node


async def test_who_cannot_listen_says_so_to_who_invites(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        listens_on(tmp_path, f"127.0.0.1:{other.getsockname()[1]}")
        async with running_node(tmp_path, "http://127.0.0.1:1/v1") as node:
            with pytest.raises(Refused, match=r"in use.*Set \[sync\] listen"):
                await node.fleet.invite(Terms(), 60.0)


async def test_who_was_invited_before_a_restart_may_join_after_it(tmp_path: Path) -> None:
    listens_on(tmp_path / "a", free_address())
    async with running_node(tmp_path / "a", "http://127.0.0.1:1/v1") as node:
        token = (await node.fleet.invite(Terms(), 600.0)).token
    async with running_node(tmp_path / "a", "http://127.0.0.1:1/v1") as node:
        wanted = Wanted("sfo-1", listen=free_address())
        await asyncio.to_thread(join, token, tmp_path / "b", None, wanted, wall())
        assert len(node.fleet.roster) == 2


async def test_a_purge_beyond_a_nodes_scopes_is_refused_in_words(alone: Node) -> None:
    fleet = alone.fleet
    member = fleet.roster.member(fleet.name)
    assert member is not None
    assert fleet.operator is not None
    fleet.enrol(enrol(replace(member, scopes=("shared",), version=fleet.stamp()), fleet.operator))
    async with aiohttp.ClientSession() as session:
        told = url(alone, "admin") + "/admin/purge"
        async with session.post(told, json={"everything": True}) as refused:
            assert refused.status == 403
            assert "ask another node" in (await refused.json())["error"]["message"]
    assert (await alone.purges.purge(Purge(scope=Scope("shared")))).matched == 0


async def test_a_digest_that_nobody_asks_for_any_more_does_not_grow(alone: Node) -> None:
    holding = alone.fleet.neighbours
    reader = alone.fleet.roster.member(alone.fleet.name)
    assert reader is not None
    assert await holding.digest(reader, b"", 0) is not None
    for number in range(2_000):
        holding.added(replace(entry(number), reach=EVERYWHERE))
    kept = holding._told.values()
    assert sum(len(told.digest._added) for told in kept) <= 1_024
    assert await holding.digest(reader, b"", 0) is not None


async def test_a_node_that_does_not_answer_keeps_no_other_waiting(alone: Node) -> None:
    asking_around, asked = alone.fleet.neighbours, asyncio.Event()

    class Client:
        async def digest(self, peer: Peer, salt: bytes, added: int) -> bytes | None:
            if peer.name == "a":
                await asyncio.Event().wait()
            asked.set()
            return None

    asking_around._client = Client()  # type: ignore[assignment]
    asking_around._live = lambda: [(Peer(NodeName(name), "", b""), "eu") for name in ("a", "b")]
    asking = asyncio.get_running_loop().create_task(asking_around.ask_around())
    await asyncio.wait_for(asked.wait(), 20)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)


class Stands:
    """A clock that is moved by hand."""

    now = 0.0

    def __call__(self) -> Instant:
        return Instant(self.now)


async def test_more_audiences_than_there_is_room_for_are_told_of_nothing(
    alone: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until one has gone: then the next is told all that it may have."""
    monkeypatch.setattr(neighbours, "AUDIENCES_MAX", 2)
    asked, clock = alone.fleet.neighbours, Stands()
    asked._monotonic = clock
    own = alone.fleet.roster.member(alone.fleet.name)
    assert own is not None
    eu, us, ap = (replace(own, region=region) for region in ("eu", "us", "ap"))
    assert await asyncio.gather(*(asked.digest(one, b"", 0) for one in (eu, us, eu))) != []
    assert await asked.digest(ap, b"", 0) is None
    assert (asked.audiences, asked.counts.undigested) == (2, 1)
    clock.now += neighbours.AUDIENCE_IDLE_S
    assert await asked.digest(us, b"", 0) is not None
    assert await asked.digest(ap, b"", 0) is not None
    assert await asked.digest(us, b"", 0) is not None, "it was let go, and asks"
    assert await asked.digest(eu, b"", 0) is None
    assert alone.fleet.report.facts()["digests"] == {"audiences": 2, "no_room": 2}


async def test_tenants_are_no_audiences(alone: Node) -> None:
    asked = alone.fleet.neighbours
    own = alone.fleet.roster.member(alone.fleet.name)
    assert own is not None
    held = Holdings(alone._secret)
    held.hear(await asked.digest(own, b"", 0) or b"")
    entries = [
        replace(entry(number), scope=Scope(f"tenant:{number}"), reach=EVERYWHERE)
        for number in range(300)
    ]
    for one in entries:
        asked.added(one)
    held.hear(await asked.digest(own, held.salt, held.added) or b"")
    assert all(one.key in held for one in entries)
    assert asked.audiences == 1
