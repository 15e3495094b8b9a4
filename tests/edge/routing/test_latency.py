"""What is expected of an upstream: trouble is seen soon, forgotten slowly, and changes little of
what is known of it when it is well."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.routing.latency import FORGET_S, LENGTHS_BYTES, UNKNOWN_S, Latency, Track
from index.entry import Instant

NOW = Instant(1000.0)


def after(seconds: float) -> Instant:
    return Instant(NOW + seconds)


def fed(ttft_s: float, rate: float, seconds: float, track: Track | None = None) -> Track:
    """A track after so long with so many answers a second, spread as real ones are."""
    track, chance = track or Track(), Random(7)
    start = track.at or NOW
    for number in range(1, int(rate * seconds) + 1):
        track.observe(ttft_s * chance.lognormvariate(0, 0.26), 1, Instant(start + number / rate))
    return track


@pytest.mark.parametrize("rate", [0.2, 2, 40, 400])
def test_it_is_about_what_is_measured_at_any_rate(rate: float) -> None:
    track = fed(0.4, rate, 200)
    assert track.at is not None
    low, high = (0.32, 0.5) if rate > 1 else (0.2, 0.8)  # few answers: about as the last was
    assert low < track.expect(track.at) < high
    assert 0.25 < track.usual_s < 0.45


def test_a_few_slow_answers_are_enough_to_leave() -> None:
    track = fed(0.25, 1, 100)
    for number in range(1, 4):
        track.observe(0.75, 1, after(100 + number))
    assert track.expect(after(103)) > 0.4


def test_without_answers_it_is_again_what_it_was_when_well() -> None:
    track = fed(2.5, 1, 30, fed(0.25, 10, 100))
    assert track.at is not None
    bad = track.expect(track.at)
    assert bad > 1.5
    assert track.expect(Instant(track.at + FORGET_S)) < 0.5 * bad
    assert track.expect(Instant(track.at + 10 * FORGET_S)) == pytest.approx(track.usual_s, rel=0.01)


@pytest.mark.parametrize("rate", [0.2, 40, 400])
def test_a_minute_of_trouble_hardly_lifts_what_is_usual(rate: float) -> None:
    track = fed(0.25, rate, 200)
    before = track.usual_s
    fed(2.5, rate, 60, track)
    assert before < track.usual_s < 1.5 * before


def test_what_a_queue_adds_is_not_taken_for_the_upstreams_own() -> None:
    track = Track()
    for number in range(100):
        track.observe(1.2, 3.0, after(number))
    assert track.expect(after(99)) == pytest.approx(0.4, rel=0.01)


def test_one_of_a_hundred_is_late() -> None:
    track, chance = fed(0.3, 40, 100), Random(1)
    late = sum(0.3 * chance.lognormvariate(0, 0.26) > track.tail_s for _ in range(2000))
    assert 2 < late < 120


def test_lengths_of_prompts_are_told_apart() -> None:
    latency = Latency()
    assert latency.of(1).expect(NOW) == UNKNOWN_S
    latency.observe(10, 0.2, 1, NOW)
    assert latency.of(LENGTHS_BYTES[-1] + 1).expect(NOW) == 0.2  # for want of a better guess
    latency.observe(LENGTHS_BYTES[-1] + 1, 3.0, 1, NOW)
    assert latency.of(10).expect(NOW) == 0.2
    assert latency.of(LENGTHS_BYTES[1] + 1).expect(NOW) == 3.0


@given(st.lists(st.tuples(st.floats(0, 1e4), st.floats(1, 100), st.floats(0, 1e5)), max_size=50))
def test_whatever_is_measured_it_stays_finite_and_positive(
    seen: list[tuple[float, float, float]],
) -> None:
    track, now = Track(), 0.0
    for ttft_s, load, passes_s in seen:
        now += passes_s
        track.observe(ttft_s, load, Instant(now))
        for value in (track.expect(Instant(now)), track.usual_s, track.tail_s):
            assert 0 < value < 1e9
