"""The product as its users have it: the command in a process of its own, asked by real clients."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.ports import free_address

PATIENCE_S = 60.0
"""Nothing here takes so long, unless it will never come."""


class NodeProcess:
    """`promptedge serve`, on ports that were free a moment ago."""

    def __init__(self, data: Path, *arguments: str, env: dict[str, str] | None = None) -> None:
        self.data = data
        self.listen, self.plain, self.admin = (free_address() for _ in range(3))
        self.base_url = f"http://{self.plain}/v1"
        self.log = data / "log"
        data.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "edge", "serve", "--data", str(data / "var")]
        for name in ("listen", "plain", "admin"):
            command += [f"--{name}", getattr(self, name)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, *arguments], stderr=log, stdout=log, env={**os.environ, **(env or {})}
            )

    def get(self, path: str, base: str | None = None) -> tuple[int, Any]:
        try:
            with urllib.request.urlopen(
                f"http://{base or self.admin}{path}", timeout=5
            ) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as exc:
            return exc.code, json.load(exc)
        except OSError:
            return 0, {}

    def until(self, ready: Callable[[dict[str, Any]], bool]) -> None:
        """Wait until `/readyz` says what is wanted."""
        deadline = time.monotonic() + PATIENCE_S  # noqa: TID251  a real process, a real clock
        facts: Any = None
        while time.monotonic() < deadline:  # noqa: TID251
            if self.process.poll() is not None:
                raise AssertionError(f"the node ended: {self.log.read_text()}")
            status, facts = self.get("/readyz")
            if status and ready(facts):
                return
            time.sleep(0.02)
        raise AssertionError(f"not in time: {facts}\n{self.log.read_text()}")

    def until_serving(self) -> None:
        self.until(lambda facts: facts.get("state") == "ready")

    def until_complete(self) -> None:
        """Encoder and demonstration model loaded."""
        self.until(lambda f: f["semantic"] == "ready" and f["local_model"] in ("ready", "off"))

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def terminate(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)


@pytest.fixture(scope="module")
def local_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """A node with nothing configured: it answers from the demonstration model."""
    node = NodeProcess(tmp_path_factory.mktemp("node"))
    try:
        node.until_complete()
        yield node
    finally:
        node.terminate()
