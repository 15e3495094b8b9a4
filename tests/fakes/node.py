"""A real node, in this process, on ports that the kernel chose."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from edge.config import load
from edge.node import Node


@asynccontextmanager
async def running_node(
    data: Path, *upstream_urls: str, environ: dict[str, str] | None = None, **settings: Any
) -> AsyncIterator[Node]:
    """A node with its data in `data`; `settings` are tables of the configuration.

    Meaning is off unless asked for: loading the encoder takes a second that most tests do not need.
    """
    flags: dict[str, Any] = {
        "upstreams": [{"base_url": url} for url in upstream_urls],
        **settings,
        "node": {
            "listen": "127.0.0.1:0",
            "plain": "127.0.0.1:0",
            "admin": "127.0.0.1:0",
            "data": str(data),
            **settings.get("node", {}),
        },
        "cache": {"mode": "exact", **settings.get("cache", {})},
    }
    node = Node(load(None, environ or {}, flags), environ or {})
    running = asyncio.get_running_loop().create_task(node.run())
    started = asyncio.get_running_loop().create_task(node.started.wait())
    await asyncio.wait((running, started), return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        started.cancel()
        await running  # says why it did not start
    try:
        yield node
    finally:
        node.shut_down()
        node.shut_down()
        await running


def url(node: Node, listener: str = "plain") -> str:
    scheme = "http" if listener in ("plain", "admin") else "https"
    return f"{scheme}://{node.addresses[listener]}"
