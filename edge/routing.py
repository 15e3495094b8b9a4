"""Which upstream next: in the operator's order, passing by those that are known to be down.

A breaker for each upstream: after `FAILURES_TO_OPEN` failures in a row it opens and the upstream is
not asked; after a while one request may probe it (half-open), and its outcome closes the breaker or
opens it for twice as long. When all are open the first is asked all the same: a guess that it is
still down must not turn into an outage of our own making.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

from annotated_types import Ge, Gt, MinLen

from index.entry import Instant

FAILURES_TO_OPEN = 5
OPEN_S_FIRST = 5.0
OPEN_S_MAX = 60.0
_LONG_AGO = Instant(0.0)


@dataclass(frozen=True, slots=True)
class UpstreamSettings:
    """A server that speaks the OpenAI API."""

    base_url: Annotated[str, MinLen(1)]
    """Where it is, with its version, such as `https://api.openai.com/v1`."""
    name: str = ""
    """What logs, metrics and status call it; unset: the host of `base_url`."""
    api_key_file: str = ""
    """A file that holds our key for it. Readable by this node alone."""
    api_key_env: str = ""
    """An environment variable that holds our key, where files are not to be had."""
    models: tuple[str, ...] = ()
    """The models it serves. Empty: any; it is asked which, for `GET /v1/models`."""
    connect_timeout_s: Annotated[float, Gt(0)] = 5.0
    """How long connecting may take before the next upstream is tried."""
    first_byte_timeout_s: Annotated[float, Gt(0)] = 600.0
    """How long it may think before its answer begins."""
    idle_timeout_s: Annotated[float, Gt(0)] = 120.0
    """How long it may be silent once its answer has begun."""
    connections_max: Annotated[int, Ge(1)] = 512
    """Connections to it at a time; more requests wait for one."""
    stream_usage: bool = True
    """Ask its streams for their token usage (`stream_options.include_usage`). Turn it off for a
    server that refuses the parameter; cached answers then carry no usage."""


@dataclass(slots=True)
class Health:
    """What the last answers of one upstream say about the next."""

    failures: int = 0
    open_until: Instant = _LONG_AGO
    open_s: float = OPEN_S_FIRST
    probing: bool = False

    def available(self, now: Instant) -> bool:
        closed = self.failures < FAILURES_TO_OPEN
        return closed or (now >= self.open_until and not self.probing)

    def asked(self) -> None:
        """A request is on its way: while the breaker is half-open it is the only one."""
        self.probing = self.failures >= FAILURES_TO_OPEN

    def succeeded(self) -> None:
        self.failures, self.open_s, self.probing = 0, OPEN_S_FIRST, False

    def failed(self, now: Instant) -> None:
        self.failures += 1
        if self.failures > FAILURES_TO_OPEN:
            self.open_s = min(2 * self.open_s, OPEN_S_MAX)
        self.open_until = Instant(now + self.open_s)
        self.probing = False

    def abandoned(self) -> None:
        """The client left before there was an outcome."""
        self.probing = False


@dataclass(slots=True)
class Upstream:
    settings: UpstreamSettings
    name: str
    models: frozenset[str]
    """Empty: takes any model."""
    health: Health = field(default_factory=Health)

    def serves(self, model: str) -> bool:
        return not self.models or model in self.models


def order(upstreams: Sequence[Upstream], model: str, now: Instant) -> list[Upstream]:
    """The upstreams to try for `model`, best first; empty when none serves it."""
    able = [upstream for upstream in upstreams if upstream.serves(model)]
    return [upstream for upstream in able if upstream.health.available(now)] or able[:1]
