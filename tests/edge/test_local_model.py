"""The real model in its real process: it answers, it streams, and it never outlives the node."""

import asyncio
import json
import os
import select
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest
import uvloop

from edge.local_model import LOCAL_MODEL, LocalModel, LocalModelError, LocalModelSettings

MESSAGES = [
    {"role": "system", "content": "You are a helpful assistant."},
    {"role": "user", "content": "What is the capital of France?"},
]


async def ask(base_url: str, **fields: Any) -> bytes:
    body = {"model": LOCAL_MODEL, "messages": MESSAGES, "temperature": 0, "max_tokens": 16} | fields
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{base_url}/chat/completions", json=body) as response,
    ):
        assert response.status == 200, await response.text()
        return await response.read()


@pytest.fixture
async def model() -> AsyncIterator[LocalModel]:
    model = LocalModel()
    yield model
    await model.stop()


async def test_it_answers_whole_and_as_a_stream(model: LocalModel) -> None:
    base_url = await model.start()
    await model.ready()

    answer = json.loads(await ask(base_url))
    assert "Paris" in answer["choices"][0]["message"]["content"]
    assert answer["usage"]["completion_tokens"] > 0

    stream = await ask(base_url, stream=True, stream_options={"include_usage": True})
    events = [line[6:] for line in stream.splitlines() if line.startswith(b"data: ")]
    assert events.pop() == b"[DONE]"
    chunks = [json.loads(event) for event in events]
    assert chunks.pop()["usage"]["completion_tokens"] > 0
    deltas = [chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks]
    assert "Paris" in "".join(deltas)
    assert sum(bool(delta) for delta in deltas) > 1, "tokens are sent as they are made"


async def test_it_takes_the_requests_that_clients_of_other_models_send(model: LocalModel) -> None:
    base_url = await model.start()
    await model.ready()
    unknown = {"model": "gpt-5", "user": "u", "store": True, "metadata": {"a": "b"}, "new": 1}

    answer = json.loads(await ask(base_url, n=2, max_tokens=1, **unknown))

    assert [choice["index"] for choice in answer["choices"]] == [0, 1]
    assert answer["model"] == LOCAL_MODEL


async def test_the_same_request_gets_the_same_answer(model: LocalModel) -> None:
    """Greedy unless asked otherwise: a demonstration should not depend on chance."""
    base_url = await model.start()
    await model.ready()
    bare = {"model": LOCAL_MODEL, "messages": MESSAGES}
    async with aiohttp.ClientSession(base_url + "/") as session:
        answers = set()
        for _ in range(3):
            async with session.post("chat/completions", json=bare) as response:
                choice = json.loads(await response.read())["choices"][0]
                assert choice["finish_reason"] == "stop"
                answers.add(choice["message"]["content"])
    assert len(answers) == 1


async def test_stop_ends_it_and_can_be_repeated(model: LocalModel) -> None:
    await model.stop()
    await model.start()
    pid = model.pid
    assert pid is not None
    await model.stop()
    await model.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert await model.wait() == "ended by SIGTERM"
    assert "SIGTERM" in repr(model)


async def test_a_start_that_fails_says_why_in_the_models_words() -> None:
    model = LocalModel(LocalModelSettings(parallel=300))
    await model.start()
    try:
        with pytest.raises(LocalModelError, match=r"exited with 1 before it was ready:(.|\n)* E "):
            await model.ready()
    finally:
        await model.stop()


async def test_a_model_too_slow_to_load_is_an_error() -> None:
    model = LocalModel()
    try:
        await model.start()
        assert model.pid is not None
        os.kill(model.pid, signal.SIGSTOP)
        model._settings = LocalModelSettings(start_timeout_s=0.05)
        with pytest.raises(LocalModelError, match=r"not ready after 0\.05 s"):
            await model.ready()
        os.kill(model.pid, signal.SIGCONT)
    finally:
        await model.stop()


NODE = """
import asyncio, signal
from edge.local_model import LocalModel

async def node():
    model = LocalModel()
    base_url = await model.start()
    if {ready}:
        await model.ready()
    print(model.pid, base_url, flush=True)
    await asyncio.Event().wait()

signal.signal(signal.SIGINT, signal.SIG_IGN)
asyncio.run(node())
"""


class Model(NamedTuple):
    handle: int
    """A pidfd: unlike the process number it cannot come to mean another process."""
    base_url: str

    def wait(self) -> bool:
        """Whether it ended within twenty seconds."""
        poll = select.poll()
        poll.register(self.handle, select.POLLIN)
        return bool(poll.poll(20_000))


@asynccontextmanager
async def node_with_model(
    *, ready: bool
) -> AsyncIterator[tuple[asyncio.subprocess.Process, Model]]:
    """A process that runs the model as a node does, at the head of a process group of its own."""
    node = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        NODE.format(ready=ready),
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    assert node.stdout is not None
    pid, base_url = (await node.stdout.readline()).decode().split()
    handle = os.pidfd_open(int(pid))
    try:
        yield node, Model(handle, base_url)
    finally:
        os.close(handle)
        with suppress(ProcessLookupError):
            node.kill()
        await node.communicate()


@pytest.mark.parametrize("ready", [True, False], ids=["ready", "loading"])
async def test_it_dies_with_a_node_killed_by_sigkill(ready: bool) -> None:
    async with node_with_model(ready=ready) as (node, model):
        node.kill()
        await node.wait()
        assert await asyncio.to_thread(model.wait), "the model outlived its node"


async def test_ctrl_c_leaves_it_running_for_the_drain() -> None:
    """A terminal sends SIGINT to the whole group; what is in flight must still be answered."""
    async with node_with_model(ready=True) as (node, model):
        os.killpg(node.pid, signal.SIGINT)
        assert await ask(model.base_url, max_tokens=1)


def test_it_runs_under_uvloop() -> None:
    async def run() -> str:
        model = LocalModel()
        await model.start()
        await model.ready()
        await model.stop()
        return repr(model)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert "SIGTERM" in runner.run(run())


async def test_it_is_given_no_secret_of_the_nodes_environment(
    model: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary")
    await model.start()
    environment = await asyncio.to_thread(Path(f"/proc/{model.pid}/environ").read_bytes)
    assert b"canary" not in environment
