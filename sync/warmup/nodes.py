"""Asking a node, by its admin listener, to have an answer: `POST /admin/warm`."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import aiohttp

from index.entry import NodeName, Seen, Version
from sync.warmup.plan import NONE, Tokens

CONNECT_TIMEOUT_S = 10.0
ANSWER_TIMEOUT_S = 900.0
"""An upstream that thinks for long is the node's to give up, and it does."""


class NodeError(Exception):
    """A node did not do it. `kind` is a word to count by, the message says what to do."""

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(message)
        self.kind = kind


class Busy(NodeError):  # noqa: N818  a state that passes
    """It may do it later: it or the upstream is busy, failing, or not to be reached."""

    def __init__(self, message: str, kind: str, retry_after_s: float | None = None) -> None:
        super().__init__(message, kind)
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class Told:
    """What a node says became of a request."""

    outcome: str
    """
    stored     it is in the cache now
    present    it was already
    refused    it is not to be cached, for `reason`
    would-ask, would-store: it was a dry run
    """
    reason: str = ""
    asked: bool = False
    """Whether the upstream was."""
    tokens: Tokens = NONE
    body: str | None = None
    """The answer itself, verbatim, if it was wanted: to be handed to other nodes …"""
    generated_at: float | None = None
    """… when it was generated: it is no younger there …"""
    seen: Seen = ()
    """… and the purges that were known when it was fetched: any other that covers it kills it."""


class NodeClient:
    """One node. Used as an async context manager."""

    def __init__(self, url: str) -> None:
        """Raises ValueError."""
        self.url = base_url(url)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=ANSWER_TIMEOUT_S
        )
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), timeout=timeout, trust_env=False
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._session is not None
        await self._session.close()

    async def check(self) -> None:
        """Raises NodeError: it is not there, or is no node that can be warmed."""
        await self._call("GET", "/admin/status", None)

    async def warm(self, order: Mapping[str, Any]) -> Told:
        """Raises NodeError, or Busy when asking again may help."""
        told = await self._call("POST", "/admin/warm", order)
        usage = told.get("tokens") or {}
        return Told(
            told["outcome"],
            told.get("reason") or "",
            bool(told.get("asked")),
            Tokens(int(usage.get("prompt", 0)), int(usage.get("answer", 0))),
            told.get("body"),
            told.get("generated_at"),
            _seen(told),
        )

    async def seen(self) -> Seen:
        """The purges that the node knows. Raises NodeError, or Busy."""
        return _seen(await self._call("GET", "/admin/warm", None))

    async def _call(self, method: str, path: str, document: Any) -> dict[str, Any]:
        assert self._session is not None
        try:
            async with self._session.request(
                method, f"{self.url}{path}", json=document, allow_redirects=False
            ) as response:
                told = await response.json(content_type=None)
                if response.status != 200:
                    raise _error(response, told, self.url)
        except TimeoutError as exc:
            raise Busy(f"{self.url} did not answer in time", "timeout") from exc
        except (aiohttp.ClientError, OSError) as exc:
            raise Busy(f"{self.url} cannot be reached: {exc}", "unreachable") from exc
        except ValueError as exc:
            raise NodeError(f"{self.url} does not answer as a node does", "no-node") from exc
        if not isinstance(told, dict):
            raise NodeError(f"{self.url} does not answer as a node does", "no-node")
        return told


def _seen(told: Mapping[str, Any]) -> Seen:
    return tuple((NodeName(by), Version(version)) for by, version in told.get("seen") or ())


def base_url(text: str) -> str:
    """The URL of an admin listener: `http://HOST:PORT`, or `HOST:PORT`. Raises ValueError."""
    url = text if "//" in text else f"http://{text}"
    parts = urlsplit(url)
    plain = parts.path in ("", "/") and not (parts.query or parts.fragment or parts.username)
    if parts.scheme not in ("http", "https") or not parts.hostname or not plain:
        raise ValueError(f"{text!r} is not the URL of an admin listener: http://HOST:PORT")
    return f"{parts.scheme}://{parts.netloc}"


def _error(response: aiohttp.ClientResponse, told: Any, url: str) -> NodeError:
    error = told.get("error") if isinstance(told, dict) else None
    message = error.get("message") if isinstance(error, dict) else None
    said = str(message or f"status {response.status} from {url}").rstrip(".")
    code = error.get("code") if isinstance(error, dict) else None
    kind = str(code or response.status)
    if response.status == 404 and code in (None, "not_found"):
        return NodeError(f"{url} is not an admin listener, or of an older version", "no-node")
    if response.status in (408, 429) or response.status >= 500:
        return Busy(said, kind, _retry_after_s(response.headers.get("retry-after")))
    return NodeError(said, kind)


def _retry_after_s(value: str | None) -> float | None:
    return float(value) if value and value.isascii() and value.isdecimal() else None
