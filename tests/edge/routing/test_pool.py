"""Whom to call, and whom next: filters, tiers, budgets, and what a call leaves behind."""

from contextlib import suppress
from datetime import UTC, datetime
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import ClientError, Overloaded, UpstreamError
from edge.routing import report
from edge.routing.breaker import OPEN_S_MAX
from edge.routing.call import Call
from edge.routing.choice import TWO_CHOICES_FROM
from edge.routing.headers import Allowance, Told
from edge.routing.maintenance import JITTER_S, Drain
from edge.routing.need import Need
from edge.routing.outliers import EJECTED_S
from edge.routing.pool import RETRIES_FIRST, Pool, Trip
from edge.routing.settings import MaintenanceSettings, RoutingSettings, UpstreamSettings
from edge.routing.upstream import CHANCE_ANSWERS, LANES_MAX, Upstream
from index.entry import Instant, Timestamp

NOW = Instant(1000.0)
WALL = Timestamp(datetime(2026, 11, 1, 2, tzinfo=UTC).timestamp())
NEED = Need("m", 1_000)


def after(seconds: float) -> Instant:
    return Instant(NOW + seconds)


def upstream(name: str, *models: str, **said: Any) -> Upstream:
    return Upstream(UpstreamSettings(f"http://{name}", name, **said), name, frozenset(models))


def pool_of(*upstreams: Upstream, **routing: Any) -> Pool:
    return Pool(upstreams, Random(0), RoutingSettings(**routing))


def known(one: Upstream, ttft_s: float, now: Instant = NOW) -> Upstream:
    """One that has been asked before and took so long."""
    lane = one.lane(NEED.model)
    lane.news = lane.latency.observe(NEED.prompt_bytes, ttft_s, 1, now)
    one.lanes[NEED.model] = lane
    one.asked_at = now
    return one


def start(pool: Pool, need: Need = NEED, now: Instant = NOW) -> tuple[Trip, Call]:
    trip = pool.trip(need, now, WALL)
    return trip, trip.first(now, WALL)


def chosen(pool: Pool, need: Need = NEED, now: Instant = NOW) -> str:
    """Whose turn it would be; leaves nothing behind but an answer."""
    _, call = start(pool, need, now)
    call.abandoned(now)
    return call.upstream.name


def error(status: int = 502, wait_s: float | None = None, *, lost: bool = False) -> UpstreamError:
    made = UpstreamError("x", status=status, retry_after_s=None if wait_s is None else 1)
    made.wait_s, made.connection_lost = wait_s, lost
    return made


# Filters


def test_only_one_that_serves_the_model_is_asked() -> None:
    pool = pool_of(upstream("a", "m"), upstream("b", "n"), upstream("c", "o"))
    assert chosen(pool, Need("n", 1)) == "b"
    with pytest.raises(ClientError, match=r"'p' does not exist on this node. Models here: m, n, o"):
        pool.trip(Need("p", 1), NOW, WALL)


def test_an_alias_is_served_under_its_own_name() -> None:
    pool = pool_of(upstream("a", "m", aliases={"gpt-*": "llama"}))
    _, call = start(pool, Need("gpt-4", 1))
    assert call.model == "llama"
    assert start(pool)[1].model == "m"


def test_where_a_prompt_may_go_is_no_preference() -> None:
    pool = pool_of(known(upstream("us", region="us"), 0.1), known(upstream("eu", region="eu"), 9.0))
    assert chosen(pool, Need("m", 1, regions=("eu",))) == "eu"
    start(pool, Need("m", 1, regions=("eu",)))[1].failed(NOW, error())
    assert chosen(pool, Need("m", 1, regions=("eu",))) == "eu"
    with pytest.raises(ClientError, match="in ap"):
        pool.trip(Need("m", 1, regions=("ap",)), NOW, WALL)
    with pytest.raises(ClientError, match="in no region has"):
        pool.trip(Need("m", 1, regions=()), NOW, WALL)


def test_no_upstream_at_all_is_said_as_that() -> None:
    with pytest.raises(Overloaded, match="no upstream is configured"):
        pool_of().trip(NEED, NOW, WALL)


# Tiers


