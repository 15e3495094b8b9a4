"""Real nodes at the sites of a WAN: `promptedge serve`, each with an upstream beside it."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.fakes.doors import JSON, chat
from tests.fakes.eventually import until_told
from tests.fakes.upstream import ScriptedUpstream, scripted_upstream
from tests.fleet.wan import ROOT, Site, Wan

PROMPTEDGE = (sys.executable, "-m", "edge")


class FleetNode:
    """A node at a site, its upstream, and whoever asks it from there."""

    def __init__(
        self, site: Site, data: Path, upstream: ScriptedUpstream, urls: Sequence[str] = ()
    ) -> None:
        """`urls` are of NATS servers, where these carry what nodes say."""
        self.site = site
        self.data = data
        self.upstream = upstream
        self.urls = urls
        self.log = data / "log"
        self.process: subprocess.Popen[bytes] | None = None
        self._config = data / "node.toml"
        self._config.write_text(
            f"""
            [node]
            name = "{site.name}"
            data = "{data / "var"}"
            listen = ""
            plain = "{site.address}:8080"
            admin = "{site.address}:9090"
            [cache]
            mode = "exact"
            [sync]
            listen = "{site.address}:8444"
            [sync.nats]
            urls = {json.dumps(list(urls))}
            [[upstreams]]
            base_url = "{upstream.base_url}"
            """
        )
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(socket_factory=lambda _: site.plug(), force_close=True),
            timeout=aiohttp.ClientTimeout(total=30),
        )

    async def close(self) -> None:
        await self._session.close()
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            await asyncio.to_thread(self.process.wait, 30)

    # Its life.

    async def join(self, token: str, region: str) -> None:
        await self._run("join", token, "--config", str(self._config), "--region", region)

    async def start(self) -> None:
        """Until it is ready."""
        with self.log.open("ab") as log:
            self.process = self.site.run(
                *PROMPTEDGE,
                "serve",
                "--config",
                str(self._config),
                cwd=ROOT,
                stdout=log,
                stderr=log,
            )
        while not await self.is_ready():
            assert self.process.poll() is None, self.log.read_text()
            await asyncio.sleep(0.02)

    async def kill(self) -> None:
        """As when the power fails."""
        assert self.process is not None
        self.process.kill()
        await asyncio.to_thread(self.process.wait)

    async def command(self, name: str, *options: str) -> str:
        """A command that asks the running node; what it prints."""
        return await self._run(name, *options, "--admin", f"{self.site.address}:9090")

    async def _run(self, *command: str) -> str:
        done = self.site.run(
            *PROMPTEDGE, *command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        said, _ = await asyncio.to_thread(done.communicate)
        assert done.returncode == 0, said.decode()
        return said.decode()

    async def is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        try:
            async with self._session.get(self._url("admin", "/readyz")) as response:
                return response.status == 200
        except (aiohttp.ClientError, OSError):
            return False

    # What it is asked.

    async def ask(self, text: str, **fields: str) -> tuple[int, str, str]:
        """Status, `Cache-Status`, and what the answer says."""
        async with self._session.post(
            self._url("plain", "/v1/chat/completions"),
            data=json.dumps(chat(text)).encode(),
            headers={**JSON, **{name.replace("_", "-"): value for name, value in fields.items()}},
        ) as response:
            document = await response.json()
            said = document["choices"][0]["message"]["content"] if response.status == 200 else ""
            return response.status, response.headers.get("cache-status", ""), said

    async def make_popular(self, text: str) -> None:
        """As often as makes it worth telling others."""
        for _ in range(3):
            status, _, _ = await self.ask(text)
            assert status == 200

    async def holds(self, text: str) -> bool:
        """Is the answer here? Nobody else is asked for it."""
        status, _, _ = await self.ask(text, cache_control="only-if-cached")
        assert status in (200, 504)
        return status == 200

    async def lacks(self, text: str) -> bool:
        return not await self.holds(text)

    async def has_written(self, count: int) -> bool:
        """Are so many answers on disk?"""
        return bool((await self.call("/admin/status"))["cache"]["store"]["entries"] >= count)

    async def heard(self) -> list[str]:
        """Other nodes that are alive, as far as this one hears."""
        nodes = (await self.call("/admin/status"))["fleet"]["nodes"]
        return [one["node"] for one in nodes if one["state"] == "alive"]

    async def links(self) -> list[str]:
        """Those that are up, such as "reader ams.3f9c2a1b"."""
        links: list[str] = (await self.call("/admin/status"))["fleet"]["links"]
        return links

    async def call(self, path: str, document: Mapping[str, Any] | None = None) -> Any:
        """The operator's listener."""
        method = "GET" if document is None else "POST"
        url = self._url("admin", path)
        async with self._session.request(method, url, json=document) as response:
            told = await response.json()
            assert response.status == 200, told
            return told

    def _url(self, listener: str, path: str) -> str:
        port = {"plain": 8080, "admin": 9090}[listener]
        return f"http://{self.site.address}:{port}{path}"


REGIONS = {"fra": "eu", "ams": "eu", "sin": "asia"}


@asynccontextmanager
async def fleet(
    net: Wan, directory: Path, urls: Sequence[str] = ()
) -> AsyncIterator[dict[str, FleetNode]]:
    """Three nodes that have joined and hear one another; the first invited the others."""
    async with AsyncExitStack() as stack:
        nodes: dict[str, FleetNode] = {}
        for name in REGIONS:
            upstream = await stack.enter_async_context(scripted_upstream(net[name].listening()))
            (directory / name).mkdir()
            nodes[name] = node = FleetNode(net[name], directory / name, upstream, urls)
            stack.push_async_callback(node.close)
        founder, *others = nodes.values()
        await founder.start()
        await asyncio.gather(*(_join(node, founder) for node in others))
        for node in nodes.values():
            await in_touch(node, len(others))
        yield nodes


async def _join(node: FleetNode, founder: FleetNode) -> None:
    made = await founder.call("/admin/invite", {})
    await node.join(made["token"], REGIONS[node.site.name])
    await node.start()


async def in_touch(node: FleetNode, others: int) -> None:
    """Until it hears so many, and, where nodes are linked, reads and is read by them."""

    async def all_up() -> bool:
        linked = bool(node.urls) or len(await node.links()) == 2 * others
        return linked and len(await node.heard()) == others

    await until_told(all_up)
