"""The node and its peers as processes on one core: how each is started, and what it needs."""

import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from bench.http import machine
from bench.http.work import HEADERS, PATH, Scratch

Wire = Literal["h1", "tls", "h3"]
Connection = http.client.HTTPConnection

START_TIMEOUT_S = 120.0
PEERS_HINT = "pip install -r requirements/bench.txt"


class MissingError(Exception):
    """A tool that is not installed; the message is the command that installs it."""


class StartError(Exception):
    """A server that did not come up; the message is the end of its log."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running process that answers prompts."""

    name: str
    process: subprocess.Popen[bytes]
    ports: Mapping[str, int]
    log: Path
    wires: frozenset[Wire] = field(default_factory=frozenset)

    @property
    def pid(self) -> int:
        return self.process.pid

    def cpu_s(self) -> float:
        return machine.cpu_s(self.pid)

    def connect(self, wire: Wire = "h1") -> Connection:
        if wire == "h1":
            return http.client.HTTPConnection("127.0.0.1", self.ports["h1"], timeout=30)
        trusting = ssl.create_default_context()
        trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
        return http.client.HTTPSConnection(
            "127.0.0.1", self.ports["tls"], timeout=30, context=trusting
        )


Command = Sequence[str | Path]
Start = Callable[[ExitStack, Scratch], Server]


