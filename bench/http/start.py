"""From exec to the first hit, exact and by meaning, and what a node then occupies.

The files are in the page cache: this is a restart, not the first start after a boot.
"""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.http import machine, servers, stock
from bench.http.report import Report
from bench.http.servers import Server, StartError
from bench.http.work import Scratch, chat
from index.embedding import Encoder

SIZES = (1_000, 100_000)
EXACT_GOAL_S = 2.0
SEMANTIC_GOAL_S = {1_000: 5.0, 100_000: 10.0}
MEMORY_GOAL_MIB = 250.0
POLL_S = 0.005
IDLE_S = 1.0
SUBJECT = "clean a leather sofa with warm water"


@dataclass(frozen=True, slots=True)
class Started:
    exact_s: float
    semantic_s: float
    resident_mib: float
    proportional_mib: float


def measure(report: Report, scratch: Scratch, rounds: int) -> None:
    report.title("start and memory")
    embeds = stock.encoder(scratch)
    found: dict[int, list[Started]] = {}
    with ExitStack() as stack:
        upstream = servers.upstream(stack, scratch)
        for size in SIZES:
            data = scratch.folder(f"start-{size}")
            _stock(scratch, upstream, data, embeds, size)
            found[size] = [_start(scratch, upstream, data) for _ in range(rounds)]
    rows = [[f"{size:,} entries", *_row(found[size])] for size in SIZES]
    report.say("seconds from exec, the best of the rounds; MiB resident, idle, encoder loaded")
    report.table(["", "exact hits", "by meaning", "VmRSS", "PSS"], rows)
    for size in SIZES:
        report.goal(
            f"ready for exact hits with {size:,} entries",
            min(one.exact_s for one in found[size]),
            EXACT_GOAL_S,
            " s",
        )
        report.goal(
            f"ready for hits by meaning with {size:,} entries",
            min(one.semantic_s for one in found[size]),
            SEMANTIC_GOAL_S[size],
            " s",
        )
    small = min(one.resident_mib for one in found[SIZES[0]])
    report.goal(f"resident with {SIZES[0]:,} entries", small, MEMORY_GOAL_MIB, " MiB")


def _row(runs: Sequence[Started]) -> list[str]:
    return [
        f"{min(one.exact_s for one in runs):.2f}",
        f"{min(one.semantic_s for one in runs):.2f}",
        f"{min(one.resident_mib for one in runs):.0f}",
        f"{min(one.proportional_mib for one in runs):.0f}",
    ]


def _stock(scratch: Scratch, upstream: Server, data: Path, embeds: Encoder, size: int) -> None:
    """One answer that a node got itself, and others for company."""
    with ExitStack() as stack:
        node = servers.node(stack, scratch, upstream, data)
        servers.wait_for(lambda: servers.semantic_ready(node), node)
        connection = node.connect()
        servers.ask(connection, chat(stock.wording(SUBJECT)))
        connection.close()
    stock.pad(data, embeds, size - 1, time.time())  # noqa: TID251  as the node will read it


def _start(scratch: Scratch, upstream: Server, data: Path) -> Started:
    with ExitStack() as stack:
        began = time.perf_counter()
        node = servers.node(stack, scratch, upstream, data)
        servers.wait_for(lambda: servers.listens(node.ports["h1"]), node, POLL_S)
        _expect_hit(node, stock.wording(SUBJECT), by_meaning=False)
        exact_s = time.perf_counter() - began
        servers.wait_for(lambda: servers.semantic_ready(node), node, POLL_S)
        _expect_hit(node, stock.other_wording(SUBJECT), by_meaning=True)
        semantic_s = time.perf_counter() - began
        time.sleep(IDLE_S)
        return Started(exact_s, semantic_s, *machine.memory_mib(node.pid))


def _expect_hit(node: Server, text: str, *, by_meaning: bool) -> None:
    connection = node.connect()
    told = servers.ask(connection, chat(text))[0].headers.get("cache-status", "")
    connection.close()
    if "; hit" not in told or ("detail=semantic" in told) != by_meaning:
        raise StartError(f"the node forgot its answer: {told}")
