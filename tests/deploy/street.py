"""A node with neighbours: two network namespaces, joined by a cable.

    with street() as (node, world):
        node.run("nft", "-f", "deploy/promptedge.nft")
        world.connect(ATTACKER, (NODE, 8080))      # from whichever address

All strangers live in one namespace, each with an address of its own.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from socket import create_connection
from socket import socket as Socket  # noqa: N812  a type here
from typing import Any

from tests.fleet.router import inside
from tests.fleet.wan import PREFIX

ROOT = Path(__file__).parent.parent.parent
PATIENCE_S = 60.0
NODE, ATTACKER, NEIGHBOUR = "10.98.0.1", "10.98.0.66", "10.98.0.2"
NODE6 = "2001:db8::1"
ATTACKER6, SAME_64, NEIGHBOUR6 = "2001:db8:6:6::1", "2001:db8:6:6::2", "2001:db8:6:7::1"


@dataclass(frozen=True, slots=True)
class Namespace:
    name: str

    def start(self, *command: str, **options: Any) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(["ip", "netns", "exec", self.name, *command], **options)

    def run(self, *command: str) -> str:
        """What it prints; raises when it fails, with what it said."""
        done = subprocess.run(
            ["ip", "netns", "exec", self.name, *command],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def connect(self, source: str, to: tuple[str, int], timeout: float = 5.0) -> Socket:
        with inside(self.name):
            return create_connection(to, timeout, (source, 0))

    def ask(self, source: str, to: tuple[str, int], key: str = "", timeout: float = 5.0) -> int:
        """The status of `GET /v1/models`. Raises OSError."""
        http = HTTPConnection(*to)
        http.sock = self.connect(source, to, timeout)
        try:
            http.request("GET", "/v1/models", headers=authorization(key))
            return http.getresponse().status
        finally:
            http.close()


def authorization(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"} if key else {}


@contextmanager
def street() -> Iterator[tuple[Namespace, Namespace]]:
    node, world = (Namespace(f"{PREFIX}-{os.getpid()}-{name}") for name in ("node", "world"))
    try:
        for place in (node, world):
            subprocess.run(["ip", "netns", "add", place.name], check=True)
        cable = f"link add eth0 type veth peer name eth0 netns {world.name}"
        subprocess.run(["ip", "-n", node.name, *cable.split()], check=True)
        _address(node, NODE, NODE6)
        _address(world, ATTACKER, NEIGHBOUR, ATTACKER6, SAME_64, NEIGHBOUR6)
        yield node, world
    finally:
        for place in (node, world):
            subprocess.run(["ip", "netns", "del", place.name], capture_output=True, check=False)


def _address(place: Namespace, *addresses: str) -> None:
    for command in ("link set lo up", "link set eth0 up"):
        place.run("ip", *command.split())
    for address in addresses:
        bits, now = ("32", ["nodad"]) if ":" in address else ("16", [])
        place.run("ip", "addr", "add", f"{address}/{bits}", "dev", "eth0", *now)


@contextmanager
def serving(place: Namespace, directory: Path, config: str) -> Iterator[Path]:
    """A node with that configuration, with its data in `directory`; yields its log."""
    file, log = directory / "node.toml", directory / "log"
    file.write_text(config.replace("[node]", f'[node]\ndata = "{directory}/var"'))
    with log.open("wb") as out:
        command = [sys.executable, "-m", "edge", "serve", "--config", str(file)]
        node = place.start(*command, stderr=out, cwd=ROOT)
    try:
        eventually(lambda: "event=ready" in log.read_text())
        yield log
    finally:
        node.terminate()
        node.wait()


def eventually(condition: Callable[[], object]) -> None:
    """Until it holds, and does not raise."""
    deadline = time.monotonic() + PATIENCE_S  # noqa: TID251  real processes, a real clock
    while True:
        try:
            if condition():
                return
        except (AssertionError, OSError):
            pass
        assert time.monotonic() < deadline  # noqa: TID251
        time.sleep(0.05)
