"""A scripted upstream on loopback: speaks the OpenAI API, misbehaves on command, counts its calls.

By default it answers `answer N to: <last user text>`, N counting the calls, as JSON or as a stream.
A test that needs something else sets `script` to a coroutine function that does it.
"""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Script = Callable[["Exchange"], Awaitable[web.StreamResponse]]


@dataclass
class Exchange:
    """One call as the upstream sees it."""

    number: int
    request: web.Request
    body: dict[str, Any]
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the client of this call left before its answer was over."""

    @property
    def text(self) -> str:
        content = self.body["messages"][-1]["content"]
        return content if isinstance(content, str) else json.dumps(content)

    async def json(self, document: Any, status: int = 200, **headers: str) -> web.StreamResponse:
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.json_response(document, status=status, headers=fields)

    async def open_stream(self) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(self.request)
        return response

    async def stream(self, events: Sequence[str]) -> web.StreamResponse:
        """Send `events` and end the answer properly."""
        response = await self.open_stream()
        for event in events:
            await response.write(sse(event))
        return response

    async def cut(self, events: Sequence[str]) -> web.StreamResponse:
        """Send `events`, then break the connection."""
        response = await self.open_stream()
        for event in events:
            await response.write(sse(event))
        assert self.request.transport is not None
        self.request.transport.abort()
        return response


def sse(data: str) -> bytes:
    return f"data: {data}\n\n".encode()


def completion(text: str, number: int = 1, **over: Any) -> dict[str, Any]:
    """A whole `chat.completion`; `over` replaces top-level fields."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text, "refusal": None},
        "logprobs": None,
        "finish_reason": "stop",
    }
    usage = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
    return {
        "id": f"chatcmpl-{number}",
        "object": "chat.completion",
        "created": 1_700_000_000 + number,
        "model": "test-model-0001",
        "choices": [choice],
        "usage": usage,
        "system_fingerprint": "fp_test",
        **over,
    }


def chunk(delta: dict[str, Any], number: int = 1, finish: str | None = None, **over: Any) -> str:
    document = {
        "id": f"chatcmpl-{number}",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000 + number,
        "model": "test-model-0001",
        "system_fingerprint": "fp_test",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
        **over,
    }
    return json.dumps(document)


def chunks(text: str, number: int = 1, usage: bool = True) -> list[str]:
    """The events of a whole stream, its usage event and `[DONE]` at the end."""
    spent = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
    words = text.split(" ")
    pieces = [f"{word} " for word in words[:-1]] + [words[-1]]
    events = [chunk({"role": "assistant", "content": ""}, number)]
    events += [chunk({"content": piece}, number) for piece in pieces]
    events.append(chunk({}, number, "stop"))
    if usage:
        events.append(chunk({}, number, choices=[], usage=spent))
    return [*events, "[DONE]"]


class ScriptedUpstream:
    def __init__(self) -> None:
        self.calls: list[Exchange] = []
        self._news = asyncio.Condition()
        self.script: Script = self.answer
        self.models = ["test-model"]
        self.base_url = ""

    async def called(self, times: int) -> None:
        """Until there have been so many calls."""
        async with asyncio.timeout(20), self._news:
            await self._news.wait_for(lambda: len(self.calls) >= times)

    async def answer(self, exchange: Exchange) -> web.StreamResponse:
        text = f"answer {exchange.number} to: {exchange.text}"
        if exchange.body.get("stream"):
            usage = bool((exchange.body.get("stream_options") or {}).get("include_usage"))
            return await exchange.stream(chunks(text, exchange.number, usage))
        return await exchange.json(completion(text, exchange.number))

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        exchange = Exchange(len(self.calls) + 1, request, await request.json())
        async with self._news:
            self.calls.append(exchange)
            self._news.notify_all()
        try:
            return await self.script(exchange)
        except (asyncio.CancelledError, ConnectionError):
            exchange.gone.set()
            raise

    async def _models(self, _request: web.Request) -> web.Response:
        data = [{"id": name, "object": "model", "owned_by": "test"} for name in self.models]
        return web.json_response({"object": "list", "data": data})


@asynccontextmanager
async def scripted_upstream(sock: socket.socket | None = None) -> AsyncIterator[ScriptedUpstream]:
    """Listening on `sock`, or on loopback."""
    upstream = ScriptedUpstream()
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_post("/v1/chat/completions", upstream._complete)
    app.router.add_get("/v1/models", upstream._models)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.SockSite(runner, sock) if sock else web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    upstream.base_url = f"http://{host}:{port}/v1"
    try:
        yield upstream
    finally:
        await runner.cleanup()
