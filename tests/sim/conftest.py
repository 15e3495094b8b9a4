"""Disks that are thrown away."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

_MEMORY = Path("/dev/shm")


@pytest.fixture
def directory() -> Iterator[Path]:
    """In memory, where there is such a thing."""
    made = Path(tempfile.mkdtemp(prefix="sim-", dir=_MEMORY if _MEMORY.is_dir() else None))
    yield made
    shutil.rmtree(made)
