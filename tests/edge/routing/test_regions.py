"""Upstreams in trouble, simulated: where requests go, how long they wait, and that they come back.

Nothing here looks at the machine's clock: a seed replays a run.
"""

from collections.abc import Sequence
from random import Random

import pytest

from tests.fakes.regions import (
    KINDS,
    Asked,
    Kind,
    Ours,
    Region,
    Trouble,
    World,
    part,
    quantile,
    share,
)

REGIONS = (Region("a", 0.25), Region("b", 0.40), Region("c", 0.55), Region("d", 0.80))
SEEDS = range(2)


def run(
    seed: int,
    *troubles: Trouble,
    until_s: float = 200,
    rate: float = 40,
    regions: Sequence[Region] = REGIONS,
) -> tuple[World, Ours, list[Asked]]:
    world, ours = World(regions, troubles, seed, rate), Ours(regions, seed)
    asked = world.run(ours, until_s)
    return world, ours, asked


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("rate", [2, 40, 90])
def test_in_health_the_nearest_answers(seed: int, rate: float) -> None:
    _, _, asked = run(seed, rate=rate, until_s=100)
    healthy = part(asked, 20, 95)
    assert share(healthy, "a") > 0.9
    assert quantile(healthy, 0.99) < 0.9


@pytest.mark.parametrize("seed", SEEDS)
def test_one_that_gets_slow_is_left_and_is_returned_to(seed: int) -> None:
    _, _, asked = run(seed, Trouble("a", 50, 120, "slow", 10), until_s=160)
    during, late = part(asked, 55, 120), part(asked, 125, 155)
    assert share(part(asked, 50, 60), "a") < 0.15
    assert share(during, "a") < 0.03
    assert (quantile(during, 0.5), quantile(during, 0.99)) < (0.45, 1.2)
    assert share(part(asked, 130, 155), "a") > 0.85
    assert quantile(late, 0.99) < 0.8


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("rate", "regions"), [(10, REGIONS), (40, REGIONS), (40, REGIONS[:2])])
def test_traffic_follows_a_threefold_change_within_ten_seconds(
    seed: int, rate: float, regions: Sequence[Region]
) -> None:
    _, _, asked = run(
        seed, Trouble("a", 60, 120, "slow", 3), until_s=160, rate=rate, regions=regions
    )
    assert share(part(asked, 50, 60), "a") > 0.85
    assert share(part(asked, 70, 120), "a") < 0.15
    assert share(part(asked, 130, 155), "a") > 0.85


@pytest.mark.parametrize("seed", SEEDS)
def test_retry_after_is_obeyed(seed: int) -> None:
    world, ours, asked = run(seed, Trouble("a", 50, 100, "limited", 20), until_s=140)
    refusals = [time for time, _, status in world.failures if status == "429"]
    bursts = [time for time in refusals if time > 50.5]
    assert len(refusals) - len(bursts) <= 12  # all that were on their way at that moment
    assert 1 <= len(bursts) <= 4  # one each time it may be asked again
    assert min(bursts) >= 70
    assert all(one.first_s is not None for one in part(asked, 50, 100))
    assert share(part(asked, 125, 135), "a") > 0.7
    assert ours.pool.upstreams[0].breaker.failures == 0


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", ["down", "hangs"])
def test_an_outage_costs_no_request_and_few_are_tried(seed: int, kind: Kind) -> None:
    world, _, asked = run(seed, Trouble("a", 50, 100, kind, 1), until_s=150)
    during = part(asked, 50, 100)
    assert all(one.first_s is not None for one in part(asked, 0, 135))
    # Those that hang are all that were sent before silence told; then one for each trial.
    assert sum("a" in one.tries for one in during) < (20 if kind == "down" else 60)
    assert quantile(during, 0.5) < 0.5
    assert share(part(asked, 125, 145), "a") > 0.7
    assert len(world.failures) < 80


@pytest.mark.parametrize("seed", SEEDS)
def test_one_that_fails_now_and_then_loses_most_of_its_requests(seed: int) -> None:
    _, _, asked = run(seed, Trouble("a", 40, 200, "flaky", 0.3), until_s=200)
    during = part(asked, 60, 195)
    assert share(during, "a") < 0.2
    assert sum(one.first_s is None for one in during) < 0.002 * len(during)


@pytest.mark.parametrize("seed", SEEDS)
def test_all_that_fail_alike_all_go_on_being_asked(seed: int) -> None:
    everywhere = [Trouble(region.name, 20, 100, "flaky", 0.2) for region in REGIONS]
    _, ours, asked = run(seed, *everywhere, until_s=100)
    assert not any(one.ejections for one in ours.pool.upstreams)
    answered = [one for one in part(asked, 20, 95) if one.first_s is not None]
    assert len(answered) > 0.75 * len(part(asked, 20, 95))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_crowd_is_spread_and_not_chased_from_one_to_the_next(seed: int) -> None:
    """Twice what the nearest can bear, and two thirds of what all can."""
    _, _, asked = run(seed, rate=200, until_s=100)
    crowd = part(asked, 20, 95)
    assert quantile(crowd, 0.5) < 0.6
    assert quantile(crowd, 0.99) < 2.5
    assert {one.by for one in crowd} >= {"a", "b", "c"}


@pytest.mark.parametrize("seed", range(6))
def test_whatever_happens_nobody_is_forgotten_and_all_comes_back(seed: int) -> None:
    """Trouble is drawn: who, when, what. Safety throughout, then peace, then the nearest again."""
    chance = Random(seed)
    regions = (*REGIONS[: chance.randint(2, 4)], Region("e", 1.0, 8, "secondary"))
    troubles = []
    for _ in range(chance.randint(1, 6)):
        begins_s = chance.uniform(10, 90)
        kind = chance.choice(KINDS)
        amount: dict[Kind, float] = {
            "slow": chance.uniform(2, 20),
            "limited": chance.uniform(1, 15),
            "flaky": 0.5,
        }
        troubles.append(
            Trouble(
                chance.choice(regions).name,
                begins_s,
                begins_s + chance.uniform(1, 40),
                kind,
                amount.get(kind, 1),
            )
        )
    rate = chance.choice((5, 20, 40))
    _, ours, asked = run(seed, *troubles, until_s=260, rate=rate, regions=regions)
    ours.pool.check()
    peace = part(asked, 200, 245)
    assert all(one.first_s is not None for one in peace), troubles
    assert share(peace, "a") > 0.8, troubles
    assert quantile(peace, 0.99) < 1.0, troubles


def test_a_seed_replays_a_run() -> None:
    def trace() -> list[tuple[float, float | None, str]]:
        trouble = Trouble("a", 20, 40, "flaky", 0.5)
        return [(one.at, one.first_s, one.by) for one in run(7, trouble, until_s=60)[2]]

    assert trace() == trace()
