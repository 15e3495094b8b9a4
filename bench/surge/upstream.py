"""A model server that gets busy as real ones do, on loopback.

    python -m bench.surge.upstream PORT [--name NAME] [--slots N] [--most N] [--ttft S] [--answer S]

It computes `slots` answers at a time at full speed. With more, all of them slow down, and by more
than in proportion: a server that batches runs out of memory for its caches and computes things
twice, so that with four times as many it does half of the work that it could. Past `most` it says
429 with `Retry-After`. Who leaves is not computed to the end.

Answers name the server, the call and the prompt, `near 17: <prompt>`, so that a client can tell who
computed it, what came from a cache, and whether it is the answer to what it asked.
"""

import argparse
import asyncio
import json
import resource
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import uvloop
from aiohttp import web

THRASHING = 1.5
"""Answers take `(running / slots) ** THRASHING` times as long when there are too many."""
STEP_S = 0.05
"""How often a wait looks at how busy the server is."""
RETRY_AFTER_S = 1


@dataclass
class Model:
    name: str
    slots: int
    most: int
    ttft_s: float
    tokens: int
    answer_s: float
    running: int = 0
    slower: float = 1.0
    """An outage in the making: everything takes so many times as long."""
    calls: int = 0
    """Begun and not refused."""
    refused: int = 0
    finished: int = 0
    prompts: dict[str, int] = field(default_factory=dict)
    """How often each was computed, also in part."""

    async def complete(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        if self.running >= self.most:
            self.refused += 1
            return _busy()
        self.calls += 1
        number, prompt = self.calls, asked["messages"][-1]["content"]
        self.prompts[prompt] = self.prompts.get(prompt, 0) + 1
        self.running += 1
        try:
            response = await self._answer(request, asked, number, f"{self.name} {number}: {prompt}")
            self.finished += 1
            return response
        finally:
            self.running -= 1

    async def _answer(
        self, request: web.Request, asked: dict[str, Any], number: int, text: str
    ) -> web.StreamResponse:
        await self._work(self.ttft_s)
        if not asked.get("stream"):
            await self._work(self.answer_s)
            return web.json_response(_whole(text, number, self.tokens))
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await _send(response, _chunk(number, {"role": "assistant", "content": ""}))
        for piece in _pieces(text, self.tokens):
            await _send(response, _chunk(number, {"content": piece}))
            await self._work(self.answer_s / self.tokens)
        await _send(response, _chunk(number, {}, finish="stop"))
        if (asked.get("stream_options") or {}).get("include_usage"):
            await _send(response, _usage(number, self.tokens))
        await response.write(b"data: [DONE]\n\n")
        return response

    async def _work(self, alone_s: float) -> None:
        """What takes `alone_s` on an idle server takes longer the more there is to do."""
        while alone_s > 0:
            step_s = min(alone_s, STEP_S)
            await asyncio.sleep(step_s * self.slower * self._stretch())
            alone_s -= step_s

    def _stretch(self) -> float:
        return max(1.0, self.running / self.slots) ** THRASHING

    async def stats(self, _: web.Request) -> web.Response:
        return web.json_response(
            {
                "calls": self.calls,
                "refused": self.refused,
                "finished": self.finished,
                "running": self.running,
                "prompts": self.prompts,
            }
        )

    async def control(self, request: web.Request) -> web.Response:
        self.slower = float((await request.json())["slower"])
        return web.json_response({})

    async def models(self, _: web.Request) -> web.Response:
        data = [{"id": "bench", "object": "model", "owned_by": "bench"}]
        return web.json_response({"object": "list", "data": data})


def _busy() -> web.Response:
    error = {"message": "The server is busy.", "type": "rate_limit_error", "code": "busy"}
    fields = {"retry-after": str(RETRY_AFTER_S)}
    return web.json_response({"error": error}, status=429, headers=fields)


def _pieces(text: str, count: int) -> list[str]:
    """The text in so many parts, of about one length."""
    edges = [round(at * len(text) / count) for at in range(count + 1)]
    return [text[begins:ends] for begins, ends in pairwise(edges)]


def _document(number: int, kind: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{number}", "object": kind, "created": 1_700_000_000, "model": "bench"}


def _counted(tokens: int) -> dict[str, int]:
    return {"prompt_tokens": 12, "completion_tokens": tokens, "total_tokens": 12 + tokens}


def _whole(text: str, number: int, tokens: int) -> dict[str, Any]:
    message = {"role": "assistant", "content": text, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    document = _document(number, "chat.completion")
    return {**document, "choices": [choice], "usage": _counted(tokens)}


def _chunk(number: int, delta: dict[str, str], finish: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return {**_document(number, "chat.completion.chunk"), "choices": [choice]}


def _usage(number: int, tokens: int) -> dict[str, Any]:
    document = _document(number, "chat.completion.chunk")
    return {**document, "choices": [], "usage": _counted(tokens)}


async def _send(response: web.StreamResponse, document: dict[str, Any]) -> None:
    await response.write(b"data: " + json.dumps(document).encode() + b"\n\n")


async def serve(model: Model, port: int) -> None:
    app = web.Application(client_max_size=1 << 20)
    app.router.add_post("/v1/chat/completions", model.complete)
    app.router.add_get("/v1/models", model.models)
    app.router.add_get("/stats", model.stats)
    app.router.add_post("/control", model.control)
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=4096).start()
    await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.surge.upstream", description=__doc__)
    add = parser.add_argument
    add("port", type=int)
    add("--name", default="model", help="what its answers call it (model)")
    add("--slots", type=int, default=5, help="answers at a time at full speed (5)")
    add("--most", type=int, default=20, help="answers at a time at all (20)")
    add("--ttft", type=float, default=0.25, help="seconds to the first token, alone (0.25)")
    add("--tokens", type=int, default=12, help="of an answer (12)")
    add("--answer", type=float, default=0.75, help="seconds from there to the last, alone (0.75)")
    told = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    model = Model(told.name, told.slots, told.most, told.ttft, told.tokens, told.answer)
    uvloop.run(serve(model, told.port))


if __name__ == "__main__":
    main()
