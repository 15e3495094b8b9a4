"""What is known of the other nodes: who is alive, how far each is, what each lacks.

All of it is from Presences, which every node repeats every two seconds. Silence is what tells: one
that was not heard for three of them is suspect, for ten is taken for dead. Nothing is decided by it
but who is waited for when a purge is to be confirmed, and who is asked for an answer; a node that
was thought dead and is not has lost nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final

from index.clock import Now
from index.entry import Instant, NodeName, Version
from sync.messages import Presence, State

PRESENCE_S: Final = 2.0
SUSPECT_S: Final = 3 * PRESENCE_S
DEAD_S: Final = 10 * PRESENCE_S
FORGOTTEN_S: Final = 7 * 86_400.0
REPAIR_S: Final = 10.0
"""How long another may lack something that is on its way before it is told once more."""
REPAIR_MAX_S: Final = 600.0


class Health(Enum):
    ALIVE = "alive"
    SUSPECT = "suspect"
    DEAD = "dead"
    LEAVING = "leaving"


@dataclass(slots=True)
class Peer:
    """One other node, as it was heard last."""

    name: NodeName
    presence: Presence
    version: Version
    """Of the presence: an older one is not news."""
    heard_at: Instant
    current_at: Instant
    """When all that it had published was last known to be here."""
    repair_at: Instant | None = None
    """When it is told what it lacks; None while it lacks nothing, or is told for the first time."""
    repairs: int = 0
    """How often that was done since it last held what we hold."""


class Peers:
    """By name. Not thread-safe."""

    def __init__(self) -> None:
        self._peers: dict[NodeName, Peer] = {}

    def heard(self, name: NodeName, presence: Presence, version: Version, now: Now) -> bool:
        """False when something newer of that node was heard before."""
        peer = self._peers.get(name)
        if peer is None:
            self._peers[name] = Peer(name, presence, version, now.mono, now.mono)
            return True
        if version <= peer.version:
            return False
        peer.presence, peer.version, peer.heard_at = presence, version, now.mono
        return True

    def get(self, name: NodeName) -> Peer | None:
        return self._peers.get(name)

    def health(self, name: NodeName, now: Now) -> Health:
        peer = self._peers.get(name)
        if peer is None or now.mono - peer.heard_at > DEAD_S:
            return Health.DEAD
        if peer.presence.state is State.LEAVING:
            return Health.LEAVING
        return Health.SUSPECT if now.mono - peer.heard_at > SUSPECT_S else Health.ALIVE

    def live(self, now: Now) -> list[Peer]:
        """Who is alive or may be, sorted by name: not those that leave."""
        living = (Health.ALIVE, Health.SUSPECT)
        return [peer for peer in self if self.health(peer.name, now) in living]

    def lag_s(self, name: NodeName, now: Now) -> float:
        """For how long what it published may have been missing here; 0 when nothing is."""
        peer = self._peers.get(name)
        if peer is None:
            return 0.0
        silent = now.mono - peer.heard_at > SUSPECT_S
        behind = peer.current_at < peer.heard_at
        return now.mono - peer.current_at if silent or behind else 0.0

    def forget(self, now: Now) -> None:
        for name, peer in list(self._peers.items()):
            if now.mono - peer.heard_at > FORGOTTEN_S:
                del self._peers[name]

    def drop(self, name: NodeName) -> None:
        self._peers.pop(name, None)

    def __iter__(self) -> Iterator[Peer]:
        return iter([self._peers[name] for name in sorted(self._peers)])

    def __len__(self) -> int:
        return len(self._peers)

    def __repr__(self) -> str:
        return f"<Peers {', '.join(sorted(self._peers)) or 'none'}>"
