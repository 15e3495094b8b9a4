"""Three sites: Frankfurt in the middle, 40 ms from one and 80 ms from the other, losing packets."""

from collections.abc import Iterator

import pytest

from tests.fleet.wan import Wan, unavailable, wan

LOSS = 0.01


@pytest.fixture(scope="module")
def net() -> Iterator[Wan]:
    if why := unavailable():
        pytest.skip(why)
    with wan(("fra", "ams", "sin")) as made:
        made.set("fra", "ams", delay=0.04, jitter=0.001, loss=LOSS)
        made.set("fra", "sin", delay=0.08, jitter=0.001, loss=LOSS)
        made.set("ams", "sin", delay=0.08, jitter=0.001, loss=LOSS)
        yield made
