"""A request on its way through the node: read, admitted, keyed, not yet answered."""

from dataclasses import dataclass, field

from edge import status
from edge.dialects import Call, Dialect
from edge.policy import Allowed, Mode, Route
from edge.request import Head
from edge.status import Timings
from index.entry import CacheKey, Instant, Scope


@dataclass(frozen=True, slots=True)
class Ask:
    head: Head
    body: bytes
    dialect: Dialect
    call: Call
    scope: Scope
    key: CacheKey
    allowed: Allowed
    route: Route
    began: Instant
    request_id: str
    answer_bytes_max: int
    timings: Timings = field(default_factory=Timings)

    @property
    def bypass(self) -> str | None:
        """Why memory has no part in this request, if so."""
        return self.call.bypass or ("off" if self.allowed.mode == Mode.OFF else None)

    def forward_status(self, node: str, *, stored: bool, collapsed: bool) -> str:
        """The `Cache-Status` of an answer that memory did not have."""
        if self.bypass:
            return status.bypassed(node, self.bypass)
        why = "miss" if self.allowed.lookup else "request"
        return status.forwarded(node, why, stored=stored, collapsed=collapsed)
