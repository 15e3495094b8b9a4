"""The small parts: limit, budget, allowances, fading counts, maintenance."""

from datetime import UTC, datetime, timedelta, timezone
from math import inf
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.routing.allowances import Allowances
from edge.routing.budget import BALANCE_MAX, Budget
from edge.routing.ceiling import Ceiling
from edge.routing.headers import Allowance
from edge.routing.limit import IN_USE, LIMIT_FIRST, Limit
from edge.routing.maintenance import windows, wrong
from edge.routing.recent import Recent
from edge.routing.settings import LIMIT_MIN, MaintenanceSettings
from index.entry import Instant, Timestamp

NOW = Instant(1000.0)


def after(seconds: float) -> Instant:
    return Instant(NOW + seconds)


# The limit


def test_the_limit_grows_while_answers_take_as_long_as_usual() -> None:
    limit = Limit(512)
    for _ in range(100):
        limit.answered(0.3, 0.25, int(limit.now))
    assert limit.now > 3 * LIMIT_FIRST


def test_it_shrinks_to_its_floor_as_they_take_longer() -> None:
    limit = Limit(512)
    for _ in range(100):
        limit.answered(2.5, 0.25, int(limit.now))
    assert limit.now == pytest.approx(LIMIT_MIN, rel=0.05)


def test_it_stays_where_little_of_it_is_used() -> None:
    limit = Limit(512)
    for _ in range(100):
        limit.answered(0.25, 0.25, int(IN_USE * limit.now) - 1)
        limit.answered(2.5, 0.25, int(IN_USE * limit.now) - 1)
    assert limit.now == LIMIT_FIRST


def test_a_refusal_lowers_it_and_the_operator_bounds_it() -> None:
    limit = Limit(512)
    limit.refused()
    assert limit.now < LIMIT_FIRST
    small = Limit(2)
    small.answered(0.25, 0.25, 2)
    assert small.now == 2


# The ceiling


def test_it_takes_as_many_as_are_left_when_it_has_refused() -> None:
    ceiling = Ceiling()
    assert ceiling.now(NOW) == inf
    for left in range(31, 7, -1):
        assert ceiling.refused(left, NOW, after(0.1))
    assert ceiling.now(after(0.2)) == 8


def test_if_none_is_left_it_was_not_for_their_number() -> None:
    ceiling = Ceiling()
    for left in range(9, -1, -1):
        assert ceiling.refused(left, NOW, after(0.1)) == (left > 0)
    assert ceiling.now(after(0.2)) == inf


def test_it_is_tried_again_and_more_rarely_each_time_that_it_holds() -> None:
    ceiling, now = Ceiling(), NOW
    ceiling.refused(8, now, now)
    waits = []
    for _ in range(8):
        began = now
        while ceiling.now(now) < 9:
            now = Instant(now + 0.5)
        waits.append(now - began)
        ceiling.refused(8, now, now)
    assert waits == sorted(waits)
    assert 10 < waits[0] < 20
    assert 300 < waits[-1] < 340
    ceiling.refused(50, now, now)  # it takes more than it did: what was known is old
    assert ceiling.now(after(10_000)) > 100


# Budgets


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 10)), max_size=200))
def test_no_more_is_spent_than_was_earned(events: list[tuple[bool, float]]) -> None:
    budget, now, spent, earned = Budget(0.1, per_s=1.0, balance=10.0), 0.0, 0, 10.0
    for spends, passes_s in events:
        now += passes_s
        earned += passes_s
        if spends:
            spent += budget.spend(Instant(now))
        else:
            budget.earn(Instant(now))
            earned += 0.1
        assert spent <= earned + 1.1
        assert 0 <= budget.balance <= BALANCE_MAX


# Rate limits


def left(remaining: float, limit: float | None = 100, resets_in_s: float = 60) -> Allowances:
    allowances = Allowances()
    allowances.heard((Allowance("requests", remaining, limit, resets_in_s),), NOW)
    return allowances


def test_what_is_left_grows_to_the_whole_by_the_reset() -> None:
    allowances = left(0)
    assert [allowances.share(after(s)) for s in (0, 30, 60, 600)] == [0, 0.5, 1, 1]
    assert allowances.empty_for(after(20)) == 40
    assert left(1).empty_for(NOW) == 0


def test_the_scarcest_kind_counts() -> None:
    allowances = left(90)
    allowances.heard((Allowance("tokens", 5, 100, 60),), NOW)
    assert allowances.share(NOW) == 0.05


def test_without_a_limit_the_most_that_was_seen_stands_for_it() -> None:
    allowances = left(200, limit=None)
    allowances.heard((Allowance("requests", 10, None, 60),), NOW)
    assert allowances.share(NOW) == 0.05


@pytest.mark.parametrize(
    ("remaining", "low", "high"), [(50, 1, 1), (10, 1, 1), (5, 0.4, 0.6), (0, 0, 0)]
)
def test_below_a_tenth_requests_go_elsewhere_in_proportion(
    remaining: float, low: float, high: float
) -> None:
    allowances, chance = left(remaining), Random(3)
    taken = sum(allowances.spares(NOW, chance) for _ in range(1000)) / 1000
    assert low <= taken <= high


# Counts that fade


def test_a_failure_weighs_little_among_many_and_much_alone() -> None:
    busy, idle = Recent(10), Recent(10)
    for number in range(400):
        busy.note(after(number / 40), good=True)
    for one in (busy, idle):
        one.note(after(10), good=False)
    assert busy.share_bad(after(10)) < 0.01
    assert idle.share_bad(after(10)) == 0.5
    assert idle.share_bad(after(60)) < 0.01


# Maintenance

SUNDAY = datetime(2026, 11, 1, 2, tzinfo=UTC)


def window(every: str = "", hours: float = 2) -> MaintenanceSettings:
    return MaintenanceSettings("one", SUNDAY, SUNDAY + timedelta(hours=hours), every)  # type: ignore[arg-type]


def at(**later: float) -> Timestamp:
    return Timestamp((SUNDAY + timedelta(**later)).timestamp())


@pytest.mark.parametrize(
    ("every", "time", "begins_in_h"),
    [
        *(("", at(hours=-1), 1), ("", at(), 0), ("", at(hours=1.9), -1.9)),
        *(("day", at(hours=-1), 1), ("day", at(hours=2), 22), ("day", at(days=400, hours=1), -1)),
        *(("week", at(hours=3), 7 * 24 - 3), ("week", at(days=7), 0)),
    ],
)
def test_the_window_under_way_or_the_next(every: str, time: Timestamp, begins_in_h: float) -> None:
    (found,) = windows([window(every)], time)
    assert (found.begins - time) / 3600 == pytest.approx(begins_in_h)
    assert found.holds(time) is (begins_in_h <= 0)


def test_one_that_is_over_is_not_told() -> None:
    assert windows([window()], at(hours=2)) == []


def test_an_offset_is_the_operators_own() -> None:
    east = timezone(timedelta(hours=2))
    begins = SUNDAY.replace(tzinfo=east)
    one = MaintenanceSettings("one", begins, begins + timedelta(hours=1))
    (found,) = windows([one], at(days=-1))
    assert found.begins == at(hours=-2)


def test_what_is_wrong_with_a_window_is_said() -> None:
    assert wrong(window()) is None
    assert wrong(window(hours=0)) == "ends must be after begins"
    assert "never end" in str(wrong(window("day", hours=24)))