def tiers() -> tuple[Upstream, Upstream, Upstream]:
    return (
        known(upstream("primary"), 5.0),
        known(upstream("secondary", tier="secondary"), 1.0),
        known(upstream("local", tier="local"), 0.1),
    )


def test_a_tier_is_asked_when_none_before_it_works() -> None:
    primary, secondary, _ = all_three = tiers()
    pool = pool_of(*all_three)
    local = Need("m", 1_000, local=True)
    assert chosen(pool, local) == "primary"
    for one, following in ((primary, "secondary"), (secondary, "local")):
        for _ in range(5):
            one.breaker.failed(NOW, NOW)
        assert chosen(pool, local) == following
    assert chosen(pool, NEED) in ("primary", "secondary")  # not asked for: never the local one


def test_a_full_tier_flows_over_into_the_next_but_not_into_the_local_one() -> None:
    primary, secondary, local = tiers()
    pool = pool_of(primary, secondary, local)
    while not primary.full(NEED, NOW):
        start(pool)
    assert chosen(pool) == "secondary"
    while not secondary.full(NEED, NOW):
        start(pool)
    assert chosen(pool, Need("m", 1_000, local=True)) == "primary"


def test_the_local_one_answers_what_the_others_failed_to() -> None:
    pool = pool_of(*tiers())
    trip, call = start(pool, Need("m", 1_000, local=True))
    names = []
    following: Call | None = call
    while following is not None:
        names.append(following.upstream.name)
        following.failed(NOW, error())
        following = trip.next(following, error(), NOW)
    assert names == ["primary", "secondary", "local"]


def test_after_an_outage_the_next_request_tries_the_better_tier() -> None:
    primary, secondary, local = tiers()
    pool = pool_of(primary, secondary, local)
    for one, ttft_s in ((primary, 5.0), (secondary, 1.0)) * CHANCE_ANSWERS:
        known(one, ttft_s)
    pool.choice.probes.balance = 0.0  # and few requests fill it
    need, now = Need("m", 1_000, local=True), NOW
    for _ in range(3):
        for one in (primary, secondary):
            for _ in range(5):
                one.breaker.failed(now, now)
        assert chosen(pool, need, now) == "local"
        now = Instant(now + OPEN_S_MAX)
        _, call = start(pool, need, now)
        assert call.upstream is primary
        assert start(pool, need, now)[1].upstream is secondary  # one request at a time
        call.failed(now, error())
    now = Instant(now + OPEN_S_MAX)
    hangs = start(pool, need, now)[1]
    assert hangs.upstream is primary
    hangs.abandoned(now)
    now = Instant(now + 1)
    assert chosen(pool, need, now) != "primary"  # nobody else is to hang for it


# Cost


def test_the_nearest_is_asked_and_weight_makes_nearer() -> None:
    assert chosen(pool_of(known(upstream("far"), 0.5), known(upstream("near"), 0.2))) == "near"
    heavy = known(upstream("far", weight=1.2), 0.5)
    assert chosen(pool_of(heavy, known(upstream("near"), 0.2))) == "far"


def test_one_that_writes_faster_is_nearer() -> None:
    quick, slow = known(upstream("quick"), 0.5), known(upstream("slow"), 0.4)
    quick.tokens_per_s, slow.tokens_per_s = 80.0, 40.0
    assert chosen(pool_of(slow, quick)) == "quick"


def test_models_are_told_apart() -> None:
    a, b = known(upstream("a"), 0.2), known(upstream("b"), 0.4)
    pool = pool_of(a, b)
    _, call = start(pool)
    call.failed(NOW, error(429, 30.0))
    assert chosen(pool) == "b"
    assert chosen(pool, Need("other", 1_000)) == "a"
    for number in range(3 * LANES_MAX):
        chosen(pool, Need(f"made-up-{number}", 1))
    assert max(len(a.lanes), len(b.lanes)) <= LANES_MAX


def test_silence_is_news() -> None:
    """Requests wait three times as long as they should: others need not wait for their answers."""
    near, far = known(upstream("near"), 0.2), known(upstream("far"), 0.4)
    pool = pool_of(near, far)
    for _ in range(5):
        start(pool)
    assert chosen(pool, now=after(0.1)) == "near"
    assert chosen(pool, now=after(0.6)) == "far"


