"""py-spy on the node while it is under load: where the time of an exact hit goes."""

import re
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from bench.http.report import Report
from bench.http.servers import PEERS_HINT, Server, tool

RATE_HZ = 500
ROWS = 40
_WAITING = ("_worker (concurrent/futures/thread.py)", "Condition.wait (threading.py)")
"""Threads with nothing to do; where threads are stopped to be looked at, they count as running."""
_LINE = re.compile(r":\d+\)")


def record(
    report: Report,
    server: Server,
    seconds: int,
    to: Path,
    load: Callable[[], object],
    *,
    idle: bool = False,
) -> None:
    """Profile `server` while `load` runs; collapsed stacks go to `to`, a summary to the report.

    A process that is never idle is stopped for each look, or lines that allocate would be seen too
    often. But threads that wait look busy when stopped, so an `idle` one is watched in passing.
    """
    command = [
        *(tool("py-spy", PEERS_HINT), "record", "--pid", str(server.pid)),
        *("--duration", str(seconds), "--rate", str(RATE_HZ), "--format", "raw"),
        *("--output", str(to), *(["--nonblocking"] if idle else [])),
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as spy:
        load()
        said = spy.communicate()[1]
    if spy.returncode != 0:
        report.say(f"no profile: {said.decode(errors='replace').strip()[-300:]}")
        return
    _print(report, to)


def _print(report: Report, stacks: Path) -> None:
    own: Counter[str] = Counter()
    within: Counter[str] = Counter()
    for line in stacks.read_text().splitlines():
        frames, _, count = line.rpartition(" ")
        names = [_LINE.sub(")", frame) for frame in frames.split(";")]
        if names[-1] in _WAITING:
            continue
        own[names[-1]] += int(count)
        within.update(dict.fromkeys(names, int(count)))
    total = own.total()
    rows = [
        [name, f"{own[name] / total:.1%}", f"{spent / total:.1%}"]
        for name, spent in within.most_common(ROWS)
    ]
    report.say(f"{total} samples at {RATE_HZ} Hz: {stacks}")
    report.table(["where", "itself", "with what it calls"], rows)
