"""The sentence about acknowledgement, tried: put, then kill -9, start: it is there, and whole.

Between the two is a second, ten times what is promised, so that a machine with other work does not
decide what comes out.

KILL_ROUNDS=200 tries longer. One round: a process stores in bursts, replaces, purges, and says what
it may be held to; it is killed when it has said so many as a seed chooses; the next look finds all
of that.
"""

import os
import signal
import subprocess
import sys
from itertools import islice
from pathlib import Path
from random import Random

from index.answers import Answers
from index.decision import DecisionSettings
from index.memory import MemorySettings
from index.store import StoreSettings
from tests.fakes.entries import DIMENSIONS, NOW, SHARED, key

ROUNDS = int(os.environ.get("KILL_ROUNDS", "3"))

WRITER = """
import sys, time
from collections import deque
from pathlib import Path
from random import Random

from index.answers import Answers
from index.decision import DecisionSettings
from index.entry import Purge
from index.memory import MemorySettings
from index.store import StoreSettings
from tests.fakes.entries import DIMENSIONS, Purger, entry, key, vector
from tests.index.test_kill9 import body

directory, first, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
settings = StoreSettings(checkpoint_bytes=1 << 20, tick_s=0.05)
answers = Answers.open(directory, settings, MemorySettings(max_bytes=1 << 20), DecisionSettings())
answers.similar.load("e", DIMENSIONS)
random, waiting, n, purger = Random(seed), deque(), first, Purger()
calm = seed % 2 == 0  # an answer now and then, whose group is itself; or more than a group holds
print("ready", flush=True)
while True:
    for _ in range(1 if calm else random.randrange(1, 60)):
        one = entry(n, body(n), question=f"what is number {n}?", seen=answers.begin())
        assert answers.put(one, vector(n))
        waiting.append((time.monotonic(), n))
        n += 1
    if random.random() < 0.1:
        gone = random.randrange(first, n)
        print("purging", gone, flush=True)
        answers.purge(purger(Purge(key=key(gone)), now=time.time()))
        print("purged", gone, flush=True)
    time.sleep(random.random() * (0.03 if calm else 0.01))
    while waiting and time.monotonic() - waiting[0][0] >= 1.0:
        print("put", waiting.popleft()[1], flush=True)
"""


def body(n: int) -> bytes:
    """What only `n` can have been answered with, of any length up to some pages."""
    return b"%d," % n * (n * 7919 % 2_000)


def test_what_was_acknowledged_is_there_after_kill_9(tmp_path: Path) -> None:
    random = Random(1)
    acknowledged: set[int] = set()
    doubtful: set[int] = set()
    purged: set[int] = set()
    first = 1
    for round_ in range(ROUNDS):
        lines = random.randrange(20, 60) * (30 if round_ % 2 else 1)  # in bursts, or calm
        said = run_until_killed(tmp_path, first, seed=round_, after=lines)
        for what, n in said:
            {"put": acknowledged, "purging": doubtful, "purged": purged}[what].add(n)
        acknowledged -= doubtful
        answers = Answers.open(tmp_path, StoreSettings(), MemorySettings(), DecisionSettings())
        try:
            assert answers.stats.store.set_aside == 0
            lost = {n for n in acknowledged if answers.fetch(SHARED, key(n), NOW) is None}
            assert not lost, f"round {round_}: {len(lost)} of {len(acknowledged)} lost"
            back = {n for n in purged if answers.fetch(SHARED, key(n), NOW) is not None}
            assert not back, f"round {round_}: purged and back"
            first = answers._store.last_id + 1_000_000
            for stored, _ in answers._store.hottest(1 << 30):
                n = int(stored.entry.key.strip(b"."))
                assert stored.entry.body == body(n), f"round {round_}: torn"
            answers.similar.load("e", DIMENSIONS)
            assert answers.stats.store.rotten == 0
            answers.check()
        finally:
            answers.close()
    assert purged


def run_until_killed(
    directory: Path, first: int, *, seed: int, after: int
) -> list[tuple[str, int]]:
    """What it said. `after`: lines."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(directory), str(first), str(seed)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    with process:
        said = "".join(islice(process.stdout, after))
        process.kill()
        said += process.stdout.read()
    assert process.wait() == -signal.SIGKILL
    complete = said[: said.rfind("\n") + 1].splitlines()
    return [(what, int(n)) for what, n in (line.split() for line in complete)]
