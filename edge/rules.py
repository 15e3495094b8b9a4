"""What the operator decided, as far as the path of a request depends on it."""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Gt

from edge.policy import CacheSettings, RouteSettings


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """Limits that hold for every HTTP version."""

    body_bytes_max: Annotated[int, Gt(0)] = 8 * 1024 * 1024
    """The largest request body, in bytes; a larger one is refused with 413 before it is read."""


@dataclass(frozen=True, slots=True)
class Rules:
    node: str
    """The node's name in `Cache-Status`: an RFC 9651 token."""
    http: HttpSettings
    cache: CacheSettings
    routes: tuple[RouteSettings, ...]
    region: str = ""
    """Where the node is; empty: nowhere that has a name."""