def test_one_request_that_hangs_is_no_news_once_a_later_one_was_answered() -> None:
    near, far = known(upstream("near"), 0.2), known(upstream("far"), 0.4)
    pool = pool_of(near, far)
    start(pool)
    _, later = start(pool, now=after(0.1))
    later.answers(after(0.3))
    assert chosen(pool, now=after(0.6)) == "near"


def test_clients_that_give_up_waiting_are_news() -> None:
    near, far = known(upstream("near"), 0.2), known(upstream("far"), 0.4)
    pool = pool_of(near, far)
    for _ in range(8):
        start(pool)[1].abandoned(after(0.1))  # sooner than it was to come: says nothing
    assert chosen(pool, now=after(0.1)) == "near"
    start(pool, now=after(0.1))[1].abandoned(after(3))
    assert chosen(pool, now=after(3)) == "far"


def test_a_first_answer_that_was_slow_is_soon_forgotten() -> None:
    """The nearest is slow once, at the very first, and then as far as it is."""
    near, far = upstream("near"), upstream("far")
    pool, now, late = pool_of(near, far), NOW, 2.0
    asked = []
    for number in range(80):
        now = after(0.8 * number)
        _, call = start(pool, now=now)
        asked.append(call.upstream)
        ttft_s = 0.4 if call.upstream is far else 0.25 + late
        late = 0.0
        answered = Instant(now + ttft_s)
        call.answers(answered)
        call.succeeded(answered, 20)
    assert asked[0] is near
    assert asked[-20:].count(near) >= 18


def test_a_fast_failure_does_not_look_fast() -> None:
    a, b = known(upstream("a"), 0.2), known(upstream("b"), 0.4)
    pool = pool_of(a, b)
    start(pool)[1].failed(after(0.001), error(503))
    assert chosen(pool, now=after(0.01)) == "b"


def test_a_failure_among_many_answers_changes_nothing() -> None:
    a, b = known(upstream("a"), 0.2), known(upstream("b"), 0.4)
    pool = pool_of(a, b)
    for _ in range(200):
        _, call = start(pool)
        call.answers(after(0.2))
        call.succeeded(after(0.2), 10)
    start(pool)[1].failed(NOW, error(500))
    assert chosen(pool) == "a"


def test_those_that_run_out_stand_back_in_proportion() -> None:
    a, b = known(upstream("a"), 0.2), known(upstream("b"), 0.4)
    pool = pool_of(a, b)
    _, call = start(pool)
    call.told(Told(None, (Allowance("requests", 5, 100, 60),)), NOW)
    call.answers(NOW)
    call.succeeded(NOW, 1)
    names = [chosen(pool) for _ in range(200)]
    assert 60 < names.count("b") < 140
    assert {chosen(pool_of(a)) for _ in range(50)} == {"a"}  # with nobody else, none stands back


def test_from_about_ten_two_are_drawn() -> None:
    many = [known(upstream(f"u{at}"), 0.2 + at / 100) for at in range(TWO_CHOICES_FROM)]
    names = {chosen(pool_of(*many)) for _ in range(1)} | {
        chosen(Pool(many, Random(seed))) for seed in range(60)
    }
    assert len(names) > 4
    assert f"u{TWO_CHOICES_FROM - 1}" not in names
    few = many[: TWO_CHOICES_FROM - 1]
    assert {chosen(Pool(few, Random(seed))) for seed in range(60)} == {"u0"}


# Down, at its limit, drained


def test_when_all_are_thought_down_one_is_asked_all_the_same() -> None:
    a, b = upstream("a"), upstream("b")
    pool = pool_of(a, b)
    for one, now in ((a, NOW), (b, after(1))):
        for _ in range(5):
            one.breaker.failed(now, now)
    trip, call = start(pool, now=after(2))
    assert call.upstream is a
    call.failed(after(2), error(lost=True))
    following = trip.next(call, error(lost=True), after(2))
    assert following is not None
    assert following.upstream is b


