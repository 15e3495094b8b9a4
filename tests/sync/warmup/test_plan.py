"""Rates, quiet hours and budgets, without a clock."""

import datetime as dt
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.entry import Instant, Timestamp
from sync.warmup.plan import Budget, Prices, QuietHours, Rate, Tokens, seconds

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("90", 90), ("90s", 90), ("15m", 900), ("15min", 900), ("1.5h", 5400), ("7d", 604_800)],
)
def test_durations(text: str, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "0", "-1", "1w", "h", "1h30m", "1e3"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="write 90s"):
        seconds(text)


@pytest.mark.parametrize(("text", "per_call_s"), [("2/s", 0.5), ("30/min", 2.0), ("500/h", 7.2)])
def test_a_rate_spaces_calls(text: str, per_call_s: float) -> None:
    rate, now = Rate.read(text), Instant(100.0)
    assert rate.wait_s(now) == 0
    rate.take(now)
    assert rate.wait_s(now) == pytest.approx(per_call_s)
    assert rate.time_s(10) == pytest.approx(10 * per_call_s)


@pytest.mark.parametrize("text", ["", "2", "2/d", "0/s", "-1/s", "s"])
def test_what_is_no_rate(text: str) -> None:
    with pytest.raises(ValueError, match="write 2/s"):
        Rate.read(text)


def test_a_turn_that_was_not_needed_is_given_back() -> None:
    rate, now = Rate(2.0), Instant(100.0)
    rate.take(now)
    rate.give_back()
    assert rate.wait_s(now) == 0


def test_no_rate_no_waiting() -> None:
    rate = Rate()
    rate.take(Instant(5.0))
    assert (rate.wait_s(Instant(5.0)), rate.time_s(10)) == (0, None)


@given(st.lists(st.floats(0, 3), max_size=30), st.floats(0.1, 10))
def test_a_rate_is_never_exceeded(gaps: list[float], per_s: float) -> None:
    rate, now, taken = Rate(per_s), 0.0, []
    for gap in gaps:
        now += gap
        if not rate.wait_s(Instant(now)):
            rate.take(Instant(now))
            taken.append(now)
    for earlier, later in pairwise(taken):
        assert later - earlier >= 1 / per_s - 1e-6


def at(*when: int, zone: dt.tzinfo = BERLIN) -> Timestamp:
    return Timestamp(dt.datetime(*when, tzinfo=zone).timestamp())  # type: ignore[arg-type,misc]


def test_quiet_hours_by_the_clocks_of_a_zone() -> None:
    hours = QuietHours.read("01:00-06:00", BERLIN)
    assert hours.wait_s(at(2026, 11, 26, 1, 0)) == 0
    assert hours.wait_s(at(2026, 11, 26, 5, 59, 59)) == 0
    assert hours.wait_s(at(2026, 11, 26, 6, 0)) == 19 * 3600
    assert hours.wait_s(at(2026, 11, 26, 0, 59)) == 60
    assert hours.wait_s(at(2026, 11, 26, 0, 30, zone=dt.UTC)) == 0
    assert str(hours) == "01:00-06:00 Europe/Berlin"


def test_quiet_hours_over_midnight() -> None:
    hours = QuietHours.read("22:00-06:00", BERLIN)
    assert hours.wait_s(at(2026, 11, 26, 23, 0)) == hours.wait_s(at(2026, 11, 26, 3, 0)) == 0
    assert hours.wait_s(at(2026, 11, 26, 21, 0)) == 3600
    assert QuietHours.read("22:00-24:00", BERLIN).wait_s(at(2026, 11, 26, 23, 59)) == 0


def test_quiet_hours_follow_daylight_saving() -> None:
    """In 2026 Berlin skips an hour at 02:00 on 29 March, and has one twice on 25 October."""
    hours = QuietHours.read("02:30-04:00", BERLIN)
    before = at(2026, 3, 28, 23, 0)
    assert hours.wait_s(before) == 3.5 * 3600  # 02:30 does not exist: at 03:30 by the new clock
    assert hours.wait_s(at(2026, 10, 24, 23, 0)) == 3.5 * 3600
    assert QuietHours.read("05:00-06:00", BERLIN).wait_s(before) == 5 * 3600
    assert QuietHours.read("05:00-06:00", BERLIN).wait_s(at(2026, 10, 24, 23, 0)) == 7 * 3600


@given(
    st.floats(at(2026, 1, 1), at(2027, 1, 1)),
    st.integers(0, 1439),
    st.integers(0, 1439),
)
def test_after_the_wait_it_is_quiet(when: float, begin: int, end: int) -> None:
    if begin == end:
        return
    text = f"{begin // 60:02}:{begin % 60:02}-{end // 60:02}:{end % 60:02}"
    hours = QuietHours.read(text, BERLIN)
    now = Timestamp(when)
    for _ in range(3):  # hours that a change of clocks swallows are waited for once more
        now = Timestamp(now + hours.wait_s(now))
    assert hours.wait_s(now) == 0


@pytest.mark.parametrize("text", ["", "1-6", "25:00-06:00", "01:60-02:00", "01:00-01:00", "01:00"])
def test_what_are_no_hours(text: str) -> None:
    with pytest.raises(ValueError, match=r"write 01:00-06:00|never ends"):
        QuietHours.read(text)


def test_a_budget_counts_what_is_in_flight() -> None:
    budget = Budget(tokens_max=1000)
    estimate = budget.estimate(100, None)
    assert estimate == Tokens(100, 300)
    budget.reserve(estimate)
    assert budget.affords(estimate)
    budget.reserve(estimate)
    assert not budget.affords(estimate)
    budget.settle(estimate, Tokens(100, 20))
    assert budget.affords(estimate)
    assert budget.spent == Tokens(100, 20)


def test_an_answer_is_estimated_by_those_before_it() -> None:
    budget = Budget()
    for answer in (50, 150):
        budget.settle(Tokens(), Tokens(10, answer))
    assert budget.estimate(10, None) == Tokens(10, 100)
    assert budget.estimate(10, 30) == Tokens(10, 30)


def test_a_budget_in_dollars() -> None:
    budget = Budget(Prices(1.0, 10.0), usd_max=1.0)
    assert budget.affords(Tokens(0, 100_000))
    assert not budget.affords(Tokens(1, 100_000))
    budget.settle(Tokens(), Tokens(500_000, 10_000))
    assert budget.spent_usd == pytest.approx(0.6)
