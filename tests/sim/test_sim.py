"""A fleet under every fault at once, many times over. `SIM_SEED=5 pytest tests/sim` replays one.

`SIM_SEED=1000-1999` runs a thousand others.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sim.world import World

SEEDS = 200


def seeds() -> list[int]:
    first, _, last = os.environ.get("SIM_SEED", f"0-{SEEDS - 1}").partition("-")
    return list(range(int(first), int(last or first) + 1))


@pytest.mark.parametrize("seed", seeds())
def test_a_fleet_agrees_and_nothing_comes_back(seed: int, directory: Path) -> None:
    World(seed, directory).run()


REPLAY = """
import sys
from pathlib import Path
from tests.sim.world import World
world = World(int(sys.argv[1]), Path(sys.argv[2]))
world.run()
print(world.trace)
"""


@pytest.mark.parametrize("seed", [3, 12])
def test_one_seed_is_one_run_byte_for_byte(seed: int, directory: Path) -> None:
    traces = set()
    for hash_seed in ("0", "1", "4242"):
        ran = subprocess.run(
            [sys.executable, "-c", REPLAY, str(seed), str(directory / hash_seed)],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            check=True,
            capture_output=True,
            text=True,
        )
        traces.add(ran.stdout)
    assert len(traces) == 1
    assert len(traces.pop()) == 33
