"""Who is asked: this node, LiteLLM's proxy, or the upstream itself, each a process of its own."""

import http.client
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.http import machine
from bench.http.servers import MissingError, Server, free_port, listens, running, wait_for
from bench.surge.crowd import TENANTS, Tenant
from bench.surge.load import Target

SLOTS = 5
"""Answers that an upstream computes at a time, each in one second: its capacity a second."""
MASTER_KEY = "sk-bench-0123456789abcdef0123456789abcdef"
LITELLM = "litellm[proxy]==1.108.7"


@dataclass(frozen=True, slots=True)
class Upstream:
    """A fake model server."""

    server: Server

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.server.ports['h1']}/v1"

    def stats(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._ask("GET", "/stats"))
        return found

    def slow_down(self, times: float) -> None:
        self._ask("POST", "/control", json.dumps({"slower": times}))

    def _ask(self, method: str, path: str, body: str | None = None) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.ports["h1"], timeout=30)
        try:
            fields = {"content-type": "application/json"} if body else {}
            connection.request(method, path, body, fields)
            return connection.getresponse().read()
        finally:
            connection.close()


def upstream(stack: ExitStack, scratch: Path, name: str = "model", *options: str) -> Upstream:
    port = free_port()
    command = [sys.executable, "-m", "bench.surge.upstream", str(port), "--name", name]
    server = stack.enter_context(
        running(
            name,
            [*command, "--slots", str(SLOTS), *options],
            scratch / f"{name}.log",
            {"h1": port},
            frozenset(),
        )
    )
    os.sched_setaffinity(server.pid, {machine.CLIENT_CORE})
    wait_for(lambda: listens(port), server)
    return Upstream(server)


@dataclass(frozen=True, slots=True)
class System:
    """How one of those that are compared is started in front of upstreams."""

    name: str
    start: Callable[[ExitStack, Path, Sequence[Upstream]], Target]
    remembers: bool = True


# The node.


def node(stack: ExitStack, scratch: Path, upstreams: Sequence[Upstream], *, told: bool) -> Target:
    """`told`: it knows how many calls the models bear at a time, and need not find out."""
    ports = {"h1": free_port(), "admin": free_port()}
    home = scratch / f"node-{ports['h1']}"
    home.mkdir()
    config = home / "node.toml"
    config.write_text(_node_config(home, scratch / "models", ports, upstreams, told))
    command = [sys.executable, "-m", "edge", "serve", "--config", config]
    env = {_variable(tenant): tenant.key for tenant in TENANTS}
    server = stack.enter_context(
        running("promptedge", command, scratch / "promptedge.log", ports, frozenset(), env)
    )
    wait_for(lambda: _ready(ports["admin"]), server)
    return Target(_chat_url(ports["h1"]), lambda tenant: tenant.key, server.pid)


def _node_config(
    home: Path,
    models: Path,
    ports: Mapping[str, int],
    upstreams: Sequence[Upstream],
    told: bool,
) -> str:
    known = f"concurrency = {SLOTS * len(upstreams)}" if told else ""
    tables = [
        f"""
[node]
data = "{home / "data"}"
models = "{models}"
plain = "127.0.0.1:{ports["h1"]}"
listen = ""
admin = "127.0.0.1:{ports["admin"]}"

[admission]
{known}
queue_s = 5

[[routes]]
model = "*"
shared = true

[[plans]]
name = "paid"
weight = 4

[[plans]]
name = "free"
"""
    ]
    tables += [
        f'[[upstreams]]\nname = "{one.server.name}"\nbase_url = "{one.base_url}"\n'
        for one in upstreams
    ]
    tables += [
        f'[[keys]]\ntenant = "{one.name}"\nkey_env = "{_variable(one)}"\nplan = "{one.plan}"\n'
        for one in TENANTS
    ]
    return "\n".join(tables)


def _variable(tenant: Tenant) -> str:
    return f"KEY_{tenant.name.upper().replace('-', '_')}"


def _ready(port: int) -> bool:
    probe = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        probe.request("GET", "/readyz")
        facts: Mapping[str, Any] = json.load(probe.getresponse())
        return facts.get("semantic") == "ready"
    except OSError:
        return False
    finally:
        probe.close()


# LiteLLM's proxy.


def litellm(environment: Path) -> Callable[[ExitStack, Path, Sequence[Upstream]], Target]:
    """From the virtual environment that it is installed in. Raises MissingError."""
    command = environment / "bin" / "litellm"
    if not command.exists():
        pip = environment / "bin" / "pip"
        raise MissingError(f"python -m venv {environment} && {pip} install '{LITELLM}' diskcache")

    def start(stack: ExitStack, scratch: Path, upstreams: Sequence[Upstream]) -> Target:
        port = free_port()
        home = scratch / f"litellm-{port}"
        home.mkdir()
        config = home / "config.yaml"
        config.write_text(json.dumps(_litellm_config(home, upstreams)))  # YAML's subset
        full = [command, "--config", config, "--host", "127.0.0.1", "--port", str(port)]
        env = {
            "LITELLM_MASTER_KEY": MASTER_KEY,
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_LOG": "CRITICAL",  # tracebacks of what was refused cost it time
            "NO_DOCS": "True",
        }
        log = scratch / "litellm.log"
        server = stack.enter_context(running("litellm", full, log, {"h1": port}, frozenset(), env))
        wait_for(lambda: listens(port), server)
        return Target(_chat_url(port), lambda _: MASTER_KEY, server.pid)

    return start


def litellm_version(environment: Path) -> str:
    code = "import importlib.metadata as m; print(m.version('litellm'))"
    python = environment / "bin" / "python"
    return subprocess.run(
        [python, "-c", code], check=True, capture_output=True, text=True
    ).stdout.strip()


def _litellm_config(home: Path, upstreams: Sequence[Upstream]) -> dict[str, Any]:
    """As it bears most: its cache on disk, as that in memory holds 200 answers; the fastest of
    several upstreams; and no second try where there is but one."""
    return {
        "model_list": [
            {
                "model_name": "bench",
                "litellm_params": {
                    "model": "openai/bench",
                    "api_base": one.base_url,
                    "api_key": "none",
                },
            }
            for one in upstreams
        ],
        "litellm_settings": {
            "cache": True,
            "cache_params": {"type": "disk", "disk_cache_dir": str(home / "cache"), "ttl": 86400},
            "telemetry": False,
        },
        "router_settings": {
            "routing_strategy": "latency-based-routing",
            **({"num_retries": 0} if len(upstreams) == 1 else {}),
        },
    }


# The upstream itself.


def bare(_: ExitStack, __: Path, upstreams: Sequence[Upstream]) -> Target:
    """Clients know one address, the nearest."""
    first = upstreams[0]
    return Target(f"{first.base_url}/chat/completions", lambda _: "none", first.server.pid)


def _chat_url(port: int) -> str:
    return f"http://127.0.0.1:{port}/v1/chat/completions"
