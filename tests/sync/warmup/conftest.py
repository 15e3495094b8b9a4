"""Nodes with a scripted upstream behind them, and a job that is done on a clock of ours."""

import io
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge.node import Node
from sync.warmup.job import Order
from sync.warmup.lines import Defaults
from sync.warmup.report import Report
from sync.warmup.run import Warmup, warm
from tests.fakes.clocks import SleepersClock
from tests.fakes.doors import Answer, ask, doors
from tests.fakes.node import running_node, url
from tests.fakes.upstream import ScriptedUpstream, scripted_upstream


class Bench:
    """A file of lines, two nodes, and how it went."""

    def __init__(self, path: Path, nodes: list[Node], upstream: ScriptedUpstream) -> None:
        self.path = path
        self.nodes = nodes
        self.upstream = upstream
        self.clock = SleepersClock()
        self.said = io.StringIO()
        self.asked = Warmup(
            path=path,
            nodes=(url(nodes[0], "admin"),),
            name="test",
            order=Order(labels=("warm:test",)),
            defaults=Defaults("test-model"),
        )

    @property
    def both(self) -> tuple[str, ...]:
        return tuple(url(node, "admin") for node in self.nodes)

    def write(self, *lines: Any) -> None:
        self.path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")

    async def warm(self, **changes: Any) -> Report:
        return await warm(replace(self.asked, **changes), self.clock, io.BytesIO(b""), self.said)

    async def ask(self, prompt: Any, node: int = 0) -> Answer:
        async with doors(self.nodes[node]) as every:
            return await ask(every[0], prompt)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with (
        scripted_upstream() as upstream,
        running_node(tmp_path / "a", upstream.base_url) as one,
        running_node(tmp_path / "b", upstream.base_url) as other,
    ):
        yield Bench(tmp_path / "lines.jsonl", [one, other], upstream)
