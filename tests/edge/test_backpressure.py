"""Row 58 through every door: a client that stops reading stops its upstream, by way of the node.

What counts is how many bytes the upstream could get rid of before its own write blocked: the rest
of the 50 MB is still the upstream's, not the node's memory.
"""

import asyncio
import json
import resource
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from edge.node import Node
from tests.fakes.doors import CHAT, JSON, chat
from tests.fakes.h3_client import client_configuration, h3_connect
from tests.fakes.node import running_node
from tests.fakes.upstream import Exchange, ScriptedUpstream, chunk, sse

EVENT = sse(chunk({"content": "x" * 100_000}))
EVENTS = 500
HELD_BYTES_MAX = 8_000_000
"""Of 50 MB. The kernel's buffers on loopback take most of it; the node itself well below 1 MB."""
CALM_S = 0.3


@dataclass
class Flood:
    """An upstream that writes as fast as it is read, and counts."""

    sent: int = 0
    progress: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, exchange: Exchange) -> Any:
        response = await exchange.open_stream()
        assert exchange.request.transport is not None
        sock = exchange.request.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
        for _ in range(EVENTS):
            await response.write(EVENT)
            self.sent += len(EVENT)
            self.progress.set()
        await response.write(sse(chunk({}, finish="stop")) + sse("[DONE]"))
        return response

    async def blocked(self) -> int:
        """What was sent when nothing more could be for a while."""
        while True:
            self.progress.clear()
            try:
                await asyncio.wait_for(self.progress.wait(), CALM_S)
            except TimeoutError:
                return self.sent


def prompt() -> bytes:
    return json.dumps(chat("flood", stream=True)).encode()


@asynccontextmanager
async def stalled_h1(node: Node) -> AsyncIterator[asyncio.StreamReader]:
    """A connection that has asked for the flood, has its first bytes, and reads no more."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
    sock.setblocking(False)
    place = node.addresses["plain"]
    await asyncio.get_running_loop().sock_connect(sock, (place.host, place.port))
    reader, writer = await asyncio.open_connection(sock=sock)
    fields = "".join(f"{name}: {value}\r\n" for name, value in JSON.items())
    body = prompt()
    head = f"POST {CHAT} HTTP/1.1\r\nhost: edge\r\n{fields}content-length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    await reader.readuntil(b"\r\n\r\n")
    cast(asyncio.Transport, writer.transport).pause_reading()
    try:
        yield reader
    finally:
        writer.transport.abort()


@asynccontextmanager
async def stalled_h3(node: Node) -> AsyncIterator[None]:
    """The same with a window of 100 kB that is never opened further."""
    place = node.addresses["quic"]
    stingy = client_configuration(max_stream_data=100_000, max_data=100_000)
    async with h3_connect((place.host, place.port), stingy) as client:
        stream = client.open("POST", CHAT, JSON)
        stream.send(prompt(), end=True)
        assert await stream.head() == 200
        client._quic._write_stream_limits = lambda **_: None  # type: ignore[method-assign]
        client._quic._write_connection_limits = lambda **_: None  # type: ignore[method-assign]
        yield
        stream.stop()


@pytest.fixture
async def flooded(
    upstream: ScriptedUpstream, tmp_path: Path
) -> AsyncIterator[tuple[Node, ScriptedUpstream, Flood]]:
    flood = Flood()
    upstream.script = flood
    async with running_node(tmp_path, upstream.base_url) as node:
        yield node, upstream, flood


@pytest.mark.parametrize("stalled", [stalled_h1, stalled_h3])
async def test_row_58_a_client_that_stops_reading_stops_its_upstream(
    flooded: tuple[Node, ScriptedUpstream, Flood], stalled: Any
) -> None:
    node, upstream, flood = flooded
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    async with stalled(node):
        assert await flood.blocked() < HELD_BYTES_MAX
    await asyncio.wait_for(upstream.calls[0].gone.wait(), 20)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown * 1024 < 3 * HELD_BYTES_MAX


async def test_a_client_that_reads_on_gets_it_all(
    flooded: tuple[Node, ScriptedUpstream, Flood],
) -> None:
    node, _, flood = flooded
    async with stalled_h1(node) as reader:
        await flood.blocked()
        transport = reader._transport  # type: ignore[attr-defined]
        transport.resume_reading()
        got, tail = 0, b""
        while b"data: [DONE]" not in tail:
            part = await reader.read(1024 * 1024)
            assert part
            got, tail = got + len(part), (tail + part)[-100:]
    assert got > EVENTS * 100_000


async def test_a_reader_beside_a_stalled_one_is_not_held_up(
    flooded: tuple[Node, ScriptedUpstream, Flood],
) -> None:
    """They share one call; the answer is too large to keep, so the stalled one is given up."""
    node, upstream, flood = flooded
    async with stalled_h1(node), stalled_h1(node) as reader:
        await flood.blocked()
        reader._transport.resume_reading()  # type: ignore[attr-defined]
        tail = b""
        while b"data: [DONE]" not in tail:
            part = await reader.read(1024 * 1024)
            assert part
            tail = (tail + part)[-100:]
    assert len(upstream.calls) == 1
