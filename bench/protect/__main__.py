"""What an attack does to everybody else, on a real node in a network of its own.

    python -m bench.protect [--seconds 10] [--rounds 3] [--only baseline slowloris ...] [--out FILE]

Needs root, `ip` and two cores: the node has one, customers and attackers share the other, where
attackers give way (nice), as what is measured is the node. A row is what customers got of what they
asked for in that time, while an attack went on, of the best of some rounds, as the machine may have
other work:

    good       answers that were whole and there within a second, as a share of those asked for
    hit        how long HTTP/1.1 answers took, in ms: 50th and 99th of a hundred. The latter is to
               be three times as long at most as when nobody attacks
    connect    how long somebody new took to come by HTTP/3 and be answered, in seconds
    CPU        what the node used of its core
"""

import argparse
import http.client
import json
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from pathlib import Path
from typing import Any

from bench.http import machine, work
from bench.http.report import Report
from bench.http.servers import stop
from bench.protect.attacks import ATTACKS, BOTS, OTHER
from bench.protect.attacks import KEY as ABUSER
from bench.protect.customers import H3_HOMES, HOMES, NEWCOMERS, NODE
from bench.protect.customers import KEY as CUSTOMER
from tests.deploy.street import Namespace, street
from tests.fleet.router import inside
from tests.fleet.wan import unavailable

ADMIN, UPSTREAM = 9090, 9000
SECTIONS = ("baseline", *ATTACKS, "idle")
QUIET_S = 3.0
"""Of an attack, before customers come: what it costs the node alone."""


class Running:
    """A node with its upstream, in `place`."""

    def __init__(self, place: Namespace, scratch: Path) -> None:
        self.place = place
        answer = scratch / "answer.json"
        answer.write_bytes(work.answer())
        for name, key in (("customer", CUSTOMER), ("abuser", ABUSER)):
            (scratch / name).write_text(key)
        config = scratch / "node.toml"
        config.write_text(
            f'[node]\nlisten = ":{NODE[1]}"\nplain = ":{NODE[1] - 1}"\n'
            f'admin = "127.0.0.1:{ADMIN}"\ndata = "{scratch}/var"\n'
            f'[cache]\nmode = "exact"\n[local_model]\nstand_in = false\n'
            f'[[upstreams]]\nbase_url = "http://127.0.0.1:{UPSTREAM}/v1"\nmodels = ["bench"]\n'
            + "".join(
                f'[[keys]]\ntenant = "{name}"\nkey_file = "{scratch}/{name}"\n'
                for name in ("customer", "abuser")
            )
        )
        python = ["taskset", "-c", str(machine.SERVER_CORE), sys.executable, "-m"]
        upstream = [*python[:2], str(machine.CLIENT_CORE), *python[3:]]
        options: dict[str, Any] = {"stdin": subprocess.PIPE, "process_group": 0}
        self.log = scratch / "node.log"
        with self.log.open("wb") as log:
            self.upstream = place.start(
                *upstream, "bench.http.peers.upstream", str(UPSTREAM), str(answer), **options
            )
            self.process = place.start(
                *python, "edge", "serve", "--config", str(config), stderr=log, **options
            )

    def get(self, path: str) -> str:
        with inside(self.place.name):
            connection = http.client.HTTPConnection("127.0.0.1", ADMIN, timeout=10)
            connection.connect()
        try:
            connection.request("GET", path)
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def gauge(self, name: str) -> float:
        lines = self.get("/metrics").splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))

    def until_ready(self) -> None:
        for _ in range(600):
            if self.process.poll() is not None:
                sys.exit(self.log.read_text())
            try:
                if json.loads(self.get("/readyz"))["state"] == "ready":
                    return
            except OSError:
                pass
            time.sleep(0.1)
        sys.exit(self.log.read_text())

    def cpu_s(self) -> float:
        return machine.cpu_s(self.process.pid)


@contextmanager
def running() -> Iterator[tuple[Running, Namespace]]:
    with street() as (place, world), tempfile.TemporaryDirectory(prefix="protect-") as scratch:
        lines = [
            f"addr add {address}/16 dev eth0"
            for address in (*BOTS, OTHER, *HOMES, *H3_HOMES, *NEWCOMERS)
        ]
        batch = Path(scratch, "addresses")
        batch.write_text("\n".join(lines))
        world.run("ip", "-batch", str(batch))
        node = Running(place, Path(scratch))
        try:
            node.until_ready()
            yield node, world
        finally:
            stop(node.process)
            stop(node.upstream)


