"""What happened to a request, in the fields that clients and other caches read.

`Cache-Status` (RFC 9211), `Age` (RFC 9111), `Server-Timing`, and who may keep the answer: since we
act as the origin of a POST, no other cache may store it.
"""

from dataclasses import dataclass, field
from math import floor
from typing import Literal

from edge.request import Fields

JSON = ("content-type", "application/json")
EVENT_STREAM: Fields = (
    ("content-type", "text/event-stream; charset=utf-8"),
    ("cache-control", "no-cache, no-store, no-transform"),
    ("x-accel-buffering", "no"),
    ("incremental", "?1"),  # RFC 10036: please do not buffer
)
PRIVATE = ("cache-control", "private, no-store")


Stale = Literal["swr", "sie", "busy"]
"""Why an expired answer was served: it is being fetched anew; an upstream failed; none had room, or
all want to be left alone."""
STALE: tuple[Stale, ...] = ("swr", "sie", "busy")


@dataclass(slots=True)
class Timings:
    """How long the steps of one request took, in seconds, for `Server-Timing`."""

    steps: dict[str, float] = field(default_factory=dict)

    def field_value(self, how: str) -> str:
        parts = [f'cache;desc="{how}"']
        parts += [f"{name};dur={seconds * 1e3:.2f}" for name, seconds in self.steps.items()]
        return ", ".join(parts)


def hit(node: str, ttl_s: float, detail: str = "") -> str:
    """`detail` says how, where it was not by the very key of the asker's own scope.

    A stale answer has a negative `ttl_s` (RFC 9211, 2.2).
    """
    return f"{node}; hit; ttl={floor(ttl_s)}" + (f"; detail={detail}" if detail else "")


def stale(node: str, ttl_s: float, why: Stale) -> str:
    """An expired answer, and why. One that was served for want of another was asked for first, and
    a request that went on is no hit (RFC 9211, 2.1)."""
    if why == "sie":
        return f"{node}; fwd=stale; ttl={floor(ttl_s)}; detail={why}"
    return hit(node, ttl_s, why)


def forwarded(
    node: str, why: str, detail: str = "", *, stored: bool = False, collapsed: bool = False
) -> str:
    """`why` is one of RFC 9211's reasons: bypass, miss, request, stale; `detail` is our token."""
    suffix = ("; stored" if stored else "") + ("; collapsed" if collapsed else "")
    suffix += f"; detail={detail}" if detail else ""
    return f"{node}; fwd={why}{suffix}"


def bypassed(node: str, detail: str) -> str:
    return f"{node}; fwd=bypass; detail={detail}"


def proxy_status(node: str, error: str) -> tuple[str, str]:
    """RFC 9209: what went wrong between us and the upstream."""
    return ("proxy-status", f"{node}; error={error}")
