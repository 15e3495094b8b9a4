"""Links between simulated nodes: in order each way, late, and broken without anybody being told."""

from dataclasses import dataclass, field
from functools import partial

from sync.links import End, Role
from tests.sim.node import Node
from tests.sim.weather import Carrier


@dataclass(eq=False, slots=True)
class Wire:
    """One connection, dialled by the reader."""

    reader: Node
    source: Node
    alive: bool = True
    ends: dict[str, bool] = field(default_factory=dict)
    """Whether the reader's and the source's replica take it for up."""
    arrivals: dict[str, float] = field(default_factory=dict)

    def end_at(self, node: Node) -> End:
        """How `node` calls the other end."""
        if node is self.reader:
            return End(self.source.name, Role.SOURCE)
        return End(self.reader.name, Role.READER)

    def other(self, node: Node) -> Node:
        return self.source if node is self.reader else self.reader


class Network:
    def __init__(self, carrier: Carrier) -> None:
        self._carrier = carrier
        self.cuts: dict[tuple[str, str], None] = {}
        """Pairs of nodes that cannot reach each other."""
        self.sent: list[tuple[Node, Node, bytes]] = []
        """Of late; whoever looks clears it."""
        self._wires: dict[tuple[str, str], Wire] = {}

    def apart(self, one: Node, other: Node) -> bool:
        return (one.stem, other.stem) in self.cuts or (other.stem, one.stem) in self.cuts

    def dial(self, reader: Node, source: Node) -> None:
        """Try to link, and go on trying whenever there is no link."""
        pair = (reader.stem, source.stem)
        wire = self._wires.get(pair)
        linked = wire is not None and wire.ends.get(reader.stem)
        if not linked and not self.apart(reader, source) and self._welcome(reader, source):
            self._link(pair, reader, source)
        self._carrier.again(partial(self.dial, reader, source))

    def _welcome(self, reader: Node, source: Node) -> bool:
        return (
            reader.replica is not None
            and source.replica is not None
            and source.replica.roster.member(reader.name) is not None
            and reader.replica.roster.member(source.name) is not None
        )

    def _link(self, pair: tuple[str, str], reader: Node, source: Node) -> None:
        assert reader.replica is not None
        assert source.replica is not None
        if (old := self._wires.get(pair)) is not None:
            old.alive = False
            self._notice(old, source)
        wire = self._wires[pair] = Wire(reader, source)
        wire.ends[source.stem] = wire.ends[reader.stem] = True
        source.replica.linked(wire.end_at(source), source.now)
        reader.replica.linked(wire.end_at(reader), reader.now)
        self._carrier.touched(source)
        self._carrier.touched(reader)

    def send(self, sender: Node, end: End, data: bytes) -> None:
        """What a replica wants sent. It may never arrive, and then nothing after it does."""
        if end.role is Role.SOURCE:
            pair = (sender.stem, end.peer.split(".")[0])
        else:
            pair = (end.peer.split(".")[0], sender.stem)
        wire = self._wires.get(pair)
        if wire is None or not wire.ends.get(sender.stem):
            return
        self.sent.append((sender, wire.other(sender), data))
        if wire.alive and self._carrier.breaks():
            self.break_(wire)
        self._carrier.carry(wire.arrivals, sender.stem, partial(self._arrive, wire, sender, data))

    def _arrive(self, wire: Wire, sender: Node, data: bytes) -> None:
        receiver = wire.other(sender)
        if not wire.alive or not receiver.up or not wire.ends.get(receiver.stem):
            return
        assert receiver.replica
        receiver.replica.receive(wire.end_at(receiver), data, receiver.now)
        self._carrier.touched(receiver)

    def break_(self, wire: Wire) -> None:
        """Nothing arrives any more; each end notices in its own time."""
        wire.alive = False
        for node in (wire.reader, wire.source):
            self._carrier.noticed(partial(self._notice, wire, node))

    def _notice(self, wire: Wire, node: Node) -> None:
        if wire.ends.pop(node.stem, False) and node.replica is not None:
            node.replica.unlinked(wire.end_at(node), node.now)
            self._carrier.touched(node)

    def shut_out(self, node: Node) -> None:
        """Cut the links of whom the node's roster has lost, as a transport does."""
        if node.replica is None:
            return
        for wire in self._wires.values():
            if node.stem in wire.ends and wire.end_at(node) not in node.replica.links.ends:
                wire.ends.pop(node.stem)
                self.break_(wire)

    def cut(self, one: Node, other: Node) -> None:
        self.cuts[one.stem, other.stem] = None
        for wire in self._between(one, other):
            self.break_(wire)

    def gone(self, node: Node) -> None:
        """A process ended: its own ends are gone at once, the others notice."""
        for wire in list(self._wires.values()):
            if node in (wire.reader, wire.source):
                wire.ends.pop(node.stem, None)
                self.break_(wire)

    def _between(self, one: Node, other: Node) -> list[Wire]:
        return [
            wire
            for wire in self._wires.values()
            if wire.alive and {wire.reader.stem, wire.source.stem} == {one.stem, other.stem}
        ]

    @property
    def wires(self) -> list[Wire]:
        return [wire for wire in self._wires.values() if wire.alive]
