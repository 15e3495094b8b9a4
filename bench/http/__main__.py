"""One command: what a hit, a miss and a start cost this node, beside its peers, in one run."""

import argparse
import shlex
import signal
import sys
import tempfile
from pathlib import Path

from bench.http import exact, machine, semantic, start, work
from bench.http.report import Report
from bench.http.servers import Wire

SECTIONS = ("h1", "tls", "h3", "semantic", "start")
WIRES: tuple[Wire, ...] = ("h1", "tls", "h3")


def main() -> None:
    options = _parser().parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # and so stop the servers
    only = set(options.only or SECTIONS)
    if options.profile:
        options.profile.mkdir(parents=True, exist_ok=True)
    machine.stay_apart()
    report = Report()
    report.say(f"python -m bench.http {shlex.join(sys.argv[1:])}".rstrip())
    report.say(machine.describe())
    with tempfile.TemporaryDirectory(prefix="bench-http-") as directory:
        scratch = work.lay_out(Path(directory))
        if wires := [wire for wire in WIRES if wire in only]:
            exact.measure(report, scratch, wires, options.seconds, options.rounds, options.profile)
        if "semantic" in only:
            semantic.measure(report, scratch, options.rounds, options.profile)
        if "start" in only:
            start.measure(report, scratch, options.rounds)
    if options.out:
        report.write(options.out)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.http", description=__doc__)
    add = parser.add_argument
    add("--seconds", type=int, default=3, help="of load for each figure, after one to warm up (3)")
    add("--rounds", type=int, default=3, help="the best of so many, servers taking turns (3)")
    add("--only", nargs="+", choices=SECTIONS, metavar="SECTION", help=", ".join(SECTIONS))
    add("--profile", type=Path, metavar="DIR", help="py-spy's stacks go there")
    add("--out", type=Path, metavar="FILE", help="keep what is printed here as well")
    return parser


if __name__ == "__main__":
    main()
