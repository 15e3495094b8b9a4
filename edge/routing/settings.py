"""What the operator says of the upstreams and of how to choose among them."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, MinLen
from pydantic import AwareDatetime

Tier = Literal["primary", "secondary", "local"]
TIERS: tuple[Tier, ...] = ("primary", "secondary", "local")
"""In the order in which they are asked."""

LIMIT_MIN = 4
"""No upstream is thought to bear less than this many requests at a time."""


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
    aliases: dict[str, str] = field(default_factory=dict)
    """What it calls a model that clients know by another name, which it then serves too:
    `{ "gpt-4.1-mini" = "llama3.1:8b" }`. Patterns with `*` and `?` are names too."""
    tier: Tier = "primary"
    """`primary`; `secondary`: asked while no primary one can answer or all are at their limit;
    `local`: asked when no other can, for routes with `local = true` only, and never remembered."""
    weight: Annotated[float, Gt(0)] = 1.0
    """How much it is preferred within its tier: with 2 it counts as half as far as it is."""
    region: str = ""
    """Where it computes, such as `eu`; `routes.regions` may ask for it."""
    connect_timeout_s: Annotated[float, Gt(0)] = 5.0
    """How long connecting may take before the next upstream is tried."""
    first_byte_timeout_s: Annotated[float, Gt(0)] = 600.0
    """How long it may think before its answer begins."""
    idle_timeout_s: Annotated[float, Gt(0)] = 120.0
    """How long it may be silent once its answer has begun."""
    connections_max: Annotated[int, Ge(1)] = 512
    """Requests to it at a time. What it bears is measured and is a limit below this one: past it,
    others of its tier and the secondary ones are preferred, and then requests wait."""
    concurrency: Annotated[int, Ge(1)] | None = None
    """How many requests at a time it is known to bear: so many are sent to it at first. Unset: as
    many as there are connections. Either way fewer once it refuses some or is found to get more
    done with fewer, and more once it is found to get more done with more."""
    stream_usage: bool = True
    """Ask its streams for their token usage (`stream_options.include_usage`). Turn it off for a
    server that refuses the parameter; cached answers then carry no usage."""


@dataclass(frozen=True, slots=True)
class RoutingSettings:
    """How one of several upstreams is chosen: see docs/operations.md."""

    probe_interval_s: Annotated[float, Gt(0)] = 5.0
    """How often one request tries an upstream that was nearer before it got slow, in seconds."""
    failure_penalty_s: Annotated[float, Ge(0)] = 5.0
    """How long a wait for the first token is as bad as a failure, in seconds."""
    retry_share_max: Annotated[float, Ge(0), Le(1)] = 0.1
    """Retries at another upstream, as a share of requests, beside one a second. Where a connection
    was lost before the first token, the next upstream is tried in any case."""
    hedge: bool = False
    """Ask a second upstream for a stream whose first token is later than 99 of 100 are, and take
    whichever begins first. Shortens the longest waits, and pays for the prompt twice."""
    hedge_share_max: Annotated[float, Ge(0), Le(1)] = 0.02
    """How many requests may be hedged, as a share of all."""


@dataclass(frozen=True, slots=True)
class MaintenanceSettings:
    """A time in which an upstream gets no new requests, announced in `GET /v1/status`."""

    upstream: Annotated[str, MinLen(1)]
    """Its name."""
    begins: AwareDatetime
    """When, with its offset from UTC: `2026-11-01T02:00:00Z`."""
    ends: AwareDatetime
    """Until when."""
    every: Literal["", "day", "week"] = ""
    """Whether it comes again at the same time (of that offset) each day or week."""
