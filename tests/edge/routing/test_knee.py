"""How many at a time get the most done: found with servers that nothing is known of, and no more is
taken from those that are slow for another reason. Simulated, see tests/fakes/crowd.py."""

from dataclasses import replace
from math import inf

import pytest

from edge.routing.knee import ANSWERS_MIN, HOLD_S, Knee
from index.entry import Instant
from tests.fakes.crowd import Crowd, Over, Server, alone, batches, shares, thrashes

SEEDS = range(3)
SPREAD = 0.3


def rises(before: float, after: float, at_s: float = 60.0) -> Over:
    return lambda now: before if now < at_s else after


def crowd(server: Server, seed: int, before: float, after: float) -> Crowd:
    found = Crowd(server, rises(before, after), seed, spread=SPREAD)
    found.run(180)
    return found


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("server", "after", "least"),
    [
        pytest.param(Server(thrashes(5)), 50, 3.0, id="more get less done"),
        pytest.param(Server(thrashes(5), takes=20), 50, 3.0, id="and too many are refused"),
        pytest.param(Server(thrashes(5), whole=True), 50, 3.0, id="in one piece"),
        pytest.param(Server(shares(5)), 25, 3.4, id="more get as much done"),
        pytest.param(Server(alone, lanes=8), 25, 5.5, id="one after another"),
        pytest.param(Server(batches(32)), 40, 11, id="more get more done"),
        pytest.param(Server(alone), 40, 38, id="any number"),
    ],
)
def test_a_server_in_a_surge_does_nearly_what_it_can(
    server: Server, after: float, least: float, seed: int
) -> None:
    assert crowd(server, seed, 3, after).goodput(90, 170) > least


@pytest.mark.parametrize("seed", SEEDS)
def test_without_having_seen_it_in_calm(seed: int) -> None:
    assert crowd(Server(thrashes(5), takes=20), seed, 50, 50).goodput(60, 170) > 3


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("takes", [inf, 60])
def test_one_that_is_slow_for_everybody_is_sent_as_much(takes: float, seed: int) -> None:
    server = Server(alone, takes=takes, slower=lambda now: 3.0 if 60 <= now < 120 else 1.0)
    found = crowd(server, seed, 10, 10)
    assert found.goodput(60, 170) > 0.93 * 10


@pytest.mark.parametrize("seed", SEEDS)
def test_one_that_hardly_moved_for_a_minute_is_soon_sent_as_much_again(seed: int) -> None:
    server = Server(alone, slower=lambda now: 20.0 if 60 <= now < 120 else 1.0)
    found = Crowd(server, lambda _: 25, seed, spread=SPREAD)
    found.run(190)
    assert found.goodput(150, 180) > 0.93 * 25


@pytest.mark.parametrize("seed", SEEDS)
def test_after_the_surge_everybody_is_answered(seed: int) -> None:
    found = Crowd(
        Server(thrashes(5)), lambda now: 50 if 60 <= now < 120 else 2.5, seed, spread=SPREAD
    )
    found.run(240)
    assert found.goodput(150, 230) > 2.2


@pytest.mark.parametrize("seed", SEEDS)
def test_what_the_operator_says_is_where_it_begins(seed: int) -> None:
    found = Crowd(Server(thrashes(5)), lambda _: 50, seed, concurrency=5, spread=SPREAD)
    found.run(120)
    assert found.goodput(5, 110) > 3.4
    assert max(len(found.running), 5) < 12


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("leaving", [0.5, 0.8, 0.95])
def test_clients_that_leave_most_of_what_they_ask_are_sent_no_fewer(
    leaving: float, seed: int
) -> None:
    found = Crowd(Server(alone), lambda _: 30, seed, spread=0.5, leaving=leaving)
    found.run(180)
    assert found.upstream.knee.most == inf


@pytest.mark.parametrize("seed", SEEDS)
def test_nor_when_it_gets_no_more_done_with_more(seed: int) -> None:
    found = Crowd(Server(shares(5)), rises(3, 60), seed, spread=SPREAD, leaving=0.5)
    found.run(180)
    assert found.goodput(90, 170) > 2


# By itself


def feed(
    knee: Knee, now: float, number: float, speed: float, full: bool, answers: int = ANSWERS_MIN
) -> float:
    """So many answers from `now` on; when the last has come."""
    for _ in range(answers):
        now += 1
        knee.observe(number, speed, Instant(now - 0.5), Instant(now), full=full)
    return now


def test_while_there_is_room_and_people_wait_it_does_nothing() -> None:
    knee = Knee()
    now = feed(knee, 0, 2, 1.0, full=False)
    feed(knee, now, 50, 0.02, full=False)
    assert knee.most == inf


def test_it_goes_back_by_half_at_most_while_people_wait() -> None:
    knee = Knee()
    now = feed(knee, 0, 2, 1.0, full=False)
    feed(knee, now, 50, 0.02, full=True)
    assert knee.most == 25


def test_it_goes_back_at_once_to_what_gets_the_most_done_when_they_leave() -> None:
    knee = Knee()
    now = feed(knee, 0, 2, 1.0, full=False)
    now = feed(knee, now, 8, 1.0, full=False)
    feed(knee, now, 50, 0.0, full=False)
    assert knee.most == 8


def test_it_returns_to_more_that_got_more_done() -> None:
    knee = Knee(8)
    now = feed(knee, 0, 16, 0.5, full=True)
    assert knee.most == 8
    feed(knee, now + 1, 8, 0.5, full=True)
    assert knee.most == 16


def test_it_grows_while_it_is_reached_and_not_before_its_time() -> None:
    knee = Knee(8)
    now = feed(knee, 0, 4, 1.0, full=False)
    now = feed(knee, now, 8, 0.4, full=True)
    lowered = now
    now = feed(knee, now - 1, 4, 1.0, full=True)
    assert (knee.most, now < lowered + HOLD_S) == (4, True)
    feed(knee, now, 4, 1.0, full=True, answers=1)
    assert knee.most == 5


def test_it_waits_longer_each_time_that_it_grew_in_vain() -> None:
    knee = Knee()
    now = feed(knee, 0, 2, 1.0, full=False)
    for number in (80, 40, 20):
        now = feed(knee, now, number, 0.001, full=True, answers=20)
    assert (knee.most, knee.hold_s) == (10, HOLD_S)
    now = feed(knee, now, 10, 1.0, full=True)
    assert knee.most == 13
    feed(knee, now, 13.5, 0.02, full=True)
    assert (knee.most, knee.hold_s) == (10, 2 * HOLD_S)


def test_answers_that_began_before_a_move_tell_nothing_of_it() -> None:
    knee = Knee(8)
    now = feed(knee, 0, 4, 1.0, full=False)
    now = feed(knee, now, 8, 0.4, full=True)
    before = replace(knee, points=dict(knee.points))
    knee.observe(8, 0.1, Instant(now - 1), Instant(now + 5), full=True)
    assert knee == before


def test_it_leaves_one_at_a_time_whatever_it_is_told() -> None:
    knee = Knee()
    now = feed(knee, 0, 0.2, 100, full=False)  # by a clock that hardly moved
    feed(knee, now, 50, 0.0, full=True)
    assert knee.most == 1
