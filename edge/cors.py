"""Cross-origin requests from browsers (WHATWG Fetch, 3.2). Off until an origin is allowed."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge

from edge.request import Fields

_EXPOSED = (
    "cache-status, age, etag, ratelimit, ratelimit-policy, retry-after, server-timing,"
    " x-promptedge-upstream, x-request-id, x-ratelimit-limit-requests,"
    " x-ratelimit-remaining-requests, x-ratelimit-reset-requests, x-ratelimit-limit-tokens,"
    " x-ratelimit-remaining-tokens, x-ratelimit-reset-tokens"
)
_REQUEST_HEADERS = ("authorization", "content-type", "cache-control", "prompt-cache", "traceparent")
_TOKEN = re.compile(r"[a-z0-9-]{1,64}")
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#@\sA-Z*]+")


@dataclass(frozen=True, slots=True)
class CorsSettings:
    """Which web pages may call this node."""

    allow_origins: tuple[str, ...] = ()
    """Origins such as `https://chat.example`, or `*` for any. Empty: none."""
    max_age_s: Annotated[int, Ge(0)] = 600
    """How long a browser may remember the answer to its preflight, in seconds."""


def wrong(origin: str) -> bool:
    """Would no browser ever send it as its `Origin`: a scheme, a host and perhaps a port?"""
    return origin not in ("*", "null") and not _ORIGIN.fullmatch(origin)


class Cors:
    """The fields that a browser looks for, on every answer, errors and streams too."""

    def __init__(self, settings: CorsSettings) -> None:
        self._settings = settings
        self._any = "*" in settings.allow_origins

    def fields(self, headers: Mapping[str, str]) -> Fields:
        """For an actual response. `Vary` is there for everyone, or a cache would mix them up."""
        origin = self._allowed(headers)
        if origin is None:
            return (("vary", "Origin"),)
        return (
            ("vary", "Origin"),
            ("access-control-allow-origin", origin),
            ("access-control-expose-headers", _EXPOSED),
        )

    def preflight(self, headers: Mapping[str, str], methods: str) -> Fields:
        if self._allowed(headers) is None:
            return self.fields(headers)
        return (
            *self.fields(headers),
            ("access-control-allow-methods", methods),
            ("access-control-allow-headers", _request_headers(headers)),
            ("access-control-max-age", str(self._settings.max_age_s)),
        )

    def _allowed(self, headers: Mapping[str, str]) -> str | None:
        origin = headers.get("origin")
        if origin and (self._any or origin in self._settings.allow_origins):
            return origin
        return None


def _request_headers(headers: Mapping[str, str]) -> str:
    """Ours and those asked for: SDKs in browsers send many of their own, all of them harmless."""
    asked = headers.get("access-control-request-headers", "").lower().split(",")
    extra = [name.strip() for name in asked if _TOKEN.fullmatch(name.strip())]
    return ", ".join(dict.fromkeys([*_REQUEST_HEADERS, *extra[:64]]))
