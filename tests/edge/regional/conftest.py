"""A real server of either kind, where it is installed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.redis import RedisServer, installed, redis_server


@pytest.fixture(params=["redis", "valkey"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(installed(request.param), tmp_path / "redis") as one:
        yield one
