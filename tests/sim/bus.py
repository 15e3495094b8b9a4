"""A message bus instead of links: streams that keep what they acknowledged, and words in passing.

As NATS does it: answers and purges are kept, in order, and read from a cursor of the reader's own;
presence and tables are heard by who is there. A session ends without anybody being told, with all
that was on its way; the next begins at the cursor, and says again what was not acknowledged.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from index.entry import NodeName, Version
from sync.bus import Publication
from sync.links import End, Role
from sync.messages import Kind
from sync.roster import admits
from tests.sim.node import Node
from tests.sim.weather import Carrier

BUS = End(NodeName("bus"), Role.BUS)
KEPT = (Kind.ENTRIES, Kind.PURGED, Kind.ENROLMENTS)
CURSOR_S = 1.0


@dataclass(eq=False, slots=True)
class Session:
    """One connection of a node's."""

    node: Node
    sent: int
    """How far the stream was sent to it."""
    alive: bool = True
    arrivals: dict[str, float] = field(default_factory=dict)


class Bus:
    def __init__(self, carrier: Carrier) -> None:
        self._carrier = carrier
        self.cuts: dict[str, None] = {}
        """Nodes that cannot reach it."""
        self.said: list[tuple[Node, Publication]] = []
        """Of late; whoever looks clears it."""
        self._stream: list[tuple[Node, Publication]] = []
        self._sessions: dict[str, Session] = {}
        self._cursors: dict[str, list[tuple[float, int]]] = {}
        """How far each node had heard the stream, and when; on its disk after a while."""

    def connect(self, node: Node) -> None:
        """Begin a session, and another whenever there is none."""
        if node.up and node.stem not in self._sessions and node.stem not in self.cuts:
            assert node.replica is not None
            self._sessions[node.stem] = session = Session(node, self._cursor(node))
            node.replica.linked(BUS, node.now)
            self._carrier.touched(node)
            self._pump(session)
        self._carrier.again(partial(self.connect, node))

    def say(self, node: Node) -> None:
        """Take what a replica has for the bus. It may never get there."""
        session = self._sessions.get(node.stem)
        assert node.replica is not None
        for publication in node.replica.to_bus():
            self.said.append((node, publication))
            if session is not None:
                if session.alive and self._carrier.breaks():
                    self.break_(session)
                self._send(session, "up", partial(self._heard, session, publication))

    def _send(self, session: Session, way: str, what: Callable[[], None]) -> None:
        def arrives() -> None:
            if session.alive:
                what()

        self._carrier.carry(session.arrivals, way, arrives)

    def _heard(self, session: Session, publication: Publication) -> None:
        """At the bus."""
        if publication.kind in KEPT:
            self._stream.append((session.node, publication))
            self._send(session, "down", partial(self._ack, session, publication.position))
            for other in list(self._sessions.values()):
                self._pump(other)
        else:
            for other in list(self._sessions.values()):
                self._send(other, "down", partial(self._give, other, publication.frame))

    def _pump(self, session: Session) -> None:
        while session.sent < len(self._stream):
            _, publication = self._stream[session.sent]
            session.sent += 1
            self._send(session, "down", partial(self._told, session, publication, session.sent))

    def _told(self, session: Session, publication: Publication, sequence: int) -> None:
        """At a node: the next message of the stream, if the bus lets it have that."""
        line, scope = session.node.enrolment, publication.scope
        if scope is None or (admits(publication.reach, line.region) and line.admits(scope)):
            session.node.told(publication.frame)
            self._give(session, publication.frame)
        if session.node.up and self._sessions.get(session.node.stem) is session:
            self._cursors.setdefault(session.node.stem, []).append((self._carrier.time(), sequence))

    def _give(self, session: Session, frame: bytes) -> None:
        node = session.node
        if node.replica is not None and self._sessions.get(node.stem) is session:
            node.replica.receive(BUS, frame, node.now)
            self._carrier.touched(node)

    def _ack(self, session: Session, position: Version) -> None:
        node = session.node
        if position and node.replica is not None and self._sessions.get(node.stem) is session:
            node.replica.acked(BUS, position, node.now)
            self._carrier.touched(node)

    def break_(self, session: Session) -> None:
        """Nothing arrives any more; the node notices in its own time."""
        session.alive = False
        self._carrier.noticed(partial(self._notice, session))

    def _notice(self, session: Session) -> None:
        node = session.node
        if self._sessions.get(node.stem) is session:
            del self._sessions[node.stem]
            if node.replica is not None:
                node.replica.unlinked(BUS, node.now)
                self._carrier.touched(node)

    def cut(self, node: Node) -> None:
        self.cuts[node.stem] = None
        if (session := self._sessions.get(node.stem)) is not None:
            self.break_(session)

    def gone(self, node: Node) -> None:
        """Its process ended: of its cursor it keeps what was on disk."""
        session = self._sessions.pop(node.stem, None)
        if session is not None:
            session.alive = False
        kept = [
            one
            for one in self._cursors.get(node.stem, [])
            if self._carrier.time() - one[0] > CURSOR_S
        ]
        self._cursors[node.stem] = kept[-1:]

    def restored(self, node: Node, taken_at: float) -> None:
        """Its disk is as it was then."""
        kept = [one for one in self._cursors.get(node.stem, []) if one[0] < taken_at - CURSOR_S]
        self._cursors[node.stem] = kept[-1:]

    def _cursor(self, node: Node) -> int:
        heard = self._cursors.get(node.stem)
        return heard[-1][1] if heard else 0

    @property
    def sessions(self) -> list[Session]:
        return [session for session in self._sessions.values() if session.alive]
