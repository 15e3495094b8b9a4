"""Who is linked, and what is to be sent to them: nothing is sent here."""

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

from index.entry import EVERYWHERE, NodeName, Version
from sync.bus import Publication
from sync.dialogue import Aside, DialogueMessage, written
from sync.frames import peek
from sync.messages import Kind


class Role(Enum):
    """Of the other end of a link."""

    READER = "reader"
    """It reads our log."""
    SOURCE = "source"
    """We read its log."""
    BUS = "bus"
    """No node: it gets what we say, and tells us what everybody says."""


class End(NamedTuple):
    """The other end of a link. With one node there may be two, one of either role."""

    peer: NodeName
    role: Role


class Links:
    def __init__(self, own: NodeName) -> None:
        self.ends: dict[End, None] = {}
        """Those that are up, oldest first."""
        self._own = own
        self._out: list[tuple[End, bytes]] = []
        self._publications: list[Publication] = []

    def send(self, end: End, message: DialogueMessage) -> None:
        self._out.append((end, written(message)))

    def publish(self, publication: Publication) -> None:
        """Give something to the bus."""
        self._publications.append(publication)

    def tell(self, frames: Sequence[bytes], *but: NodeName) -> None:
        """Tell everybody who is linked, once, what waits for nothing."""
        if not frames:
            return
        told = dict.fromkeys(but)
        for end in self.ends:
            if end.peer not in told:
                told[end.peer] = None
                self.aside(end, frames)

    def aside(self, end: End, frames: Sequence[bytes]) -> None:
        """Tell one of them; a bus only what is ours."""
        if end.role is not Role.BUS:
            self.send(end, Aside(tuple(frames)))
            return
        for frame in frames:
            header = peek(frame)
            if header.origin == self._own:
                self.publish(Publication(Kind(header.kind), Version(0), None, EVERYWHERE, frame))

    def outbox(self) -> list[tuple[End, bytes]]:
        """What is to be sent, in this order over each link. Taken: it is not given again."""
        out, self._out = self._out, []
        return out

    def to_bus(self) -> list[Publication]:
        """What the bus is to be given. Taken: given again only when it is linked anew."""
        out, self._publications = self._publications, []
        return out

    def of(self, role: Role) -> set[NodeName]:
        return {end.peer for end in self.ends if end.role is role}

    def __repr__(self) -> str:
        return ", ".join(f"{end.role.value} {end.peer}" for end in self.ends) or "no links"
