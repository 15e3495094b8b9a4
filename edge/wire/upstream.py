"""The client of the upstreams, on aiohttp. Everything foreign is translated here.

No redirect is followed and no proxy taken from the environment: aiohttp's client drops
`Authorization` on a redirect to another host, but would send it the prompt (security finding 9).
An exchange that was cancelled closes its connection, so that nobody is handed its remains.
"""

import asyncio
import io
import json
import logging
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from math import ceil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp

from edge.errors import ClientError, UpstreamError
from edge.labels import labels_of
from edge.routing.headers import Told, told
from edge.routing.settings import UpstreamSettings
from edge.routing.upstream import Upstream
from edge.status import proxy_status
from index.entry import Instant, Timestamp

log = logging.getLogger("upstream")

ERROR_BYTES_MAX = 64 * 1024
MODELS_BYTES_MAX = 1024 * 1024

_NO_LIST = frozenset({404, 405, 501})
"""What servers without `/models` say."""

_CLIENTS_FAULT = frozenset({400, 404, 405, 409, 413, 415, 422})


class Reply:
    """A begun answer. See `edge.fill.UpstreamReply`."""

    def __init__(self, response: aiohttp.ClientResponse, node: str, idle_s: float) -> None:
        self._response = response
        self._node = node
        self._idle_s = idle_s
        self.is_stream = response.content_type == "text/event-stream"
        fields = response.headers
        self.labels: Sequence[str] = labels_of(
            fields.getall("cache-groups", ()), fields.getall("surrogate-key", ())
        )

    async def chunks(self) -> AsyncIterator[bytes]:
        while chunk := await self._next():
            yield chunk

    async def _next(self) -> bytes:
        with _translated(self._node):
            async with asyncio.timeout(self._idle_s):
                return await self._response.content.readany()

    async def read(self, bytes_max: int) -> bytes:
        body = bytearray()
        async for chunk in self.chunks():
            body += chunk
            if len(body) > bytes_max:
                raise UpstreamError(f"The upstream's answer is larger than {bytes_max} bytes.")
        return bytes(body)


class UpstreamClient:
    """One pool of connections for each upstream, and the keys that open them."""

    def __init__(
        self, node: str, wall: Callable[[], Timestamp], monotonic: Callable[[], Instant]
    ) -> None:
        self._node = node
        self._wall = wall
        self._monotonic = monotonic
        self._sessions: dict[str, aiohttp.ClientSession] = {}
        self._keys: dict[str, str] = {}

    async def add(self, upstream: Upstream, key: str | None) -> None:
        settings = upstream.settings
        if (before := self._sessions.pop(upstream.name, None)) is not None:
            await before.close()
        headers = {"user-agent": "promptedge"}
        if key:
            self._keys[upstream.name] = key
            headers["authorization"] = f"Bearer {key}"
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=settings.connect_timeout_s)
        self._sessions[upstream.name] = aiohttp.ClientSession(
            base_url=settings.base_url.rstrip("/") + "/",
            connector=aiohttp.TCPConnector(limit=settings.connections_max, keepalive_timeout=60),
            timeout=timeout,
            headers=headers,
            trust_env=False,
            auto_decompress=True,
            cookie_jar=aiohttp.DummyCookieJar(),
            read_bufsize=64 * 1024,
            trace_configs=[self._connects(upstream)],
        )

    def _connects(self, upstream: Upstream) -> aiohttp.TraceConfig:
        """Tells the upstream how long its new connections take: names, TCP and TLS."""
        trace = aiohttp.TraceConfig()

        async def begins(_: Any, context: SimpleNamespace, __: Any) -> None:
            context.began = self._monotonic()

        async def ends(_: Any, context: SimpleNamespace, __: Any) -> None:
            upstream.connected(self._monotonic() - context.began)

        trace.on_connection_create_start.append(begins)
        trace.on_connection_create_end.append(ends)
        return trace

    async def close(self) -> None:
        for session in self._sessions.values():
            await session.close()
        # aiohttp closes its TLS transports a turn of the loop later.
        await asyncio.sleep(0)

    @asynccontextmanager
    async def fetch(
        self,
        upstream: Upstream,
        path: str,
        body: bytes,
        trace: Mapping[str, str],
        hear: Callable[[Told], None],
    ) -> AsyncIterator[Reply]:
        headers = {"content-type": "application/json", "accept-encoding": "identity", **trace}
        session = self._sessions[upstream.name]
        response = await self._begin(
            session.post(path[1:], data=io.BytesIO(body), headers=headers, allow_redirects=False),
            upstream,
        )
        said = told(response.headers, self._wall())
        hear(said)
        try:
            if response.status != 200:
                raise await self._refusal(response, upstream, said)
            yield Reply(response, self._node, upstream.settings.idle_timeout_s)
        finally:
            # Reuses the connection only if the answer was read to its end.
            response.release() if response.content.at_eof() else response.close()

    async def models(self, upstream: Upstream) -> list[dict[str, Any]]:
        """What the upstream says it serves; nothing if it has no such list.

        Raises:
            UpstreamError: it cannot be asked.
        """
        session = self._sessions[upstream.name]
        timeout = aiohttp.ClientTimeout(total=upstream.settings.connect_timeout_s)
        response = await self._begin(
            session.get("models", allow_redirects=False, timeout=timeout), upstream
        )
        async with response:
            if response.status in _NO_LIST:
                return []
            if response.status != 200:
                raise UpstreamError(f"The upstream lists no models: status {response.status}.")
            reply = Reply(response, self._node, upstream.settings.connect_timeout_s)
            document = _json(await reply.read(MODELS_BYTES_MAX))
        models = document.get("data")
        if not isinstance(models, list):
            raise UpstreamError("The upstream's list of models cannot be read.")
        return [model for model in models if isinstance(model, dict) and "id" in model]

    async def _begin(self, request: Any, upstream: Upstream) -> aiohttp.ClientResponse:
        with _translated(self._node):
            async with asyncio.timeout(upstream.settings.first_byte_timeout_s):
                response: aiohttp.ClientResponse = await request
        return response

    async def _refusal(
        self, response: aiohttp.ClientResponse, upstream: Upstream, said: Told
    ) -> UpstreamError | ClientError:
        status = response.status
        if 300 <= status < 400:
            log.warning("event=redirect_refused upstream=%s status=%d", upstream.name, status)
            return UpstreamError("The upstream answered with a redirect, which is not followed.")
        if status in (401, 403):
            log.error("event=upstream_key_refused upstream=%s status=%d", upstream.name, status)
            return UpstreamError("The upstream refused this node's credentials.")
        body = await self._short_body(response, upstream)
        if key := self._keys.get(upstream.name):
            body = body.replace(key.encode(), b"***")  # some say which key they did not like
        error = _error_of(body)
        message = str(error.get("message") or f"The upstream answered with status {status}.")
        if status in _CLIENTS_FAULT:
            param = _text(error.get("param"))
            code = _token(error.get("code"))
            fault = ClientError(message, status=status, code=code, param=param)
            fault.by_upstream = True
            return fault
        wait_s = said.retry_after_s
        refusal = UpstreamError(
            message,
            status={429: 429, 503: 503, 529: 503, 504: 504, 408: 504}.get(status, 502),
            code="rate_limit_exceeded" if status == 429 else None,
            retry_after_s=None if wait_s is None else ceil(wait_s),
            fields=(proxy_status(self._node, f"http_request_error; received-status={status}"),),
        )
        refusal.wait_s = wait_s
        return refusal

    async def _short_body(self, response: aiohttp.ClientResponse, upstream: Upstream) -> bytes:
        try:
            reply = Reply(response, self._node, upstream.settings.connect_timeout_s)
            return await reply.read(ERROR_BYTES_MAX)
        except UpstreamError:
            return b""


