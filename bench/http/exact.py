"""Exact hits over each wire: server CPU a request and latency, the node and its peers in turn."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from bench.http import load, profile, servers
from bench.http.load import LoadError, Measured, Shape
from bench.http.report import Report
from bench.http.servers import MissingError, Server, StartError, Wire
from bench.http.work import Scratch

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
H1_GOAL_SHAPE, H1_GOAL = Shape(10), 2.0
H3_GOAL_SHAPE, H3_GOAL = Shape(10, 10), 0.7

Found = dict[tuple[str, Shape], list[Measured]]


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
            asked = [server for server in running if wire in server.wires]
            _print(report, wire, asked, _rounds(report, scratch, asked, wire, seconds, rounds))
            if profiles is not None:
                _profile(report, scratch, asked[0], wire, seconds, profiles / f"{wire}.stacks")


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
    asked: Sequence[Server],
    wire: Wire,
    seconds: int,
    rounds: int,
) -> Found:
    found: Found = {}
    for _ in range(rounds):
        for shape in SHAPES[wire]:
            for server in asked:
                try:
                    one = load.run(scratch, server, wire, shape, seconds)
                except LoadError as error:
                    report.say(f"{server.name} at {shape}: {error}")
                    continue
                found.setdefault((server.name, shape), []).append(one)
    return found


def _profile(
    report: Report, scratch: Scratch, node: Server, wire: Wire, seconds: int, to: Path
) -> None:
    shape = H3_GOAL_SHAPE if wire == "h3" else H1_GOAL_SHAPE
    try:
        profile.record(
            report, node, seconds, to, lambda: load.run(scratch, node, wire, shape, seconds)
        )
    except MissingError as missing:
        report.skipped("profile", str(missing))


def _print(report: Report, wire: Wire, asked: Sequence[Server], found: Found) -> None:
    shapes = SHAPES[wire]
    best = {at: min(runs, key=lambda one: one.us) for at, runs in found.items()}
    rows = [
        [server.name, *(_cell(best.get((server.name, shape))) for shape in shapes)]
        for server in asked
    ]
    report.say("us CPU a request (p50/p99 latency in ms, thousand requests/s)")
    report.table(["", *(str(shape) for shape in shapes)], rows)
    for reference in REFERENCES[wire]:
        cells = [_ratio(best, reference, shape) for shape in shapes]
        if any(cells):
            shown = "  ".join(f"{s} {c:.2f}" for s, c in zip(shapes, cells, strict=True) if c)
            report.say(f"promptedge / {reference}: {shown}")
    if wire != "h3" and (ratio := _ratio(best, "aiohttp-server", H1_GOAL_SHAPE)):
        what = f"exact hit over {NAMES[wire]} at {H1_GOAL_SHAPE}, CPU against bare aiohttp"
        report.goal(what, ratio, H1_GOAL, "x")
    if wire == "h3" and (ratio := _ratio(best, "aioquic", H3_GOAL_SHAPE)):
        what = f"exact hit over HTTP/3 at {H3_GOAL_SHAPE}, CPU against stock aioquic"
        report.goal(what, ratio, H3_GOAL, "x")


def _cell(one: Measured | None) -> str:
    if one is None:
        return "-"
    failed = f" {one.failed} failed" if one.failed else ""
    latency = f"{one.p50_us / 1e3:.2f}/{one.p99_us / 1e3:.2f}"
    return f"{one.us:.0f} ({latency}, {one.per_s / 1e3:.1f}k){failed}"


def _ratio(best: Mapping[tuple[str, Shape], Measured], reference: str, shape: Shape) -> float:
    """0 when one of the two was not measured."""
    ours, theirs = best.get(("promptedge", shape)), best.get((reference, shape))
    return ours.us / theirs.us if ours and theirs else 0.0
