"""A fleet under every fault at once, many times over. `SIM_SEED=5 pytest tests/sim` replays one."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sim.world import World

SEEDS = 200
_MEMORY = Path("/dev/shm")


@pytest.fixture
def directory() -> Iterator[Path]:
    """In memory where there is such a thing: these disks are thrown away."""
    made = Path(tempfile.mkdtemp(prefix="sim-", dir=_MEMORY if _MEMORY.is_dir() else None))
    yield made
    shutil.rmtree(made)


def seeds() -> list[int]:
    first, _, last = os.environ.get("SIM_SEED", f"0-{SEEDS - 1}").partition("-")
    return list(range(int(first), int(last or first) + 1))


@pytest.mark.parametrize("seed", seeds())
def test_a_fleet_agrees_and_nothing_comes_back(seed: int, directory: Path) -> None:
    World(seed, directory).run()
