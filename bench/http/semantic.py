"""Hits by meaning and misses: what they cost beside the bare encoder on the same texts.

One prompt at a time over one HTTP/1.1 connection. CPU is that of the node's whole process, its
writer included; the upstream is a process of its own. Every round asks in words not used before.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from bench.http import machine, profile, servers, stock
from bench.http.report import Report
from bench.http.servers import MissingError, Server
from bench.http.work import Scratch, chat

ENTRIES = 10_000
HITS_A_ROUND = 200
MISSES_A_ROUND = 100
WARM_UP = 20
HIT_GOAL = 1.25
MISS_GOAL_MS = 2.0
PROFILE_S = 2
PAUSE_S = 0.002
"""About what lies between two runs of the encoder in a node that is asked one at a time."""


@dataclass(slots=True)
class Costs:
    """CPU ms a prompt, one figure a round."""

    hit: list[float] = field(default_factory=list)
    hit_encoder: list[float] = field(default_factory=list)
    miss: list[float] = field(default_factory=list)
    paced_encoder: list[float] = field(default_factory=list)
    """On the texts of the hits, with a pause before each, as between requests."""
    miss_encoder: list[float] = field(default_factory=list)
    hit_threads: list[list[float]] = field(default_factory=list)
    miss_threads: list[list[float]] = field(default_factory=list)
    """The same by thread: the main one first, then the others, the dearest first."""
    latency: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    """What was not answered as it should have been."""


def measure(report: Report, scratch: Scratch, rounds: int, profiles: Path | None) -> None:
    report.title(f"by meaning: {ENTRIES:,} entries, {stock.TOKENS} tokens, HTTP/1.1, one at a time")
    embeds = stock.encoder(scratch)
    hits, misses = HITS_A_ROUND * (rounds + 1) + WARM_UP, MISSES_A_ROUND * (rounds + 1)
    about = stock.subjects(embeds, ENTRIES + misses)
    data = scratch.folder("semantic")
    stock.fill(data, embeds, about[:ENTRIES], time.time())  # noqa: TID251  as the node will read it
    del embeds
    with ExitStack() as stack:
        bare = stack.enter_context(
            servers.running(
                "encoder",
                [sys.executable, "-m", "bench.http.peers.encoder", scratch.models],
                scratch.directory / "encoder.log",
                {},
                frozenset(),
            )
        )
        _said(bare)
        node = servers.node(stack, scratch, servers.upstream(stack, scratch), data)
        servers.wait_for(lambda: servers.semantic_ready(node), node)
        stored, unknown = list(enumerate(about[:hits])), about[ENTRIES:]
        costs = _rounds(node, bare, stored, unknown, rounds)
        _print(report, costs, machine.memory_mib(node.pid))
        if profiles is not None:
            texts = [stock.wording(subject) for subject in unknown[-MISSES_A_ROUND:]]
            asked = stored[-HITS_A_ROUND:]
            _profile(report, node, profiles / "hit.stacks", partial(_hits, node, asked, costs))
            _profile(report, node, profiles / "miss.stacks", partial(_misses, node, texts, costs))


def _rounds(
    node: Server,
    bare: Server,
    stored: Sequence[tuple[int, str]],
    unknown: Sequence[str],
    rounds: int,
) -> Costs:
    costs = Costs()
    _hits(node, stored[:WARM_UP], costs)
    costs.latency.clear()
    for at in range(rounds):
        start = WARM_UP + at * HITS_A_ROUND
        asked = stored[start : start + HITS_A_ROUND]
        texts = [stock.other_wording(subject) for _, subject in asked]
        costs.hit_encoder.append(_encoder_ms(bare, texts))
        costs.paced_encoder.append(_paced_encoder_ms(bare, texts))
        threads = _node_ms(node, len(asked), partial(_hits, node, asked, costs))
        costs.hit.append(sum(threads))
        costs.hit_threads.append(threads)
        fresh = unknown[at * MISSES_A_ROUND : (at + 1) * MISSES_A_ROUND]
        texts = [stock.wording(subject) for subject in fresh]
        costs.miss_encoder.append(_encoder_ms(bare, texts))
        threads = _node_ms(node, len(texts), partial(_misses, node, texts, costs))
        costs.miss.append(sum(threads))
        costs.miss_threads.append(threads)
    return costs


def _profile(report: Report, node: Server, to: Path, work: Callable[[], None]) -> None:
    try:
        profile.record(report, node, PROFILE_S, to, work, idle=True)
    except MissingError as missing:
        report.skipped("profile", str(missing))


def _node_ms(node: Server, count: int, work: Callable[[], None]) -> list[float]:
    """CPU ms a prompt of each thread of the node."""
    machine.settled_cpu_s(node.pid)
    before = machine.threads_s(node.pid)
    work()
    machine.settled_cpu_s(node.pid)
    after = machine.threads_s(node.pid)
    spent = {one: (after[one] - before.get(one, 0.0)) * 1e3 / count for one in after}
    return [spent.pop(node.pid), *sorted(spent.values(), reverse=True)]


def _hits(node: Server, asked: Sequence[tuple[int, str]], costs: Costs) -> None:
    connection = node.connect()
    for number, subject in asked:
        text = stock.other_wording(subject)
        began = time.perf_counter()
        response, body = servers.ask(connection, chat(text))
        costs.latency.append((time.perf_counter() - began) * 1e3)
        told = response.headers.get("cache-status", "")
        if "detail=semantic" not in told or json.loads(body)["id"] != f"chatcmpl-{number:08}":
            costs.wrong.append(f"{text} -> {told}")
    connection.close()


def _misses(node: Server, texts: Sequence[str], costs: Costs) -> None:
    connection = node.connect()
    for text in texts:
        told = servers.ask(connection, chat(text))[0].headers.get("cache-status", "")
        if "fwd=miss" not in told or "stored" not in told:
            costs.wrong.append(f"{text} -> {told}")
    connection.close()


def _encoder_ms(bare: Server, texts: Sequence[str]) -> float:
    assert bare.process.stdin is not None
    bare.process.stdin.write(json.dumps(texts).encode() + b"\n")
    bare.process.stdin.flush()
    spent, tokens = _said(bare)
    assert set(tokens) == {stock.TOKENS}, tokens
    return float(spent) * 1e3 / len(texts)


def _paced_encoder_ms(bare: Server, texts: Sequence[str]) -> float:
    """What the same call costs when caches have gone cold in between."""
    spent = 0.0
    for text in texts:
        time.sleep(PAUSE_S)
        spent += _encoder_ms(bare, [text])
    return spent / len(texts)


def _said(bare: Server) -> Any:
    assert bare.process.stdout is not None
    line = bare.process.stdout.readline()
    if not line:
        raise servers.StartError(f"the encoder ended: {bare.log.read_text()[-400:]}")
    return json.loads(line)


def _print(report: Report, costs: Costs, resident: tuple[float, float]) -> None:
    def best(values: Sequence[float]) -> str:
        return f"{min(values):.2f}"

    report.say("CPU ms a prompt, the best of the rounds")
    report.table(
        ["", "node", "bare encoder", "beyond it"],
        [
            [
                "hit by meaning",
                best(costs.hit),
                best(costs.hit_encoder),
                _beyond(costs.hit, costs.hit_encoder),
            ],
            [
                "miss, stored",
                best(costs.miss),
                best(costs.miss_encoder),
                _beyond(costs.miss, costs.miss_encoder),
            ],
        ],
    )
    ordered = sorted(costs.latency)
    middle, high = ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100]
    for what, runs in (("a hit", costs.hit_threads), ("a miss", costs.miss_threads)):
        main, *others = min(runs, key=sum)
        spread = " + ".join(f"{one:.2f}" for one in others if one >= 0.01)
        report.say(f"{what} by thread: event loop {main:.2f}, workers {spread}")
    report.say(f"latency of a hit by meaning, ms: p50 {middle:.2f}, p99 {high:.2f}")
    report.say(f"resident afterwards, MiB: {resident[0]:.0f} (PSS {resident[1]:.0f})")
    report.say(f"not answered as they should be: {len(costs.wrong)}")
    for line in costs.wrong[:3]:
        report.say(f"    {line}")
    ratio = min(costs.hit) / min(costs.hit_encoder)
    report.goal("hit by meaning, CPU against the bare encoder", ratio, HIT_GOAL, "x")
    paced = min(costs.paced_encoder)
    report.say(
        f"    (against {paced:.2f} ms, the encoder with a pause of {PAUSE_S * 1e3:g} ms before each"
        f" text: {min(costs.hit) / paced:.2f}x)"
    )
    beyond = min(costs.miss) - min(costs.miss_encoder)
    report.goal("a miss, CPU beyond the encoder", beyond, MISS_GOAL_MS, " ms")


def _beyond(node: Sequence[float], encoder: Sequence[float]) -> str:
    return f"{min(node) - min(encoder):.2f}"
