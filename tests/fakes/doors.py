"""The doors of a node: the same requests through every HTTP version, and what comes out of each.

A scenario that takes a `Door` must not be able to tell which one it got.
"""

import asyncio
import io
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import aiohttp
import http_sf
from yarl import URL

from edge.node import Node
from tests.fakes.h3_client import H3Client, H3Reset, H3Stream, h3_connect
from tests.fakes.node import url

CHAT = "/v1/chat/completions"
SHORT = "detail=exact-only:too-short"
"""What a miss says of a prompt of one word."""
JSON = {"content-type": "application/json"}


class CutError(Exception):
    """The answer ended, and not as an answer ends."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        """The model's words."""
        content: str = self.json["choices"][0]["message"]["content"]
        return content

    @property
    def error(self) -> dict[str, Any]:
        error: dict[str, Any] = self.json["error"]
        return error

    @property
    def events(self) -> list[str]:
        """The data of each event of the stream in the body; comments left out."""
        return events(self.body)

    @property
    def cache(self) -> dict[str, Any]:
        """`Cache-Status` of this node: its parameters by name, flags as True."""
        return cache_status(self.headers)


def events(body: bytes) -> list[str]:
    parts = body.decode().split("\n\n")
    return [part.removeprefix("data: ") for part in parts if part.startswith("data: ")]


def cache_status(headers: Mapping[str, str]) -> dict[str, Any]:
    members: Any = http_sf.parse(headers["cache-status"].encode(), tltype="list")
    ((_node, parameters),) = members
    return {
        name: value if isinstance(value, bool | int) else str(value)
        for name, value in parameters.items()
    }


class Live(Protocol):
    """An answer that is still coming."""

    status: int
    headers: dict[str, str]

    async def some(self) -> bytes:
        """What has come next; b"" at the end. Raises CutError."""


class Door(Protocol):
    name: str

    async def request(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> Answer: ...

    def live(self, body: bytes, headers: Mapping[str, str] | None = None) -> Any:
        """A context with a `Live` answer to a prompt; leaving it early is the client leaving."""


async def ask(door: Door, prompt: Any, /, **fields: str) -> Answer:
    """POST `prompt`, a text or a whole request, with header fields (`cache_control="no-cache"`)."""
    headers = {**JSON, **{name.replace("_", "-"): value for name, value in fields.items()}}
    return await door.request("POST", CHAT, headers, request_body(prompt))


def request_body(prompt: Any) -> bytes:
    return json.dumps(prompt if isinstance(prompt, dict) else chat(prompt)).encode()


def chat(text: str, **over: Any) -> dict[str, Any]:
    return {"model": "test-model", "messages": [{"role": "user", "content": text}], **over}


async def read_all(live: Live) -> bytes:
    parts = []
    while part := await live.some():
        parts.append(part)
    return b"".join(parts)


async def read_torn(live: Live) -> bytes:
    """What came before the answer broke off; it is an error if it did not."""
    got = b""
    try:
        while part := await live.some():
            got += part
    except CutError:
        return got
    raise AssertionError(f"the answer ended as if it were whole: {got!r}")


async def read_until(live: Live, word: bytes) -> bytes:
    got = b""
    while word not in got:
        part = await live.some()
        assert part, f"the answer ended before {word!r}: {got!r}"
        got += part
    return got


class Http1Door:
    def __init__(self, session: aiohttp.ClientSession, base: str, name: str) -> None:
        self.name = name
        self._session = session
        self._base = base

    async def request(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> Answer:
        data = io.BytesIO(body) if body else None
        async with self._session.request(
            method, self._url(path), headers=headers, data=data, allow_redirects=False
        ) as response:
            return Answer(response.status, _lower(response.headers), await response.read())

    @asynccontextmanager
    async def live(
        self, body: bytes, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[Live]:
        response = await self._session.post(
            self._url(CHAT), data=body, headers={**JSON, **(headers or {})}
        )
        try:
            yield _Http1Live(response)
        finally:
            response.close()

    def _url(self, path: str) -> URL:
        return URL(self._base + path, encoded=True)


class _Http1Live:
    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.status = response.status
        self.headers = _lower(response.headers)
        self._response = response

    async def some(self) -> bytes:
        try:
            return await self._response.content.readany()
        except aiohttp.ClientPayloadError as exc:
            raise CutError(str(exc)) from exc


class Http3Door:
    name = "h3"

    def __init__(self, client: H3Client) -> None:
        self._client = client

    async def request(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> Answer:
        response = await self._client.request(method, path, headers, body)
        return Answer(response.status, response.headers, response.body)

    @asynccontextmanager
    async def live(
        self, body: bytes, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[Live]:
        stream = self._client.open("POST", CHAT, {**JSON, **(headers or {})})
        stream.send(body, end=True)
        try:
            status = await stream.head()
            yield _Http3Live(stream, status)
        finally:
            if not stream.over:
                stream.stop()


class _Http3Live:
    def __init__(self, stream: H3Stream, status: int) -> None:
        self.status = status
        self.headers = stream.headers
        self._parts = aiter(stream)

    async def some(self) -> bytes:
        try:
            return await anext(self._parts, b"")
        except H3Reset as exc:
            raise CutError(str(exc)) from exc


@asynccontextmanager
async def doors(node: Node) -> AsyncIterator[list[Door]]:
    """Every way into `node`: HTTP/1.1 in clear text, over TLS, and HTTP/3."""
    async with AsyncExitStack() as stack:
        connector = aiohttp.TCPConnector(ssl=False, limit=0)
        session = await stack.enter_async_context(
            aiohttp.ClientSession(
                connector=connector, auto_decompress=False, read_bufsize=1024 * 1024
            )
        )
        quic = node.addresses["quic"]
        client = await stack.enter_async_context(h3_connect((quic.host, quic.port)))
        yield [
            Http1Door(session, url(node, "plain"), "h1"),
            Http1Door(session, url(node, "listen"), "h1-tls"),
            Http3Door(client),
        ]
        await session.close()
        await asyncio.sleep(0)


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}
