"""Replicas linked by the real thing: what one says holds on the other, and nothing else does."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from index.clock import Now, at
from index.entry import EVERYWHERE, Entry, NodeName, Purge, Timestamp, Version
from sync.dialling import dialled
from sync.dialogue import Aside, written
from sync.feed import Feed
from sync.frames import signed
from sync.messages import Presence, State
from sync.outbox import Outbox
from sync.replica import Replica
from sync.roster import enrol
from sync.voice import Own
from tests.fakes import entries
from tests.fakes.eventually import until
from tests.fakes.members import Member, fleet, monotonic, running
from tests.fakes.shelf import FakeShelf

LAST = b"\x01"
"""Before the last piece of a message."""


@dataclass
class Node:
    member: Member
    shelf: FakeShelf
    replica: Replica
    feed: Feed

    @property
    def name(self) -> NodeName:
        return self.member.name

    @property
    def now(self) -> Now:
        return Now(self.member.wall, monotonic())

    def publish(self, name: str) -> Entry:
        made = entries.entry(name, stored_at=self.member.wall)
        version = self.replica.stamp(self.now)
        entry = replace(made, stored_by=self.name, version=version, reach=EVERYWHERE)
        self.shelf.put(entry)
        self.replica.publish([(entry, None)], self.now)
        self.feed.flush()
        return entry

    def holds(self, entry: Entry) -> bool:
        return self.shelf.recall(entry.scope, entry.key, self.member.wall) is not None


async def started(stack: AsyncExitStack, member: Member) -> Node:
    own = Own(member.name, member.credentials.key, "eu", member.address)
    log = Outbox(member.data, member.credentials.fleet, member.name.encode()[:8].ljust(8))
    shelf = FakeShelf()
    replica = Replica(own, member.roster, log, shelf, Now(member.wall, monotonic()))
    stack.callback(replica.close)
    feed = await stack.enter_async_context(running(member, replica=replica))
    return Node(member, shelf, replica, feed)


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[list[Node]]:
    async with AsyncExitStack() as stack:
        made = [await started(stack, one) for one in fleet(tmp_path, "a", "b", "c")]
        await until(lambda: all(len(one.replica.links.ends) == 4 for one in made))
        await until(lambda: all(len(one.replica.peers) == 2 for one in made))  # they have met
        yield made


async def test_answers_and_purges_reach_everybody(nodes: list[Node]) -> None:
    a, b, c = nodes
    kept, gone = a.publish("kept"), b.publish("gone")
    await until(lambda: all(one.holds(kept) and one.holds(gone) for one in nodes))
    purged = c.replica.purge(Purge(key=gone.key), c.now)
    c.feed.flush()
    await until(lambda: not c.replica.unconfirmed(purged, c.now))
    assert [one.holds(gone) for one in nodes] == [False] * 3
    assert all(one.holds(kept) for one in nodes)


async def test_a_revoked_node_is_cut_off_by_everybody(nodes: list[Node]) -> None:
    """Who hears of it from the one that said so cuts it off as well, and does not dial it."""
    a, b, c = nodes
    told = b.publish("of a node that will be revoked")
    await until(lambda: c.holds(told))
    enrolment, operator = a.member.roster.member(b.name), a.member.credentials.operator
    assert enrolment is not None
    assert operator is not None
    revoked = replace(enrolment, revoked=True, version=Version(enrolment.version + 1))
    a.replica.enrol(enrol(revoked, operator), a.now)
    a.replica.purge(Purge(label=f"by:{b.name}"), a.now)
    a.feed.flush()
    await until(lambda: _ends(a) == {c.name})
    await until(lambda: _ends(c) == {a.name})
    await until(lambda: not c.holds(told))
    late = b.publish("too late")
    await until(lambda: b.feed.unreached.keys() == {a.name, c.name})
    assert not a.holds(late)
    assert not c.holds(late)


async def test_a_node_cannot_speak_for_another(nodes: list[Node]) -> None:
    """The certificate says B, a frame says C: what counts is who signed it."""
    a, b, c = nodes
    fleet_id, moment = a.member.credentials.fleet, at(Timestamp(a.member.wall + 1))
    said = Presence(State.LEAVING, "", "", (), 0, moment, 0, 0)
    of_b, of_c = (one.member.credentials.key for one in (b, c))
    frames = {
        "forged": signed(said, c.name, moment, of_b, fleet_id),
        "forged too": signed(said, b.name, moment, of_b, bytes(16)),
        "of a stranger": signed(said, NodeName("d.00000000"), moment, of_b, fleet_id),
    }
    async with dialled(a.member.peer(), b.member.credentials.client_tls()) as websocket:
        for frame in frames.values():
            await websocket.send_bytes(LAST + written(Aside((frame,))))
        genuine = signed(said, c.name, moment, of_c, fleet_id)
        await websocket.send_bytes(LAST + written(Aside((genuine,))))
        await until(lambda: _state(a, c.name) is State.LEAVING)
    assert a.replica.hearing.dropped["forged"] == 2
    assert sum(a.replica.hearing.dropped.values()) == 3, a.replica.hearing.dropped


@pytest.mark.parametrize(
    "data", [b"", b"\x00", b"\xff" * 50, b"\x05\xc1", b"\x01" + b"\x80" * 5000]
)
async def test_garbage_is_counted_and_costs_nothing_else(nodes: list[Node], data: bytes) -> None:
    a, b, _ = nodes
    async with dialled(a.member.peer(), b.member.credentials.client_tls()) as websocket:
        await websocket.send_bytes(LAST + data)
        await until(lambda: sum(a.replica.hearing.dropped.values()))
    entry = b.publish("after that")
    await until(lambda: a.holds(entry))


def _ends(node: Node) -> set[NodeName]:
    return {end.peer for end in node.replica.links.ends}


def _state(node: Node, name: NodeName) -> State | None:
    peer = node.replica.peers.get(name)
    return None if peer is None else peer.presence.state
