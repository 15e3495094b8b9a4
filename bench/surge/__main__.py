"""A flash crowd, an outage, a slow model: what users notice, beside LiteLLM's proxy and nothing."""

import argparse
import shlex
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from bench.http import machine
from bench.http.report import Report
from bench.http.servers import MissingError, StartError
from bench.surge import figures, scenarios, systems
from bench.surge.figures import Goal
from bench.surge.scenarios import Ran, Stage, Times
from bench.surge.systems import System

SCENARIOS = ("surge", "ladder", "repeats", "equal", "killed", "slower")


def main() -> None:
    options = _parser().parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # and so stop the servers
    machine.stay_apart()
    report = Report()
    report.say(f"python -m bench.surge {shlex.join(sys.argv[1:])}".rstrip())
    report.say(machine.describe())
    times = Times.quick() if options.quick else Times.full()
    with tempfile.TemporaryDirectory(prefix="bench-surge-") as directory:
        bench = Bench(report, Path(directory), times, _systems(report, options))
        for name in options.only or SCENARIOS:
            getattr(bench, name)(options.chart)
        bench.goals()
    if options.out:
        report.write(options.out)


class Bench:
    def __init__(
        self, report: Report, scratch: Path, times: Times, compared: Sequence[System]
    ) -> None:
        self._report = report
        self._stage = Stage(scratch, times)
        self._times = times
        self._systems = compared
        self._runs: dict[str, list[Ran]] = {one.name: [] for one in compared}
        self._found: dict[str, dict[Goal, float]] = {one.name: {} for one in compared}

    def surge(self, chart: Path) -> None:
        from bench.surge.chart import draw  # matplotlib is not needed for the rest

        self._report.title(f"surge: {scenarios.SURGE} times the capacity, popular prompts")
        runs = self._play(scenarios.surge, lambda ran: {})
        rows = [figures.surge_row(name, ran, self._times) for name, ran in runs]
        self._report.table(figures.SURGE_HEAD, rows)
        draw(runs, self._times, chart)
        self._report.say(f"drawn in {chart}")

    def ladder(self, _: Path) -> None:
        self._report.title("ladder: prompts that must be computed, and hits beside them")

        def show(name: str, ran: Ran) -> None:
            self._report.say(name)
            self._report.table(figures.LADDER_HEAD, figures.ladder_rows(ran, self._times))

        self._play(scenarios.ladder, lambda ran: figures.of_ladder(ran, self._times), show)

    def repeats(self, _: Path) -> None:
        self._play(scenarios.repeats, figures.of_repeats)

    def equal(self, _: Path) -> None:
        self._play(scenarios.equal, figures.of_equal)

    def killed(self, _: Path) -> None:
        self._play(scenarios.killed, figures.of_killed)

    def slower(self, _: Path) -> None:
        self._report.title("slower: the share of the nearer of two upstreams")

        def show(name: str, ran: Ran) -> None:
            shares = [
                f"{part} {figures.near(figures.part(ran, part)):.0f} %"
                for part in ("before", "change", "after")
            ]
            self._report.say(f"{name}: {', '.join(shares)}")

        self._play(scenarios.slower, figures.of_slower, show)

    def goals(self) -> None:
        self._report.title("goals")
        names = list(self._found)
        rows = []
        for name in names:
            self._found[name] |= figures.wrong(self._runs[name])
        for goal in dict.fromkeys(goal for name in names for goal in self._found[name]):
            cells = []
            for name in names:
                value = self._found[name].get(goal)
                met = value is not None and goal.met(value)
                cells.append("" if value is None else goal.written(value))
                cells.append("" if value is None else "ok" if met else "missed")
            limit = f"{goal.sense} {goal.written(goal.limit)}"
            rows.append([goal.what, limit, *cells])
        head = [cell for name in names for cell in (name, "")]
        self._report.table(["", "goal", *head], rows)
        lag_ms = figures.lag_ms([ran for runs in self._runs.values() for ran in runs[:2]])
        self._report.say(
            f"the generator was late by {lag_ms:.1f} ms (p99), which is in all figures"
        )

    def _play(
        self,
        scenario: Callable[[Stage, System], Ran],
        found: Callable[[Ran], dict[Goal, float]],
        show: Callable[[str, Ran], None] = lambda name, ran: None,
    ) -> list[tuple[str, Ran]]:
        runs = []
        for system in self._systems:
            try:
                ran = scenario(self._stage, system)
            except StartError as error:
                self._report.say(f"{system.name}: skipped: {error}")
                continue
            runs.append((system.name, ran))
            self._runs[system.name].append(ran)
            self._found[system.name] |= found(ran)
            show(system.name, ran)
        return runs


def _systems(report: Report, options: argparse.Namespace) -> list[System]:
    chosen = [System("promptedge", partial(systems.node, told=not options.learn))]
    try:
        start = systems.litellm(options.litellm)
        chosen.append(System(f"LiteLLM {systems.litellm_version(options.litellm)}", start))
    except MissingError as missing:
        report.skipped("LiteLLM", str(missing))
    chosen.append(System("the upstream alone", systems.bare, remembers=False))
    return chosen


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.surge", description=__doc__)
    add = parser.add_argument
    add("--quick", action="store_true", help="a first impression in a third of the time")
    add("--only", nargs="+", choices=SCENARIOS, metavar="NAME", help=", ".join(SCENARIOS))
    add("--learn", action="store_true", help="tell the node nothing of what the models bear")
    add("--litellm", type=Path, metavar="DIR", default=Path(".venv-litellm"),
        help="the virtual environment that LiteLLM is installed in (.venv-litellm)")  # fmt: skip
    add("--chart", type=Path, metavar="FILE", default=Path("bench/results/surge.png"),
        help="where the chart goes (bench/results/surge.png)")  # fmt: skip
    add("--out", type=Path, metavar="FILE", help="keep what is printed here as well")
    return parser


if __name__ == "__main__":
    main()
