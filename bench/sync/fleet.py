"""Two nodes and, for NATS, a server between them, each in a network namespace of a WAN."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bench.sync import members
from tests.fakes.nats import nats_server
from tests.fleet.wan import Site, Wan, wan

ONE, OTHER, HUB = "one", "other", "hub"
DELAYS = {(ONE, OTHER): 0.110, (ONE, HUB): 0.040, (OTHER, HUB): 0.080}
PATH_MS = {"feed": 110.0, "nats": 120.0}
PORT = 8444
# As `deploy/nats-server.conf` has it: a lossy link takes long for what a server writes at once.
SERVER = '\nwrite_deadline: "60s"\n'


class Node:
    """A `bench.sync.node` in its site."""

    def __init__(self, site: Site, directory: Path, nats_url: str | None) -> None:
        command = [sys.executable, "-m", "bench.sync.node", str(directory), site.name]
        command += [f"{site.address}:{PORT}", *([nats_url] if nats_url else [])]
        self.process = site.run(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.answer()

    def ask(self, do: str, **asked: Any) -> dict[str, Any]:
        self.start(do, **asked)
        return self.answer()

    def start(self, do: str, **asked: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": do, **asked}).encode() + b"\n")
        self.process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the node ended"
        found: dict[str, Any] = json.loads(line)
        return found

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


class Fleet:
    def __init__(self, net: Wan, directories: dict[str, Path], url: str | None) -> None:
        self.net = net
        self._directories = directories
        self._url = url
        self._nodes: list[Node] = []

    def start(self, name: str) -> Node:
        node = Node(self.net[name], self._directories[name], self._url)
        self._nodes.append(node)
        return node

    def octets(self) -> int:
        """On all paths so far, headers included."""
        return sum(int(path["octets"]) for path in self.net.stats().values())

    def end(self) -> None:
        for node in self._nodes:
            node.end()


def both(nodes: tuple[Node, Node], do: str, **asked: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Both do it, at once."""
    for node in nodes:
        node.start(do, **asked)
    return nodes[0].answer(), nodes[1].answer()


@contextmanager
def fleet(
    transport: str, binary: str, *, loss: float = 0.0, congestion: str = "cubic", far: bool = True
) -> Iterator[Fleet]:
    with tempfile.TemporaryDirectory() as made, wan((ONE, OTHER, HUB)) as net, ExitStack() as stack:
        directory = Path(made)
        _lay(net, loss, congestion, far=far)
        directories = {name: directory / name for name in (ONE, OTHER)}
        members.found(directories, {name: f"{net[name].address}:{PORT}" for name in directories})
        url = None
        if transport == "nats":
            url = stack.enter_context(_server(net[HUB], directory, directories[ONE], binary))
        running = Fleet(net, directories, url)
        yield running
        running.end()


def _lay(net: Wan, loss: float, congestion: str, *, far: bool) -> None:
    for (a, b), delay in DELAYS.items():
        net.set(a, b, delay=delay if far else 0.0, loss=loss)
    for name in (ONE, OTHER, HUB):  # as a property of the route, which any namespace may set
        route = f"10.99.0.0/16 dev wan0 proto kernel scope link src {net[name].address}"
        subprocess.run(
            ["ip", "-n", net[name].namespace, "route", "change", *route.split(),
             "congctl", congestion], check=True,
        )  # fmt: skip


@contextmanager
def _server(hub: Site, directory: Path, founder: Path, binary: str) -> Iterator[str]:
    """Its address. It has the fleet's users and streams."""
    users = _promptedge("nats-permissions", "--data", str(founder))
    within = ("ip", "netns", "exec", hub.namespace)
    with nats_server(binary, directory / "nats", users + SERVER, hub.address, within) as server:
        config = directory / "hub.toml"
        config.write_text(f'[node]\ndata = "{founder}"\n[sync.nats]\nurls = ["{server.url}"]\n')
        _promptedge("nats-streams", "--config", str(config), within=within)
        yield server.url


def _promptedge(*arguments: str, within: tuple[str, ...] = ()) -> str:
    run = [*within, sys.executable, "-m", "edge", *arguments]
    return subprocess.run(run, check=True, capture_output=True, text=True).stdout