def test_one_that_nobody_asked_is_soon_asked() -> None:
    """What is assumed of it may be worse than what is known of the other, and worse than it is."""
    fast, unknown = known(upstream("fast"), 0.2), upstream("unknown")
    pool = pool_of(fast, unknown)
    calls: list[str] = []
    for number in range(60):
        _, call = start(pool, now=after(number / 5))
        calls.append(call.upstream.name)
        call.answers(after(number / 5 + 0.2))
        call.succeeded(after(number / 5 + 0.5), 20)
    assert 25 <= calls.index("unknown") < 40


def test_one_that_said_when_is_not_asked_before() -> None:
    pool = pool_of(upstream("a"))
    start(pool)[1].failed(NOW, error(429, 20.0))
    told = set()
    for _ in range(50):
        with pytest.raises(Overloaded) as raised:
            start(pool, now=after(5.5))
        told.add(raised.value.retry_after_s)
        assert f"Try again in {raised.value.retry_after_s} s." in raised.value.message
    assert {15, 22} <= told <= {*range(15, 23)}  # were all told the same, all would come at once
    assert chosen(pool, now=after(20)) == "a"


def test_one_that_did_not_say_when_is_asked_if_there_is_no_other() -> None:
    a = upstream("a")
    start(pool_of(a))[1].failed(NOW, error(429))
    assert chosen(pool_of(a)) == "a"
    assert chosen(pool_of(a, upstream("b"))) == "b"


def test_what_is_drained_or_in_maintenance_gets_nothing() -> None:
    a, b = upstream("a"), upstream("b")
    begins = datetime(2026, 11, 1, 1, tzinfo=UTC)
    work = MaintenanceSettings("b", begins, begins.replace(hour=3))
    pool = Pool([a, b], Random(0), maintenance=[work])
    assert {chosen(pool) for _ in range(50)} == {"a"}
    pool.drain("a", Drain(WALL))
    with pytest.raises(Overloaded, match="maintenance") as raised:
        start(pool)
    assert 3600 <= (raised.value.retry_after_s or 0) <= 3600 + JITTER_S
    assert "until 2026-11-01T03:00:00Z" in raised.value.message
    assert raised.value.code == "maintenance"
    states = [one["state"] for one in report.told(pool, NOW, WALL)]
    assert states == ["drained", "maintenance"]
    assert [(one["upstream"], one["now"]) for one in report.maintenance(pool, WALL)] == [
        ("b", True)
    ]


def test_a_pool_shows_how_it_is() -> None:
    pool = pool_of(upstream("a"), upstream("b"))
    _, call = start(pool)
    assert repr(pool) == "<Pool [<Upstream a 1 in flight>, <Upstream b 0 in flight>]>"
    assert repr(call) == "<Call 1 of a waiting>"
    for _ in range(5):
        pool.upstreams[1].breaker.failed(NOW, NOW)
    assert [one["state"] for one in report.told(pool, after(1), WALL)] == ["up", "down"]
    assert [one["state"] for one in report.told(pool, after(9), WALL)] == ["up", "on trial"]
    call.failed(NOW, error(429, 9.0))
    assert [one["state"] for one in report.told(pool, after(1), WALL)] == ["at its limit", "down"]
    pool.remove("b")
    assert repr(pool) == "<Pool [<Upstream a 0 in flight>]>"


def test_draining_ends_with_the_last_request() -> None:
    pool = pool_of(upstream("a"))
    _, call = start(pool)
    pool.drain("a", Drain(WALL))
    assert report.told(pool, NOW, WALL)[0]["state"] == "draining"
    call.abandoned(NOW)
    assert report.told(pool, NOW, WALL)[0]["state"] == "drained"


def test_one_that_fails_more_than_the_others_is_left_out_for_a_while() -> None:
    a, b = upstream("a"), upstream("b")
    pool = pool_of(a, b)
    for number in range(60):
        for one in (a, b):
            call = Call(one, NEED, pool.usual, pool.upstreams, pool.number(), NOW, print)
            if one is a and number % 3 == 0:
                call.failed(NOW, error(500))
            else:
                call.succeeded(NOW, 1)
    assert a.ejected_until == after(EJECTED_S)
    assert report.told(pool, NOW, WALL)[0]["state"] == "ejected"
    assert {chosen(pool) for _ in range(20)} == {"b"}
    assert b.ejected_until < NOW


