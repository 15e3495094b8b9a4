"""Which upstream next: the operator's order, and a breaker that asks again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.routing import (
    FAILURES_TO_OPEN,
    OPEN_S_FIRST,
    OPEN_S_MAX,
    Health,
    Upstream,
    UpstreamSettings,
    order,
)
from index.entry import Instant

NOW = Instant(1000.0)


def after(seconds: float) -> Instant:
    return Instant(NOW + seconds)


def upstream(name: str, *models: str) -> Upstream:
    return Upstream(UpstreamSettings(f"http://{name}"), name, frozenset(models))


def names(upstreams: list[Upstream]) -> list[str]:
    return [one.name for one in upstreams]


def broken(health: Health, now: Instant = NOW, failures: int = FAILURES_TO_OPEN) -> Health:
    for _ in range(failures):
        health.failed(now)
    return health


def test_the_operators_order_holds_among_those_that_serve_the_model() -> None:
    everything = [upstream("a", "m"), upstream("b"), upstream("c", "n"), upstream("d", "m", "n")]
    assert names(order(everything, "m", NOW)) == ["a", "b", "d"]
    assert names(order(everything, "n", NOW)) == ["b", "c", "d"]
    assert names(order(everything, "other", NOW)) == ["b"]
    assert order([upstream("a", "m")], "other", NOW) == []


def test_the_breaker_opens_at_the_fifth_failure_in_a_row() -> None:
    health = broken(Health(), failures=FAILURES_TO_OPEN - 1)
    assert health.available(NOW)
    health.failed(NOW)
    assert not health.available(NOW)
    assert not health.available(after(OPEN_S_FIRST - 0.01))
    assert health.available(after(OPEN_S_FIRST))


def test_failures_with_a_success_between_do_not_open_it() -> None:
    health = Health()
    for _ in range(10):
        broken(health, failures=FAILURES_TO_OPEN - 1)
        health.succeeded()
    assert health.available(NOW)


def test_one_request_probes_and_its_outcome_decides() -> None:
    health = broken(Health())
    later = after(OPEN_S_FIRST)
    assert health.available(later)
    health.asked()
    assert not health.available(later)
    health.failed(later)
    assert not health.available(Instant(later + 2 * OPEN_S_FIRST - 0.01))
    much_later = Instant(later + 2 * OPEN_S_FIRST)
    assert health.available(much_later)
    health.asked()
    health.succeeded()
    assert health.available(much_later)
    assert health == Health(open_until=health.open_until)


def test_a_probe_whose_client_left_is_no_outcome() -> None:
    health = broken(Health())
    health.asked()
    health.abandoned()
    assert health.available(after(OPEN_S_FIRST))
    assert not health.available(NOW)


def test_it_stays_open_twice_as_long_each_time_up_to_a_minute() -> None:
    health, now, waits = broken(Health()), NOW, []
    for _ in range(8):
        waits.append(health.open_until - now)
        now = health.open_until
        health.asked()
        health.failed(now)
    assert waits == [5, 10, 20, 40, OPEN_S_MAX, OPEN_S_MAX, OPEN_S_MAX, OPEN_S_MAX]


def test_a_closed_breaker_lets_everybody_through() -> None:
    health = Health()
    for _ in range(10):
        health.asked()
        assert health.available(NOW)


def test_the_open_are_passed_by_unless_all_are() -> None:
    a, b = upstream("a"), upstream("b")
    broken(a.health)
    assert names(order([a, b], "m", NOW)) == ["b"]
    broken(b.health)
    assert names(order([a, b], "m", NOW)) == ["a"]
    assert names(order([a, b], "m", after(OPEN_S_FIRST))) == ["a", "b"]
    a.health.asked()
    assert names(order([a, b], "m", after(OPEN_S_FIRST))) == ["b"]


@pytest.mark.parametrize("down", [(), ("a",), ("b",), ("a", "b")])
def test_one_that_serves_the_model_is_always_asked(down: tuple[str, ...]) -> None:
    everything = [upstream("a", "m"), upstream("b", "m")]
    for one in everything:
        if one.name in down:
            broken(one.health)
    assert order(everything, "m", NOW)


@given(st.lists(st.sampled_from(["asked", "failed", "succeeded", "abandoned", "wait"])))
def test_it_is_never_shut_for_good(events: list[str]) -> None:
    """Whatever happened: once no probe is out, it is asked again within a minute."""
    health, now = Health(), 1000.0
    for event in events:
        now += 1
        if event == "failed":
            health.failed(Instant(now))
        elif event != "wait":
            getattr(health, event)()
    health.abandoned()
    assert health.available(Instant(now + OPEN_S_MAX))
    assert health.open_s <= OPEN_S_MAX
