"""What a node remembers when it is killed, and how it leaves when it is asked to."""

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.e2e.conftest import NodeProcess
from tests.fakes.doors import JSON, cache_status, chat
from tests.fakes.eventually import until
from tests.fakes.h3_client import h3_connect
from tests.fakes.upstream import Exchange, ScriptedUpstream, chunks, scripted_upstream

PARAPHRASED = ("How do I center a div in CSS?", "CSS: how to center a div?")


@pytest.fixture
async def upstream() -> Any:
    async with scripted_upstream() as one:
        yield one


async def ask(node: NodeProcess, prompt: Any, session: aiohttp.ClientSession) -> tuple[Any, bytes]:
    body = json.dumps(prompt).encode()
    async with session.post(f"{node.base_url}/chat/completions", data=body, headers=JSON) as got:
        return cache_status(got.headers) if "cache-status" in got.headers else {}, await got.read()


async def test_kill_9_loses_nothing_that_was_said_to_be_on_disk(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    """Every answer is a hit afterwards, whole. How soon it is there, `test_kill9` shows."""
    node = NodeProcess(tmp_path, "--upstream", upstream.base_url)
    try:
        await asyncio.to_thread(node.until_complete)
        received: list[tuple[str, bytes]] = []
        async with aiohttp.ClientSession() as session:
            _, first = await ask(node, chat(PARAPHRASED[0]), session)
            for number in range(60):
                text = f"prompt {number}"
                _, body = await ask(node, chat(text, stream=bool(number % 2)), session)
                received.append((text, body))

        def written() -> bool:
            entries: int = node.get("/admin/status")[1]["cache"]["store"]["entries"]
            return entries == 1 + len(received)

        await until(written)
        await asyncio.to_thread(node.kill)

        node = NodeProcess(tmp_path, "--upstream", upstream.base_url)
        await asyncio.to_thread(node.until_complete)
        calls = len(upstream.calls)
        async with aiohttp.ClientSession() as session:
            for number, (text, body) in enumerate(received):
                status, again = await ask(node, chat(text), session)
                assert status["hit"] is True
                if not number % 2:
                    assert again == body
            status, again = await ask(node, chat(PARAPHRASED[1]), session)
        assert (status["hit"], status["detail"], again) == (True, "semantic", first)
        assert len(upstream.calls) == calls
    finally:
        assert await asyncio.to_thread(node.terminate) == 0


async def test_sigterm_finishes_what_is_in_flight(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    """Row 73: readyz says no, streams finish over both versions, the process exits 0."""
    go_on = asyncio.Event()

    async def halves(exchange: Exchange) -> Any:
        response = await exchange.open_stream()
        events = chunks("one two")
        for at, event in enumerate(events):
            if at == 2:  # who speaks, and a word
                await go_on.wait()
            await response.write(f"data: {event}\n\n".encode())
        return response

    upstream.script = halves
    node = NodeProcess(tmp_path, "--upstream", upstream.base_url)
    await asyncio.to_thread(node.until_serving)
    body = json.dumps(chat("over h1", stream=True)).encode()
    host, _, port = node.listen.rpartition(":")
    async with aiohttp.ClientSession() as session, h3_connect((host, int(port))) as quic:
        h1 = await session.post(f"{node.base_url}/chat/completions", data=body, headers=JSON)
        h3 = quic.open("POST", "/v1/chat/completions", JSON)
        h3.send(json.dumps(chat("over h3", stream=True)).encode(), end=True)
        assert (h1.status, await h3.head()) == (200, 200)
        await upstream.called(2)

        ended = threading.Thread(target=node.terminate)
        ended.start()
        await asyncio.to_thread(node.until, lambda facts: facts["state"] == "draining")
        assert node.get("/livez")[0] == 200
        assert node.get("/readyz")[0] == 503
        go_on.set()
        assert (await h1.read()).endswith(b"data: [DONE]\n\n")
        assert (await h3.response()).body.endswith(b"data: [DONE]\n\n")
    await asyncio.to_thread(ended.join)
    assert node.process.returncode == 0
    assert "event=drained" in node.log.read_text()
