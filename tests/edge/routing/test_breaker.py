"""May an upstream be asked: it is shut for a while, tried by one, and never shut for good."""

from hypothesis import given
from hypothesis import strategies as st

from edge.routing.breaker import (
    FAILURES_TO_OPEN,
    OPEN_S_FIRST,
    OPEN_S_MAX,
    RECOVERY_S,
    REST_S_FIRST,
    REST_S_MAX,
    Breaker,
)
from index.entry import Instant

NOW = Instant(1000.0)


def after(seconds: float) -> Instant:
    return Instant(NOW + seconds)


def broken(now: Instant = NOW, failures: int = FAILURES_TO_OPEN) -> Breaker:
    breaker = Breaker()
    for _ in range(failures):
        breaker.failed(now, now)
    return breaker


def test_it_opens_at_the_fifth_failure_in_a_row() -> None:
    breaker = broken(failures=FAILURES_TO_OPEN - 1)
    assert breaker.lets(NOW)
    breaker.failed(NOW, NOW)
    assert not breaker.lets(after(OPEN_S_FIRST - 0.01))
    assert breaker.lets(after(OPEN_S_FIRST))


def test_few_failures_among_many_answers_do_not_open_it() -> None:
    breaker = Breaker()
    for number in range(200):
        breaker.answers(after(number), after(number))
        breaker.succeeded(after(number))
        if number % 3 == 0:
            breaker.failed(after(number), after(number))
        assert breaker.closed


def test_more_failures_than_answers_open_it_though_none_is_in_a_row() -> None:
    breaker = Breaker()
    for number in range(FAILURES_TO_OPEN):
        moment = after(number / 10)
        breaker.failed(moment, moment)
        assert breaker.closed is (number < FAILURES_TO_OPEN - 1)
        if number % 2:
            breaker.answers(moment, moment)
            breaker.succeeded(moment)


def test_one_that_begins_every_answer_and_ends_none_opens() -> None:
    breaker = Breaker()
    for number in range(FAILURES_TO_OPEN):
        moment = after(number)
        breaker.answers(moment, moment)
        breaker.failed(moment, moment)
    assert not breaker.closed


def test_what_was_under_way_when_it_opened_says_nothing_of_later() -> None:
    breaker = broken(after(1))
    breaker.answers(NOW, after(2))
    breaker.succeeded(NOW)
    assert not breaker.lets(after(2))
    for _ in range(20):
        breaker.failed(NOW, after(3))
    assert breaker.open_s == OPEN_S_FIRST
    assert breaker.lets(after(1 + OPEN_S_FIRST))


def test_one_request_probes_and_its_first_token_closes_it() -> None:
    breaker, later = broken(), after(OPEN_S_FIRST)
    breaker.asked()
    assert not breaker.lets(later)
    breaker.answers(later, later)
    assert breaker.lets(later)
    assert breaker.recovered_for(Instant(later + 1)) == 1
    assert breaker.recovered_for(Instant(later + RECOVERY_S)) > 1e9


def test_a_probe_whose_client_left_is_no_outcome() -> None:
    breaker = broken()
    breaker.asked()
    breaker.abandoned()
    assert breaker.lets(after(OPEN_S_FIRST))
    assert not breaker.lets(NOW)


def test_it_stays_open_twice_as_long_each_time_up_to_a_limit() -> None:
    breaker, waits = broken(), []
    for _ in range(5):
        waits.append(breaker.open_s)
        now = breaker.open_until
        breaker.asked()
        breaker.failed(now, now)
    assert waits == [5, 10, OPEN_S_MAX, OPEN_S_MAX, OPEN_S_MAX]


def test_one_that_says_when_rests_until_then() -> None:
    breaker = Breaker()
    breaker.refused(NOW, NOW, 20.0)
    assert not breaker.lets(after(19.9))
    breaker.refused(NOW, after(1), 30.0)  # asked at the same time, told later
    assert not breaker.lets(after(30.9))
    assert breaker.lets(after(31))
    breaker.asked()
    assert not breaker.lets(after(31))
    assert breaker.failures == 0


def test_one_that_does_not_say_is_left_alone_longer_each_time() -> None:
    breaker, now, waits = Breaker(), NOW, []
    for _ in range(7):
        breaker.refused(now, now, None)
        breaker.refused(Instant(now - 0.1), now, None)  # that one was under way
        waits.append(breaker.open_until - now)
        now = breaker.open_until
    assert waits == [REST_S_FIRST, 2, 4, 8, 16, REST_S_MAX, REST_S_MAX]


@given(st.lists(st.sampled_from(["asked", "failed", "answers", "refused", "abandoned", "wait"])))
def test_it_is_never_shut_for_good(events: list[str]) -> None:
    """Whatever happened: once no probe is out, it is asked again within half a minute."""
    breaker, now = Breaker(), 1000.0
    for event in events:
        now += 1
        moment = Instant(now)
        match event:
            case "asked" | "abandoned":
                getattr(breaker, event)()
            case "failed" | "answers":
                getattr(breaker, event)(moment, moment)
            case "refused":
                breaker.refused(moment, moment, None)
            case _:
                pass
    breaker.abandoned()
    assert breaker.lets(Instant(now + max(OPEN_S_MAX, REST_S_MAX)))
