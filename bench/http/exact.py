"""Exact hits over each wire: server CPU a request and latency, the node and its peers in turn."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.http import load, profile, servers
from bench.http.load import LoadError, Measured, Shape
from bench.http.report import Report
from bench.http.servers import MissingError, Server, StartError, Wire
from bench.http.work import PROMPTS, Scratch

SHAPES: Mapping[Wire, tuple[Shape, ...]] = {
    "h1": (Shape(1), Shape(10), Shape(100)),
    "tls": (Shape(1), Shape(10), Shape(100)),
    "h3": (Shape(1), Shape(10), Shape(100), Shape(10, 10)),
}
NAMES: Mapping[Wire, str] = {
    "h1": "HTTP/1.1 in clear",
    "tls": "HTTP/1.1 over TLS",
    "h3": "HTTP/3",
}
REFERENCES: Mapping[Wire, tuple[str, ...]] = {
    "h1": ("aiohttp-server", "caddy"),
    "tls": ("aiohttp-server", "caddy"),
    "h3": ("aioquic", "caddy"),
}
GOALS: Mapping[Wire, tuple[str, Shape, float]] = {
    "h1": ("aiohttp-server", Shape(10), 2.0),
    "tls": ("aiohttp-server", Shape(10), 2.0),
    "h3": ("aioquic", Shape(10, 10), 0.7),
}
"""Against whom, at which load, at most how many times their CPU."""
DISTINCT = f"promptedge, {PROMPTS:,} prompts"

Found = dict[tuple[str, Shape], list[Measured]]


@dataclass(frozen=True, slots=True)
class Row:
    name: str
    server: Server
    distinct: bool = False


def measure(
    report: Report,
    scratch: Scratch,
    wires: Sequence[Wire],
    seconds: int,
    rounds: int,
    profiles: Path | None,
) -> None:
    with ExitStack() as stack:
        running = _start(report, stack, scratch, wires)
        for wire in wires:
            report.title(f"exact hits, {NAMES[wire]}")
            try:
                load.prepare(scratch, wire)
            except MissingError as missing:
                report.skipped(NAMES[wire], str(missing))
                continue
            rows = list(_rows(running, wire))
            _print(report, wire, rows, _rounds(report, scratch, rows, wire, seconds, rounds))
            for row in rows:
                if profiles is not None and row.server.name == "promptedge":
                    _profile(report, scratch, row, wire, seconds, profiles)


def _rows(running: Sequence[Server], wire: Wire) -> Iterator[Row]:
    """The node twice: asked the same prompt always, and many, which its memos do not hold."""
    for server in running:
        if wire in server.wires:
            yield Row(server.name, server)
            if server.name == "promptedge":
                yield Row(DISTINCT, server, distinct=True)


def _start(
    report: Report, stack: ExitStack, scratch: Scratch, wires: Sequence[Wire]
) -> list[Server]:
    """Everything that is installed, all at once: rounds take turns between them."""
    running = []
    for name, start in servers.ALL.items():
        if not servers.SPEAKS[name].intersection(wires):
            continue
        try:
            running.append(start(stack, scratch))
        except MissingError as missing:
            report.skipped(name, str(missing))
        except StartError as error:
            report.say(f"{error}")
    return running


def _rounds(
    report: Report,
    scratch: Scratch,
    rows: Sequence[Row],
    wire: Wire,
    seconds: int,
    rounds: int,
) -> Found:
    found: Found = {}
    for _ in range(rounds):
        for shape in SHAPES[wire]:
            for row in rows:
                try:
                    one = load.run(scratch, row.server, wire, shape, seconds, distinct=row.distinct)
                except LoadError as error:
                    report.say(f"{row.name} at {shape}: {error}")
                    continue
                found.setdefault((row.name, shape), []).append(one)
    return found


def _profile(
    report: Report, scratch: Scratch, row: Row, wire: Wire, seconds: int, profiles: Path
) -> None:
    shape = GOALS[wire][1]
    to = profiles / f"{wire}{'-distinct' if row.distinct else ''}.stacks"
    work = partial(load.run, scratch, row.server, wire, shape, seconds, distinct=row.distinct)
    try:
        profile.record(report, row.server, seconds, to, work)
    except MissingError as missing:
        report.skipped("profile", str(missing))


def _print(report: Report, wire: Wire, rows: Sequence[Row], found: Found) -> None:
    shapes = SHAPES[wire]
    best = {at: min(runs, key=lambda one: one.us) for at, runs in found.items()}
    cells = [[row.name, *(_cell(best.get((row.name, shape))) for shape in shapes)] for row in rows]
    report.say("us CPU a request (p50/p99 latency in ms, thousand requests/s)")
    report.table(["", *(str(shape) for shape in shapes)], cells)
    for ours in ("promptedge", DISTINCT):
        for reference in REFERENCES[wire]:
            ratios = [(shape, _ratio(best, reference, shape, ours)) for shape in shapes]
            shown = "  ".join(f"{shape} {ratio:.2f}" for shape, ratio in ratios if ratio)
            if shown:
                report.say(f"{ours} / {reference}: {shown}")
    reference, shape, limit = GOALS[wire]
    for ours in ("promptedge", DISTINCT):
        if ratio := _ratio(best, reference, shape, ours):
            what = f"{ours}, exact hit over {NAMES[wire]} at {shape}, CPU against {reference}"
            report.goal(what, ratio, limit, "x")


def _cell(one: Measured | None) -> str:
    if one is None:
        return "-"
    failed = f" {one.failed} failed" if one.failed else ""
    latency = f"{one.p50_us / 1e3:.2f}/{one.p99_us / 1e3:.2f}"
    return f"{one.us:.0f} ({latency}, {one.per_s / 1e3:.1f}k){failed}"


def _ratio(
    best: Mapping[tuple[str, Shape], Measured],
    reference: str,
    shape: Shape,
    ours: str = "promptedge",
) -> float:
    """0 when one of the two was not measured."""
    node, peer = best.get((ours, shape)), best.get((reference, shape))
    return node.us / peer.us if node and peer else 0.0