def module(world: Namespace, name: str, *words: str) -> "subprocess.Popen[bytes]":
    polite = ["nice", "-n", "19"] if name == "attacks" else []
    command = [*polite, sys.executable, "-m", f"bench.protect.{name}", *words]
    return world.start(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def line(process: "subprocess.Popen[bytes]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().decode().strip()


def customers(node: Running, world: Namespace, seconds: float) -> dict[str, float]:
    began, spent = time.perf_counter(), node.cpu_s()
    told = line(module(world, "customers", str(seconds)))
    if not told:
        return (
            {"sent": 1, "good": 0}
            | dict.fromkeys(("p50_ms", "p99_ms", "connect_p50_s", "connect_max_s"), float("inf"))
            | {"cpu": 0.0}
        )
    got: dict[str, float] = json.loads(told)
    return {**got, "cpu": (node.cpu_s() - spent) / (time.perf_counter() - began)}


def attacked(
    node: Running, world: Namespace, name: str, seconds: float, report: Report
) -> tuple[dict[str, float], str]:
    """What customers got meanwhile, and what came of the attack."""
    attack = module(world, "attacks", name, str(QUIET_S + seconds + 4))
    assert line(attack) == "ready"
    began, spent, retries = time.perf_counter(), node.cpu_s(), node.gauge("promptedge_quic_retries")
    if name == "initials":
        while node.gauge("promptedge_quic_retries") == retries:
            time.sleep(0.01)
        report.goal("initials: Retry after", time.perf_counter() - began, 1.0, " s")
    time.sleep(max(0.0, QUIET_S - (time.perf_counter() - began)))
    alone = (node.cpu_s() - spent) / (time.perf_counter() - began)
    if name == "initials":
        report.goal("initials: of a core, for them alone", alone * 100, 30.0, " %")
    got = customers(node, world, seconds)
    found = json.loads(line(attack))
    attack.wait()
    return got, ", ".join(f"{count:,} {what}" for what, count in sorted(found.items()))


def idle(report: Report) -> None:
    with running() as (node, world):
        before, _ = machine.memory_mib(node.process.pid)
        crowd = module(world, "idle")
        count = int(line(crowd) or 0)
        open_now = json.loads(node.get("/admin/status"))["connections"]
        after, _ = machine.memory_mib(node.process.pid)
        assert crowd.stdin is not None
        crowd.stdin.close()
        crowd.wait()
    report.title(f"{count:,} idle connections: {open_now}")
    report.goal("memory for each", (after - before) * 1024 / max(count, 1), 150.0, " KiB")


def main() -> None:
    options = _parser().parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    if why := unavailable():
        sys.exit(f"bench.protect {why}")
    machine.stay_apart()
    report = Report()
    report.say(f"python -m bench.protect {shlex.join(sys.argv[1:])}".rstrip())
    report.say(machine.describe())
    report.title("customers while somebody attacks")
    only, rounds = options.only or SECTIONS, range(options.rounds)
    rows, founds, base, base_ms = [], [], 1.0, inf
    with running() as (node, world):
        pid = node.process.pid
        for name in (one for one in SECTIONS if one in only and one != "idle"):
            if name == "baseline":
                got = max((customers(node, world, options.seconds) for _ in rounds), key=_merit)
                base, base_ms = got["good"] / got["sent"], got["p99_ms"]
            else:
                tries = [attacked(node, world, name, options.seconds, report) for _ in rounds]
                got, found = max(tries, key=lambda one: _merit(one[0]))
                founds.append(f"{name}: {found}")
            share = got["good"] / got["sent"]
            fast = got["p99_ms"] <= 3 * base_ms
            goals = ["", ""] if name == "baseline" else [_met(share >= 0.8 * base), _met(fast)]
            rows.append(
                [
                    name,
                    f"{share:.1%}",
                    goals[0],
                    f"{got['p50_ms']:.1f}/{got['p99_ms']:.1f}",
                    goals[1],
                    f"{got['connect_p50_s']:.3f}/{got['connect_max_s']:.3f}",
                    f"{got['cpu']:.0%}",
                ]
            )
        assert node.process.poll() is None
        assert node.process.pid == pid
        log = node.log.read_text().splitlines()
    report.say()
    head = [
        "",
        "good",
        "80 % of baseline",
        "hit p50/p99",
        "p99 at most 3 x",
        "connect p50/max",
        "CPU",
    ]
    report.table(head, rows)
    report.say()
    for found in founds:
        report.say(found)
    report.say(f"lines in the node's log: {len(log):,}")
    if "idle" in only:
        idle(report)
    if options.out:
        report.write(options.out)


def _merit(got: dict[str, float]) -> tuple[float, float]:
    """Of two rounds that gave about as many good answers, the one that gave them faster."""
    return round(got["good"] / got["sent"], 2), -got["p99_ms"]


def _met(goal: bool) -> str:
    return "ok" if goal else "MISSED"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.protect", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("--seconds", type=float, default=10, help="of customers in each row (10)")
    add("--rounds", type=int, default=3, help="of each; the best is shown (3)")
    add("--only", nargs="+", choices=SECTIONS, metavar="SECTION", help=", ".join(SECTIONS))
    add("--out", type=Path, metavar="FILE", help="keep what is printed here as well")
    return parser


if __name__ == "__main__":
    main()
