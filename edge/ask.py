"""A request on its way through the node: read, admitted, keyed, not yet answered."""

from dataclasses import dataclass, field
from math import inf

from edge import status
from edge.admission.keys import ANYBODY, Caller
from edge.dialects import Call, Dialect
from edge.policy import Allowed, Mode, Route
from edge.request import Fields, Head
from edge.status import Timings
from index.entry import CacheKey, Entry, Instant, NodeName, Reach, Scope, Seen, Timestamp


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """An answer that was brought along, for which no upstream is asked."""

    body: bytes
    generated_at: Timestamp
    expires_at: Timestamp | None = None
    """None: as long after it was generated as the route has it."""
    seen: Seen | None = None
    """The purges that were known when it was fetched; None: those that are known now."""
    stored_by: NodeName | None = None
    """The node that fetched it, if it was one of the fleet."""


@dataclass(frozen=True, slots=True, eq=False)
class Curation:
    """What an operator wants of an entry that is put into the cache on purpose."""

    labels: tuple[str, ...] = ()
    pinned: bool = False
    given: Given | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Query:
    """All that follows from a request's bytes alone. Equal bytes may share one Query."""

    head: Head
    body: bytes
    dialect: Dialect
    call: Call
    scope: Scope
    key: CacheKey
    allowed: Allowed
    route: Route
    answer_bytes_max: int
    cors: Fields
    reach: Reach = ()
    """Where an answer that is fetched for it may be kept."""
    regions: tuple[str, ...] | None = None
    """Where it may be fetched from; None: anywhere."""
    shared_key: CacheKey | None = None
    """Its key in the pool of all tenants, where there is one; see `edge.sharing`."""
    caller: Caller = ANYBODY
    curation: Curation | None = None
    """None for what clients ask; see `edge.curate`."""
    digest: bytes = b""
    """Of the body, if that is large: to make it takes too long for the loop."""

    @property
    def bypass(self) -> str | None:
        """Why memory has no part in this request, if so."""
        return self.call.bypass or ("off" if self.allowed.mode == Mode.OFF else None)

    @property
    def form(self) -> str:
        """The name of the representation that is asked for."""
        return f"events:{self.call.wants_usage}" if self.call.stream else "json"

    def forward_status(self, node: str, reason: str, *, stored: bool, collapsed: bool) -> str:
        """The `Cache-Status` of an answer that memory did not have, for a `reason` if any."""
        if self.bypass:
            return status.bypassed(node, self.bypass)
        if reason.startswith("bypass:"):
            return status.bypassed(node, reason.removeprefix("bypass:"))
        why = "miss" if self.allowed.lookup else "request"
        return status.forwarded(node, why, reason, stored=stored, collapsed=collapsed)


@dataclass(slots=True, eq=False)
class Ask:
    """One asking of a query: when, and under which name it is logged."""

    query: Query
    began: Instant
    request_id: str
    client: str | None = None
    """The address of whoever waits; None: nobody, the node asks of its own accord."""
    background: bool = False
    """Nobody waits: it is asked anew for whoever was served what was there."""
    expired: Entry | None = None
    """What was there, if another node's fresh answer may take its place as well."""
    queue_s_max: float = inf
    """How long it may wait for room at most, whatever its plan says."""
    timings: Timings = field(default_factory=Timings)
