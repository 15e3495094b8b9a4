"""How soon what one node has is on another, over a WAN: links of our own beside NATS JetStream.

    python -m bench.sync [--quick] [--only feed|nats] [--part late|caught-up] [--binary NATS_SERVER]

Two nodes and, for NATS, a server between them, each in a network namespace: 110 ms one way from
node to node; 40 ms and 80 ms from the nodes to the server. Both nodes tell answers at once, one by
one, each with vector and question, up to 256 kB/s: what a node may offer unless told otherwise. TCP
is as it is usual (cubic), and as some machines have it (bbr, which holds back what flows thinly for
a quarter of a second, every ten). Needs root. The WAN is a process of this machine too, and all of
them share its cores.
"""

import argparse
import itertools
import os
import subprocess
import sys

from bench.http.machine import describe
from bench.sync.fleet import PATH_MS, fleet
from bench.sync.measure import FULL, QUICK, Plan, catching_up, propagation
from bench.sync.table import TRANSPORTS, Found, written
from tests.fakes.nats import BINARIES
from tests.fleet.wan import unavailable

PARTS = ("late", "caught-up")


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--quick", action="store_true", help="a tenth of everything, cubic alone")
    options.add_argument("--only", choices=TRANSPORTS)
    options.add_argument("--part", choices=PARTS)
    options.add_argument("--binary", help="a nats-server; the system's unless told otherwise")
    asked = options.parse_args()
    if why := unavailable():
        sys.exit(f"there can be no WAN here: {why}")
    binary = asked.binary or BINARIES["system"] or BINARIES["newest"]
    transports = (asked.only,) if asked.only else TRANSPORTS
    if binary is None and "nats" in transports:
        sys.exit("there is no nats-server here: install it, name one with --binary, or --only feed")
    print(describe())
    if binary is not None and "nats" in transports:
        version = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True)
        print(version.stdout.strip())
    congestions = ("cubic",) if asked.quick else ("cubic", "bbr")
    plan = QUICK if asked.quick else FULL
    found = Found()
    if asked.part in (None, "late"):
        measure_late(found, plan, congestions, transports, binary or "")
    if asked.part in (None, "caught-up"):
        measure_catching_up(found, plan, transports, binary or "")
    print(f"load at the end {os.getloadavg()[0]:.1f}")
    for line in written(found):
        print(line)


def measure_late(
    found: Found,
    plan: Plan,
    congestions: tuple[str, ...],
    transports: tuple[str, ...],
    binary: str,
) -> None:
    for congestion, loss, transport in itertools.product(congestions, (0.0, 0.01), transports):
        note(f"{transport}, {loss:.0%} lost, {congestion}")
        with fleet(transport, binary, loss=loss, congestion=congestion) as running:
            late = found.late.setdefault((loss, congestion), {})
            path_ms = PATH_MS[transport]
            late[transport] = propagation(running, plan, path_ms, lossy=loss > 0)


def measure_catching_up(found: Found, plan: Plan, transports: tuple[str, ...], binary: str) -> None:
    for far, transport in itertools.product((False, True), transports):
        note(f"{transport}, catching up, {'far' if far else 'near'}")
        with fleet(transport, binary, far=far) as running:
            found.caught_up.setdefault(far, {})[transport] = catching_up(running, plan)


def note(doing: str) -> None:
    print(doing, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
