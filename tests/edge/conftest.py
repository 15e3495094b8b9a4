"""A node with a scripted upstream behind it, and every door into it."""

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from edge.node import Node
from tests.fakes.doors import Door, doors
from tests.fakes.node import running_node, url
from tests.fakes.upstream import ScriptedUpstream, scripted_upstream


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the model that ships is exported to, once for all nodes that answer by meaning."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    async with scripted_upstream() as one:
        yield one


@pytest.fixture
async def node(upstream: ScriptedUpstream, tmp_path: Path) -> AsyncIterator[Node]:
    cors = {"allow_origins": ["https://chat.example"]}
    async with running_node(tmp_path, upstream.base_url, cors=cors) as one:
        yield one


@pytest.fixture
async def admin(node: Node) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(url(node, "admin")) as session:
        yield session


@pytest.fixture
async def plain(node: Node) -> AsyncIterator[Door]:
    async with doors(node) as every:
        yield every[0]


@pytest.fixture(params=["h1", "h1-tls", "h3"])
async def door(request: pytest.FixtureRequest, node: Node) -> AsyncIterator[Door]:
    async with doors(node) as every:
        (chosen,) = (one for one in every if one.name == request.param)
        yield chosen
