"""Open-loop load: every request goes out when its time has come, whatever became of the others.

What a client saw is counted from the moment at which it meant to ask, also if the generator was
late: a pause of anybody's is part of every latency that it touched (no coordinated omission). A
client waits `patience_s` for its whole answer, then leaves. Nobody asks again.
"""

import asyncio
import gc
import json
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp

from bench.surge.crowd import Asking, Tenant

PATIENCE_S = 10.0
LEFT, BROKEN = -1, 0
"""Beside HTTP's: the client left; the connection was not made, or was lost."""


@dataclass(slots=True)
class Outcome:
    asking: Asking
    lag_s: float = 0.0
    """How late the generator was."""
    status: int = BROKEN
    first_s: float | None = None
    """From when it was to be asked to its first token."""
    ended_s: float = 0.0
    """To the end, whatever that was."""
    retry_after: str | None = None
    by: str = ""
    """The upstream that computed it."""
    call: str = ""
    """In which of its calls: `near 17`."""
    good: bool = False
    """Complete, and what was asked for."""
    wrong: bool = False
    """An answer to something else."""

    @property
    def refused(self) -> bool:
        return self.status in (429, 503)


@dataclass(frozen=True, slots=True)
class Target:
    """What is asked: a system as clients see it."""

    url: str
    key: Callable[[Tenant], str]
    """The API key of whoever asks."""
    pid: int
    """Its process."""


Meanwhile = Sequence[tuple[float, Callable[[], Coroutine[Any, Any, None]]]]
"""What else is to happen, and when."""


def run(target: Target, askings: Sequence[Asking], meanwhile: Meanwhile = ()) -> list[Outcome]:
    """What became of each, in the order of time."""
    gc.collect()
    gc.disable()  # or it would be seen in latencies as somebody else's pauses
    try:
        return asyncio.run(_run(target, askings, meanwhile))
    finally:
        gc.enable()


async def _run(target: Target, askings: Sequence[Asking], meanwhile: Meanwhile) -> list[Outcome]:
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=60)
    waits = aiohttp.ClientTimeout(total=None, sock_connect=5)
    async with (
        aiohttp.ClientSession(connector=connector, timeout=waits) as session,
        asyncio.TaskGroup() as tasks,
    ):
        began = time.perf_counter() + 0.1
        for at_s, act in meanwhile:
            tasks.create_task(_later(began + at_s, act))
        outcomes = []
        for asking in sorted(askings, key=lambda one: one.at_s):
            due = began + asking.at_s
            if (early_s := due - time.perf_counter()) > 0:
                await asyncio.sleep(early_s)
            outcome = Outcome(asking)
            outcomes.append(outcome)
            tasks.create_task(_ask(session, target, outcome, due))
    return outcomes


async def _later(due: float, act: Callable[[], Coroutine[Any, Any, None]]) -> None:
    await asyncio.sleep(due - time.perf_counter())
    await act()


async def _ask(
    session: aiohttp.ClientSession, target: Target, outcome: Outcome, due: float
) -> None:
    asking = outcome.asking
    message = {"role": "user", "content": asking.prompt}
    body = json.dumps({"model": "bench", "stream": True, "messages": [message]}).encode()
    fields = {
        "content-type": "application/json",
        "authorization": f"Bearer {target.key(asking.tenant)}",
    }
    outcome.lag_s = time.perf_counter() - due
    received = bytearray()
    try:
        async with (
            asyncio.timeout(due + PATIENCE_S - time.perf_counter()),
            session.post(target.url, data=body, headers=fields) as response,
        ):
            outcome.retry_after = response.headers.get("retry-after")
            async for chunk in response.content.iter_any():
                if outcome.first_s is None and response.status == 200 and b"data:" in chunk:
                    outcome.first_s = time.perf_counter() - due
                received += chunk
            outcome.status = response.status
    except TimeoutError:
        outcome.status = LEFT
    except (aiohttp.ClientError, OSError):
        outcome.status = BROKEN
    outcome.ended_s = time.perf_counter() - due
    if outcome.status == 200:
        _judge(outcome, bytes(received))


def _judge(outcome: Outcome, received: bytes) -> None:
    """`near 17: <prompt>`, to the end?"""
    *events, done = [
        event.removeprefix(b"data:").strip()
        for event in received.split(b"\n\n")
        if event.startswith(b"data:")
    ] or [b""]
    if done != b"[DONE]":
        outcome.status = BROKEN
        return
    deltas = [
        choice["delta"] for event in events for choice in json.loads(event).get("choices", ())
    ]
    text = "".join(delta.get("content") or "" for delta in deltas)
    outcome.call, colon, prompt = text.partition(": ")
    outcome.by = outcome.call.partition(" ")[0]
    outcome.good = prompt == outcome.asking.prompt
    outcome.wrong = bool(colon) and not outcome.good
    if not colon:
        outcome.status = BROKEN  # an error within the stream
