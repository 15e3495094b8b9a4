"""Weeks as scripted: what is learned of them, and what is not claimed to be known."""

from math import pi, sin
from random import Random

import pytest
from pydantic import TypeAdapter

from edge.outlook.history import (
    COVERED_MIN_S,
    GAP_S_MAX,
    HOUR_S,
    REMEMBERED_WEEKS,
    UTILISATION_MAX,
    WEEK_HOURS,
    Expected,
    History,
    Learned,
)
from index.entry import Timestamp

START = Timestamp(2_000_000 * HOUR_S)
"""Some hour's beginning."""
WEEK_S = WEEK_HOURS * HOUR_S
LOOK_S = 60.0


def pattern(hour: int) -> float:
    """What a node of an office town has, by the hour of its week: days, nights, an idle weekend."""
    day = 0.5 + 0.4 * sin((hour % 24 - 9) / 24 * 2 * pi)
    return day * (0.3 if hour % WEEK_HOURS // 24 >= 5 else 1.0)


def live(history: History, hours: range, noise: float = 0.0, seed: int = 1) -> Timestamp:
    """Let it see these hours, counted from START. Returns when they are over."""
    chance = Random(seed)
    now = Timestamp(START + hours.start * HOUR_S)
    for hour in hours:
        level = max(0.0, pattern(hour) + chance.uniform(-noise, noise))
        for _ in range(int(HOUR_S / LOOK_S)):
            now = Timestamp(now + LOOK_S)
            history.note(max(0.0, level + chance.uniform(-noise, noise)), now)
    return now


def steady(history: History, share: float | None, begins: float, seconds: float) -> None:
    for at in range(int(seconds / LOOK_S) + 1):
        history.note(share, Timestamp(begins + at * LOOK_S))


def utilisations(history: History, now: float, hours: int = 24) -> list[float | None]:
    return [one.utilisation for one in history.next(Timestamp(now), hours)]


@pytest.mark.parametrize("seed", range(5))
def test_a_known_pattern_is_recovered_from_noisy_weeks(seed: int) -> None:
    history = History()
    now = live(history, range(4 * WEEK_HOURS), noise=0.1, seed=seed)
    for at, one in enumerate(history.next(now, WEEK_HOURS)):
        assert one.begins == now + at * HOUR_S
        assert one.utilisation == pytest.approx(pattern(4 * WEEK_HOURS + at), abs=0.1)
        assert one.weeks == 4


def test_a_new_node_claims_nothing() -> None:
    assert history_of_an_hour(None) == Expected(Timestamp(START + WEEK_S), None)
    assert utilisations(History(), START) == [None] * 24


def history_of_an_hour(share: float | None, seconds: float = HOUR_S) -> Expected:
    """What is expected a week later, after one hour or a part of it."""
    history = History()
    steady(history, share, START, seconds)
    history.note(None, Timestamp(START + HOUR_S))
    return history.next(Timestamp(START + WEEK_S), 1)[0]


def test_one_hour_of_one_week_is_said_to_be_just_that() -> None:
    assert history_of_an_hour(0.5) == Expected(Timestamp(START + WEEK_S), 0.5, weeks=1)


def test_before_a_week_has_passed_other_days_stand_in_and_say_so() -> None:
    history = History()
    now = live(history, range(48))
    expected = history.next(now)
    assert [one.weeks for one in expected] == [0] * 24
    assert [one.days for one in expected] == [2] * 24
    assert expected[3].utilisation == pytest.approx(pattern(3))


def test_an_hour_that_was_hardly_seen_says_nothing() -> None:
    assert history_of_an_hour(0.9, COVERED_MIN_S - LOOK_S).utilisation is None
    assert history_of_an_hour(0.9, COVERED_MIN_S).utilisation == pytest.approx(0.9)


def test_a_crowd_of_a_minute_does_not_make_a_busy_hour() -> None:
    history = History()
    steady(history, 0.1, START, 1800)
    history.note(50.0, Timestamp(START + 1860))
    steady(history, 0.1, START + 1920, HOUR_S - 1920)
    (one,) = history.next(Timestamp(START + WEEK_S), 1)
    assert one.utilisation == pytest.approx(0.1 + (UTILISATION_MAX - 0.1) / 60)


def test_a_sleep_is_no_time_that_was_seen() -> None:
    history = History()
    history.note(1.0, START)
    history.note(1.0, Timestamp(START + GAP_S_MAX + 1))
    assert history.learned.covered_s == 0.0
    history.note(1.0, Timestamp(START + GAP_S_MAX + 11))
    assert history.learned.covered_s == pytest.approx(10.0)


def test_a_look_across_the_hour_counts_for_both() -> None:
    history = History()
    history.note(0.5, Timestamp(START - 20))
    history.note(0.5, Timestamp(START + 10))
    assert (history.learned.covered_s, history.learned.used_s) == (10.0, 5.0)


def test_a_clock_that_was_set_back_counts_no_second_twice() -> None:
    history = History()
    for _ in range(3):
        steady(history, 1.0, START, HOUR_S - LOOK_S)
    assert history.learned.covered_s <= HOUR_S
    steady(history, 1.0, START + HOUR_S, 1.0)
    steady(history, 0.0, START, HOUR_S)  # the same hour once more
    (one,) = history.next(Timestamp(START + WEEK_S), 1)
    assert one.utilisation == pytest.approx(1.0)
    assert one.weeks == 1


def test_a_habit_that_changes_is_learned_within_weeks() -> None:
    history = History()
    for week in range(12):
        steady(history, 0.2 if week < 6 else 0.8, START + week * WEEK_S, HOUR_S)
    (one,) = history.next(Timestamp(START + 12 * WEEK_S), 1)
    assert one.utilisation == pytest.approx(0.8, abs=0.1)
    assert one.weeks == 12


def test_one_odd_week_counts_for_less_than_the_others() -> None:
    history = History()
    for week in range(5):
        steady(history, 1.0 if week == 4 else 0.2, START + week * WEEK_S, HOUR_S)
    (one,) = history.next(Timestamp(START + 5 * WEEK_S), 1)
    assert one.utilisation == pytest.approx(0.44)


def test_what_was_not_seen_for_long_is_unknown_and_then_learned_anew() -> None:
    history = History()
    steady(history, 0.9, START, HOUR_S)
    last = Timestamp(START + REMEMBERED_WEEKS * WEEK_S)
    assert history.next(last, 1)[0].utilisation == pytest.approx(0.9)
    later = Timestamp(last + WEEK_S)
    assert history.next(later, 1)[0].utilisation is None
    steady(history, 0.1, later, HOUR_S)
    (one,) = history.next(Timestamp(later + WEEK_S), 1)
    assert one.utilisation == pytest.approx(0.1)
    assert one.weeks == 1


def test_a_clock_that_was_ahead_leaves_nothing_behind() -> None:
    history = History()
    steady(history, 0.9, START + 4 * WEEK_S, HOUR_S)
    assert utilisations(history, START) == [None] * 24
    steady(history, 0.1, START, HOUR_S)
    assert history.next(Timestamp(START + WEEK_S), 1)[0].utilisation == pytest.approx(0.1)


def test_time_without_upstreams_says_nothing_of_usual_times() -> None:
    history = History()
    steady(history, 0.5, START, 1800)
    steady(history, None, START + 1800 + LOOK_S, 1800 - 2 * LOOK_S)
    history.note(0.5, Timestamp(START + HOUR_S))
    (one,) = history.next(Timestamp(START + WEEK_S), 1)
    assert one.utilisation == pytest.approx(0.5)


def test_a_restart_in_the_middle_of_an_hour_loses_none_of_it() -> None:
    kind = TypeAdapter(Learned)
    history = History()
    steady(history, 0.4, START, 1800)
    again = History(kind.validate_json(kind.dump_json(history.learned)))
    steady(again, 0.8, START + 1800, 1800)
    assert again.next(Timestamp(START + WEEK_S), 1)[0].utilisation == pytest.approx(0.6)
    assert repr(again) == "<History 1 of 168 hours known>"
