"""What the operator says about what the public is told."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StatusSettings:
    """What `GET /v1/status` and the page `/status` tell everybody, without a key."""

    public: bool = True
    """Whether there are any. Off: 404; `promptedge status` says the same to operators."""
    names: bool = True
    """Call upstreams and plans by the names that they were given here. Off, and where an upstream
    was given none: `upstream 1`, `plan 1`. Their addresses are never told."""
