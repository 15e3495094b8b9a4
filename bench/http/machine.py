"""Cores, and what a process and its children took of them, as the kernel counts it."""

import os
import platform
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE, CLIENT_CORE = CORES[0], CORES[-1]


def describe() -> str:
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    load = " ".join(f"{one:.1f}" for one in os.getloadavg())
    shared = "" if len(CORES) > 1 else " (server and client share the only core: figures suffer)"
    return (
        f"{model}, {len(CORES)} cores{shared}, {platform.platform()}, "
        f"Python {platform.python_version()}, load {load}"
    )


def stay_apart() -> None:
    """This process, and the load generators it starts, leave the server's core alone."""
    os.sched_setaffinity(0, {CLIENT_CORE})


def start(
    command: Sequence[str | Path], log: IO[bytes], env: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """`command` on the server's core."""
    pinned = ["taskset", "-c", str(SERVER_CORE), *map(str, command)]
    return subprocess.Popen(
        pinned,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        env={**os.environ, **env},
        process_group=0,
    )


def tree(pid: int) -> Iterator[int]:
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in children.read_text().split():
                yield from tree(int(child))


def cpu_s(pid: int) -> float:
    """CPU time of a process with its threads and children, in nanosecond steps."""
    return _schedstat_s(pid, 0)


def waited_s(pid: int) -> float:
    """How long they could have run and had no processor."""
    return _schedstat_s(pid, 1)


def _schedstat_s(pid: int, column: int) -> float:
    total = 0
    for member in tree(pid):
        for schedstat in Path(f"/proc/{member}/task").glob("*/schedstat"):
            with suppress(OSError):  # a thread that ended meanwhile
                total += int(schedstat.read_text().split()[column])
    return total / 1e9


def threads_s(pid: int) -> dict[int, float]:
    """CPU time of each thread of one process; the main thread has the process's own number."""
    return {
        int(task.name): int((task / "schedstat").read_text().split()[0]) / 1e9
        for task in Path(f"/proc/{pid}/task").iterdir()
    }


def settled_cpu_s(pid: int) -> float:
    """The same, once what goes on behind the last answer (writing to disk) is over."""
    before = cpu_s(pid)
    for _ in range(100):
        time.sleep(0.05)
        after = cpu_s(pid)
        if after - before < 0.0002:
            return after
        before = after
    return before


def memory_mib(pid: int) -> tuple[float, float]:
    """Resident set (VmRSS) and proportional share (PSS) of one process, children apart."""
    kib = {"Rss": 0, "Pss": 0}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name in kib:
            kib[name] = int(rest.split()[0])
    return kib["Rss"] / 1024, kib["Pss"] / 1024
