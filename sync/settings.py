"""What a fleet may use up, and where it meets."""

from dataclasses import dataclass, field
from typing import Annotated

from annotated_types import Ge, Gt

from sync.jetstream.settings import NatsSettings


@dataclass(frozen=True, slots=True)
class SyncSettings:
    """Other nodes, and what is exchanged with them. A node that nobody was invited by is alone."""

    listen: str = ""
    """Where other nodes reach this one: HOST:PORT, TCP. Unset: as `promptedge join --listen` said,
    or else `127.0.0.1:8444`. Closed until the node is in a fleet."""
    address: str = ""
    """HOST:PORT as the others dial it, where that differs from `listen`."""
    region: str = ""
    """Where this node is, such as `eu`, for answers that must not leave a region. Of a node that
    joined, what it was enrolled with counts."""
    parents: tuple[str, ...] = ()
    """Names of the nodes that this one listens to, and that relay the others. Empty: all of them,
    which is right up to some 20 nodes."""
    relay: bool = False
    """Tell others' answers too to nodes that have this one as their parent."""
    threshold: Annotated[int, Ge(1)] = 3
    """An answer that was asked for so often is offered to the others."""
    bytes_per_s: Annotated[int, Gt(0)] = 256_000
    """What this node may offer in answers; those worth most per byte go first."""
    fetch_timeout_s: Annotated[float, Gt(0)] = 0.15
    """How long a miss waits for a node that seems to have the answer, before an upstream is asked.
    """
    links_max: Annotated[int, Ge(1)] = 64
    """Nodes that may listen to this one at a time."""
    fetches_max: Annotated[int, Ge(1)] = 32
    """Requests of one node that are answered at a time; the next gets a 503."""
    nats: NatsSettings = field(default_factory=NatsSettings)
