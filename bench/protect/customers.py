"""Those who use the node as it is meant: a steady rate of requests, four of five asked before.

    python -m bench.protect.customers SECONDS        prints what they got, as JSON

They ask whether or not the last one was answered, as customers do; an answer is good that is whole
and there within a second. HTTP/1.1 over TLS from eight addresses, HTTP/3 from two, and four times a
second somebody new comes by HTTP/3.
"""

import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import count

import aiohttp
import uvloop

from tests.fakes.h3_client import H3Client, h3_connect

NODE = ("10.98.0.1", 8443)
KEY = "the-key-of-customers"
PATH = "/v1/chat/completions"
HOMES = [f"10.98.2.{n}" for n in range(1, 9)]
H3_HOMES = [f"10.98.2.{n}" for n in range(11, 13)]
NEWCOMERS = [f"10.98.2.{n}" for n in range(21, 29)]
H1_PER_S, H3_PER_S, NEWCOMERS_PER_S = 100, 25, 4
PATIENCE_S = 1.0
KNOWN = 20
"""Prompts that are in the cache."""

HEADERS = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}


def body(number: int) -> bytes:
    """Four of five were asked before."""
    text = f"new {number} of {os.getpid()}" if number % 5 == 0 else f"known {number % KNOWN}"
    return json.dumps({"model": "bench", "messages": [{"role": "user", "content": text}]}).encode()


@dataclass
class Got:
    sent: int = 0
    good: int = 0
    h1_ms: list[float] = field(default_factory=list)
    connect_s: list[float] = field(default_factory=list)

    def summary(self) -> dict[str, float]:
        h1 = sorted(self.h1_ms) or [float("inf")]
        connect = sorted(self.connect_s) or [float("inf")]
        return {
            "sent": self.sent,
            "good": self.good,
            "p50_ms": statistics.median(h1),
            "p99_ms": h1[int(len(h1) * 0.99)],
            "connect_p50_s": statistics.median(connect),
            "connect_max_s": connect[-1],
        }


async def attempt(got: Got, ask: Callable[[], Awaitable[bool]], into: list[float]) -> None:
    """`into` is told how long it took in seconds, if it went well."""
    got.sent += 1
    began = time.perf_counter()
    try:
        async with asyncio.timeout(PATIENCE_S):
            well = await ask()
    except Exception:  # whatever it was, it was no good answer
        well = False
    if well:
        got.good += 1
        into.append(time.perf_counter() - began)


async def run(seconds: float) -> dict[str, float]:
    got, h1_s, h3_s = Got(), list[float](), list[float]()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda *_: None)  # of connections that were given up
    async with AsyncExitStack() as stack:
        sessions = [
            await stack.enter_async_context(
                aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(ssl=False, local_addr=(home, 0), limit=16)
                )
            )
            for home in HOMES
        ]
        h3 = [await stack.enter_async_context(h3_connect(NODE, None, home)) for home in H3_HOMES]

        async def by_h1(number: int) -> bool:
            session = sessions[number % len(sessions)]
            url = f"https://{NODE[0]}:{NODE[1]}{PATH}"
            async with session.post(url, data=body(number), headers=HEADERS) as answer:
                await answer.read()
                return answer.status == 200

        async def by_h3(number: int, client: H3Client) -> bool:
            lower = {name.lower(): value for name, value in HEADERS.items()}
            return (await client.request("POST", PATH, lower, body(number))).status == 200

        async def newly(number: int) -> bool:
            home = NEWCOMERS[number % len(NEWCOMERS)]
            async with h3_connect(NODE, None, home) as client:
                return await by_h3(1, client)

        for number in range(1, KNOWN + 1):  # everything known is known
            await by_h1(number if number % 5 else number + 1)
        async with asyncio.TaskGroup() as group:
            ends = time.perf_counter() + seconds
            for per_s, ask, into in (
                (H1_PER_S, by_h1, h1_s),
                (H3_PER_S, lambda n: by_h3(n, h3[n % len(h3)]), h3_s),
                (NEWCOMERS_PER_S, newly, got.connect_s),
            ):
                group.create_task(_steadily(group, per_s, ends, got, ask, into))
    got.h1_ms = [one * 1e3 for one in h1_s]
    return got.summary()


async def _steadily(
    group: asyncio.TaskGroup,
    per_s: float,
    ends: float,
    got: Got,
    ask: Callable[[int], Awaitable[bool]],
    into: list[float],
) -> None:
    began = time.perf_counter()
    for number in count():
        due = began + number / per_s
        if due > ends:
            return
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        group.create_task(attempt(got, lambda n=number: ask(n), into))


if __name__ == "__main__":
    print(json.dumps(uvloop.run(run(float(sys.argv[1])))))