def free_port() -> int:
    """A port that nobody listens on, TCP or UDP."""
    while True:
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            tcp.bind(("127.0.0.1", 0))
            port = int(tcp.getsockname()[1])
            try:
                udp.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def tool(name: str, hint: str) -> str:
    """An executable, from this Python's environment or the path."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise MissingError(hint)
    return found


@contextmanager
def running(
    name: str,
    command: Command,
    log: Path,
    ports: Mapping[str, int],
    wires: frozenset[Wire],
    env: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    with log.open("wb") as sink:
        process = machine.start(command, sink, env or {})
    server = Server(name, process, ports, log, wires=wires)
    try:
        yield server
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """By its process group, which is its own."""
    for sign, patience_s in ((signal.SIGTERM, 10), (signal.SIGKILL, 10)):
        try:
            os.killpg(process.pid, sign)
            process.wait(patience_s)
            break
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            continue
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


def wait_for(ready: Callable[[], bool], server: Server, pause_s: float = 0.02) -> None:
    """Ask until it is so. Raises StartError when the server ends or takes too long."""
    deadline = time.perf_counter() + START_TIMEOUT_S
    while not ready():
        if server.process.poll() is not None or time.perf_counter() > deadline:
            log = server.log.read_text(errors="replace")
            raise StartError(f"{server.name} did not start: {log[-400:].strip()}")
        time.sleep(pause_s)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def bound_udp(port: int) -> bool:
    """Is anybody bound to this UDP port? There is no connection whose making would tell."""
    tables = [Path("/proc/net", name) for name in ("udp", "udp6")]
    lines = [line for table in tables if table.exists() for line in table.read_text().splitlines()]
    local = [line.split()[1].rpartition(":")[2] for line in lines if ":" in line]
    return any(int(number, 16) == port for number in local)


def ask(
    connection: Connection, body: bytes, fields: Mapping[str, str] | None = None
) -> tuple[http.client.HTTPResponse, bytes]:
    headers = {**HEADERS, "Content-Length": str(len(body)), **(fields or {})}
    connection.request("POST", PATH, body, headers)
    response = connection.getresponse()
    return response, response.read()


# The upstream and the node.


def upstream(stack: ExitStack, scratch: Scratch) -> Server:
    port = free_port()
    command: Command = [
        sys.executable,
        "-m",
        "bench.http.peers.upstream",
        str(port),
        scratch.answer,
    ]
    log = scratch.directory / "upstream.log"
    server = stack.enter_context(running("upstream", command, log, {"h1": port}, frozenset()))
    os.sched_setaffinity(server.pid, {machine.CLIENT_CORE})
    wait_for(lambda: listens(port), server)
    return server


def node(
    stack: ExitStack, scratch: Scratch, behind: Server, data: Path, name: str = "promptedge"
) -> Server:
    """The node as users run it, with an upstream. Not waited for."""
    ports = {"h1": free_port(), "tls": free_port(), "admin": free_port()}
    ports["h3"] = ports["tls"]
    command: Command = [
        *(sys.executable, "-m", "edge", "serve"),
        *("--upstream", f"http://127.0.0.1:{behind.ports['h1']}/v1"),
        *("--plain", f"127.0.0.1:{ports['h1']}", "--listen", f"127.0.0.1:{ports['tls']}"),
        *("--admin", f"127.0.0.1:{ports['admin']}", "--data", data),
    ]
    env = {
        "PROMPTEDGE__NODE__MODELS": str(scratch.models),
        "PROMPTEDGE__TLS__CERTIFICATE": str(scratch.certificate),
        "PROMPTEDGE__TLS__KEY": str(scratch.key),
    }
    log = scratch.directory / f"{name}.log"
    wires: frozenset[Wire] = frozenset({"h1", "tls", "h3"})
    return stack.enter_context(running(name, command, log, ports, wires, env))


def readyz(server: Server) -> Mapping[str, Any]:
    """What the node says of itself; empty while nobody answers."""
    probe = http.client.HTTPConnection("127.0.0.1", server.ports["admin"], timeout=5)
    try:
        probe.request("GET", "/readyz")
        facts: Mapping[str, Any] = json.load(probe.getresponse())
        return facts
    except OSError:
        return {}
    finally:
        probe.close()


def semantic_ready(server: Server) -> bool:
    return readyz(server).get("semantic") == "ready"


def primed_node(stack: ExitStack, scratch: Scratch) -> Server:
    """A node that has everything loaded, and the answers in memory."""
    behind = upstream(stack, scratch)
    server = node(stack, scratch, behind, scratch.folder("data"))
    wait_for(lambda: semantic_ready(server), server)
    connection = server.connect()
    for body in scratch.requests.read_bytes().splitlines():
        ask(connection, body, {"Prompt-Cache": "exact"})
    ask(connection, scratch.request.read_bytes())
    response, _ = ask(connection, scratch.request.read_bytes())
    connection.close()
    told = response.headers["cache-status"]
    if "hit" not in told or "semantic" in told:
        raise StartError(f"the node does not answer from memory: {told}")
    return server


# The peers.


def caddy(stack: ExitStack, scratch: Scratch) -> Server:
    """`respond` with a body of the same length; without braces, which Caddy would expand."""
    command = tool("caddy", PEERS_HINT)
    ports = {"h1": free_port(), "tls": free_port()}
    ports["h3"] = ports["tls"]
    text = '["' + "a" * (scratch.answer.stat().st_size - 4) + '"]'
    answer = f"header Content-Type application/json\n    respond `{text}` 200"
    config = scratch.directory / "Caddyfile"
    config.write_text(
        "{\n  admin off\n  auto_https off\n  persist_config off\n}\n"
        f"http://127.0.0.1:{ports['h1']}, http://localhost:{ports['h1']} {{\n    {answer}\n}}\n"
        f"https://127.0.0.1:{ports['tls']}, https://localhost:{ports['tls']} {{\n"
        f"    tls {scratch.certificate} {scratch.key}\n    {answer}\n}}\n"
    )
    env = {
        "GOMAXPROCS": "1",
        "XDG_CONFIG_HOME": str(scratch.folder("caddy")),
        "XDG_DATA_HOME": str(scratch.folder("caddy")),
    }
    return _peer(
        stack,
        scratch,
        "caddy",
        [command, "run", "--config", config, "--adapter", "caddyfile"],
        ports,
        frozenset({"h1", "tls", "h3"}),
        env,
    )


def _aiohttp(kind: str) -> Start:
    def start(stack: ExitStack, scratch: Scratch) -> Server:
        ports = {"h1": free_port(), "tls": free_port()}
        files = [scratch.answer, scratch.certificate, scratch.key]
        numbers = [str(ports["h1"]), str(ports["tls"])]
        command: Command = [
            sys.executable,
            "-m",
            "bench.http.peers.aiohttp_bare",
            kind,
            *numbers,
            *files,
        ]
        return _peer(stack, scratch, f"aiohttp-{kind}", command, ports, frozenset({"h1", "tls"}))

    return start


def aioquic(stack: ExitStack, scratch: Scratch) -> Server:
    port = free_port()
    files = [scratch.answer, scratch.certificate, scratch.key]
    command: Command = [sys.executable, "-m", "bench.http.peers.aioquic_stock", str(port), *files]
    return _peer(stack, scratch, "aioquic", command, {"h3": port}, frozenset({"h3"}))


def hypercorn(stack: ExitStack, scratch: Scratch) -> Server:
    if find_spec("hypercorn") is None:
        raise MissingError(PEERS_HINT)
    port, unused = free_port(), free_port()
    command: Command = [
        *(sys.executable, "-m", "hypercorn", "bench.http.peers.asgi:app", "-k", "uvloop"),
        *("--quic-bind", f"127.0.0.1:{port}", "--bind", f"127.0.0.1:{unused}"),
        *("--certfile", scratch.certificate, "--keyfile", scratch.key),
    ]
    env = {"BENCH_ANSWER": str(scratch.answer)}
    return _peer(stack, scratch, "hypercorn", command, {"h3": port}, frozenset({"h3"}), env)


def _peer(
    stack: ExitStack,
    scratch: Scratch,
    name: str,
    command: Command,
    ports: Mapping[str, int],
    wires: frozenset[Wire],
    env: Mapping[str, str] | None = None,
) -> Server:
    log = scratch.directory / f"{name}.log"
    server = stack.enter_context(running(name, command, log, ports, wires, env))
    for wire in wires:
        asked = bound_udp if wire == "h3" else listens
        wait_for(lambda asked=asked, wire=wire: asked(ports[wire]), server)  # type: ignore[misc]
    return server


ALL: Mapping[str, Start] = {
    "promptedge": primed_node,
    "aiohttp-server": _aiohttp("server"),
    "aiohttp-application": _aiohttp("application"),
    "aioquic": aioquic,
    "caddy": caddy,
    "hypercorn": hypercorn,
}
"""In the order of the tables. The goals' bare aiohttp is the low-level server, the cheaper one."""

_H1: frozenset[Wire] = frozenset({"h1", "tls"})
_H3: frozenset[Wire] = frozenset({"h3"})

SPEAKS: Mapping[str, frozenset[Wire]] = {
    "promptedge": _H1 | _H3,
    "aiohttp-server": _H1,
    "aiohttp-application": _H1,
    "aioquic": _H3,
    "caddy": _H1 | _H3,
    "hypercorn": _H3,
}