def key_of(settings: UpstreamSettings, environ: Mapping[str, str]) -> str | None:
    """The key for an upstream, from its file or the environment.

    Raises:
        ValueError: it is configured and is not there.
    """
    if settings.api_key_file:
        try:
            return _key(f"api_key_file {settings.api_key_file}", Path(settings.api_key_file))
        except (OSError, UnicodeDecodeError) as exc:
            raise ValueError(
                f"api_key_file {settings.api_key_file}: cannot be read: {exc}"
            ) from exc
    if settings.api_key_env:
        if not settings.api_key_env.isidentifier():  # likely the key itself: not shown
            raise ValueError("api_key_env: must be the name of a variable")
        if not environ.get(settings.api_key_env):
            raise ValueError(f"api_key_env: the variable {settings.api_key_env} is not set")
        return _key(f"api_key_env {settings.api_key_env}", environ[settings.api_key_env])
    return None


def _key(place: str, source: Path | str) -> str:
    """It will be a field value: nothing that ends a line may be in it."""
    key = (source if isinstance(source, str) else source.read_text("ascii")).strip()
    if not re.fullmatch(r"[!-~]+", key):
        raise ValueError(f"{place}: a key is printable ASCII characters without spaces")
    return key


class _translated:  # noqa: N801  reads as the statement it is
    """aiohttp's errors as ours, with RFC 9209's names for what went wrong."""

    def __init__(self, node: str) -> None:
        self._node = node

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, exc: BaseException | None, _trace: object) -> None:
        match exc:
            case aiohttp.ConnectionTimeoutError():
                raise self._lost("cannot be reached in time", 504, "connection_timeout") from exc
            case TimeoutError():
                raise self._error("did not answer in time", 504, "http_response_timeout") from exc
            case aiohttp.ClientConnectorError():
                raise self._lost("cannot be reached", 502, "connection_refused") from exc
            case aiohttp.ClientPayloadError():
                raise self._lost("broke off its answer", 502, "http_response_incomplete") from exc
            case aiohttp.ClientError() | OSError():
                raise self._lost("broke the connection", 502, "connection_terminated") from exc
            case _:
                pass

    def _lost(self, what: str, status: int, name: str) -> UpstreamError:
        error = self._error(what, status, name)
        error.connection_lost = True
        return error

    def _error(self, what: str, status: int, name: str) -> UpstreamError:
        return UpstreamError(
            f"The upstream {what}.", status=status, fields=(proxy_status(self._node, name),)
        )


def _json(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _error_of(body: bytes) -> dict[str, Any]:
    """The error object of an upstream's body, whatever shape it has."""
    error = _json(body).get("error")
    if isinstance(error, dict):
        return error
    return {"message": error} if isinstance(error, str) else {}


def _token(value: Any) -> str | None:
    """An error's code if it looks like one: it is logged."""
    code = "" if value is None else str(value)
    return code if re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", code) else None


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