def test_after_a_recovery_it_is_given_a_few_at_a_time() -> None:
    a = known(upstream("a"), 0.2)
    for _ in range(5):
        a.breaker.failed(NOW, NOW)
    a.breaker.answers(after(5), after(5))
    bears = [a.bears(NEED, after(5 + s)) for s in (0, 1, 2, 10)]
    assert bears == [4, 8, 16, a.limit.now]


# Going on


def test_a_retry_needs_the_budget_and_a_lost_connection_does_not() -> None:
    pool = pool_of(upstream("a"), upstream("b"))
    retried = 0
    for _ in range(100):
        trip, call = start(pool)
        call.failed(NOW, error(500))
        retried += trip.next(call, error(500), NOW) is not None
    assert RETRIES_FIRST <= retried <= RETRIES_FIRST + 100 * 0.1
    trip, call = start(pool)
    call.failed(NOW, error(lost=True))
    assert trip.next(call, error(lost=True), NOW) is not None


def test_after_the_first_token_nobody_else_is_called() -> None:
    pool = pool_of(upstream("a"), upstream("b"))
    trip, call = start(pool)
    call.answers(NOW)
    call.failed(NOW, error(lost=True))
    assert trip.next(call, error(lost=True), NOW) is None


def test_what_one_lacks_the_next_may_have_and_a_bad_request_is_bad_everywhere() -> None:
    pool = pool_of(upstream("a"), upstream("b"))
    trip, call = start(pool)
    call.declined(NOW)
    assert trip.next(call, ClientError("no such model", status=404), NOW) is not None
    assert trip.next(call, ClientError("too long"), NOW) is None


def test_hedges_have_a_budget_of_their_own() -> None:
    pool = pool_of(upstream("a"), upstream("b"), hedge=True)
    hedged = 0
    for _ in range(500):
        trip, _ = start(pool)
        hedged += trip.hedge(NOW) is not None
    assert hedged == 10  # of 500, 2 %


def test_an_answer_in_one_piece_tells_its_wait_from_its_writing() -> None:
    a = upstream("a")
    pool = pool_of(a)
    _, call = start(pool)
    call.answers(after(5), whole=True)
    call.succeeded(after(5), 200)  # at 50 tokens a second, 4 s of writing
    assert a.lane("m").latency.of(1).value_s == pytest.approx(1.0)
    _, call = start(pool, now=after(5))
    call.answers(after(6), whole=True)
    call.succeeded(after(6), 200)
    assert a.tokens_per_s == 200


ACTS = st.sampled_from(["begin", "answer", "succeed", "fail", "lose", "limit", "decline", "leave"])


@settings(max_examples=200)
@given(st.lists(st.tuples(ACTS, st.integers(0, 9), st.floats(0, 3)), max_size=120))
def test_nothing_is_left_of_calls_that_have_ended(events: list[tuple[str, int, float]]) -> None:
    upstreams = [upstream("a"), upstream("b", tier="secondary"), upstream("c", tier="local")]
    pool = pool_of(*upstreams, hedge=True)
    going: list[tuple[Trip, Call]] = []
    now = NOW
    for act, which, passes_s in events:
        now = Instant(now + passes_s)
        if act == "begin":
            with suppress(Overloaded):
                going.append(start(pool, now=now))
        if act == "begin" or not going:
            continue
        trip, call = going[which % len(going)]
        failure = None
        match act:
            case "answer":
                if call.first_at is None:
                    call.answers(now)
                continue
            case "succeed":
                if call.first_at is None:
                    call.answers(now, whole=True)
                call.succeeded(now, 20)
            case "fail" | "lose" | "limit":
                failure = error(429, 2.0) if act == "limit" else error(lost=act == "lose")
                call.failed(now, failure)
            case "decline":
                call.declined(now)
            case _:
                call.abandoned(now)
        going.remove((trip, call))
        if failure is not None and (following := trip.next(call, failure, now)) is not None:
            assert call.first_at is None
            going.append((trip, following))
        pool.check()
    assert sum(one.in_flight for one in upstreams) == len(going)
    for _, call in going:
        call.abandoned(now)
    pool.check()
    assert not any(one.in_flight or one.waiting or one.silent for one in upstreams)
