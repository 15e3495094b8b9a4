"""Sites far from one another, on one machine: network namespaces, joined by `tests.fleet.router`.

    with wan(seed=1, sites=("fra", "ams", "sin")) as net:
        net.set("fra", "ams", delay=0.04, loss=0.01)
        process = net["fra"].run("promptedge", "serve", ...)
        net.cut("fra", "ams")

Needs root, `ip` and /dev/net/tun; `unavailable()` says what is missing. Whoever dies, the
namespaces go: the router ends with its stdin, and each start removes what an earlier run left.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from socket import AF_INET, SO_REUSEADDR, SOCK_STREAM, SOL_SOCKET
from socket import socket as Socket  # noqa: N812  a type here
from typing import IO, Any

from tests.fleet.router import inside

ROOT = Path(__file__).parent.parent.parent
PREFIX = "promptedge-wan"


def unavailable() -> str:
    """Why there can be no WAN here; empty when there can."""
    if os.geteuid() != 0:
        return "needs root, to make network namespaces"
    if shutil.which("ip") is None:
        return "needs ip (iproute2)"
    if not os.path.exists("/dev/net/tun"):
        return "needs /dev/net/tun"
    made = subprocess.run(
        ["ip", "netns", "add", f"{PREFIX}-probe-{os.getpid()}"], capture_output=True, check=False
    )
    if made.returncode != 0:
        return f"may not make network namespaces: {made.stderr.decode().strip()}"
    _delete(f"{PREFIX}-probe-{os.getpid()}")
    return ""


@dataclass(frozen=True, slots=True)
class Site:
    name: str
    namespace: str
    address: str
    """IPv4, of all that listens here."""

    def run(self, *command: str, **options: Any) -> "subprocess.Popen[bytes]":
        """A process whose network is this site's."""
        return subprocess.Popen(["ip", "netns", "exec", self.namespace, *command], **options)

    def plug(self, kind: int = SOCK_STREAM) -> Socket:
        """A socket of this process in this site's network. It stays there, whoever uses it."""
        with inside(self.namespace):
            return Socket(AF_INET, kind)

    def listening(self, port: int = 0) -> Socket:
        """A socket that this process listens on there."""
        sock = self.plug()
        sock.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
        sock.bind((self.address, port))
        sock.listen()
        return sock


class Wan:
    def __init__(self, sites: dict[str, "Site"], router: "subprocess.Popen[bytes]") -> None:
        self._sites = sites
        self._router = router

    def __getitem__(self, name: str) -> Site:
        return self._sites[name]

    def set(self, one: str, other: str, **values: float) -> None:
        """`delay` and `jitter` in seconds one way, `loss` as a share: both ways alike."""
        words = [f"{name} {value}" for name, value in values.items()]
        self._tell(f"set {one} {other} {' '.join(words)}")

    def cut(self, one: str, other: str) -> None:
        """No packet passes from now on, and nobody is told."""
        self._tell(f"cut {one} {other}")

    def heal(self, one: str, other: str) -> None:
        self._tell(f"heal {one} {other}")

    def stats(self) -> dict[str, dict[str, float]]:
        """Of each path, such as "fra ams": packets, octets, dropped, and how it is set."""
        found: dict[str, dict[str, float]] = json.loads(self._ask("stats"))
        return found

    def _tell(self, command: str) -> None:
        answer = self._ask(command)
        if answer != "done":
            raise ValueError(f"{command}: {answer}")

    def _ask(self, command: str) -> str:
        assert self._router.stdin is not None
        self._router.stdin.write(f"{command}\n".encode())
        self._router.stdin.flush()
        return _line(self._router.stdout)


@contextmanager
def wan(sites: tuple[str, ...], seed: int = 1) -> Iterator[Wan]:
    """Sites that reach one another at once, until told otherwise. `seed`: of what is lost."""
    _delete_leftovers()
    found = {
        name: Site(name, f"{PREFIX}-{os.getpid()}-{name}", f"10.99.{number}.1")
        for number, name in enumerate(sites)
    }
    try:
        for site in found.values():
            subprocess.run(["ip", "netns", "add", site.namespace], check=True)
        places = [f"{site.name}={site.namespace}" for site in found.values()]
        router = subprocess.Popen(
            [sys.executable, "-m", "tests.fleet.router", str(seed), *places],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        with router:
            assert _line(router.stdout) == "ready"
            yield Wan(found, router)
            assert router.stdin is not None
            router.stdin.close()
    finally:
        for site in found.values():
            _delete(site.namespace)


def _line(stream: "IO[bytes] | None") -> str:
    assert stream is not None
    return stream.readline().decode().strip()


def _delete_leftovers() -> None:
    """Namespaces of runs whose process is gone."""
    with suppress(FileNotFoundError):
        for path in Path("/var/run/netns").iterdir():
            words = path.name.removeprefix(PREFIX).split("-")
            if path.name.startswith(PREFIX) and not any(
                word.isdecimal() and Path("/proc", word).exists() for word in words
            ):
                _delete(path.name)


def _delete(namespace: str) -> None:
    subprocess.run(["ip", "netns", "del", namespace], capture_output=True, check=False)
