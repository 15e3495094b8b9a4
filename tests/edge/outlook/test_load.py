"""How busy a node is, by what its upstreams can do, and in what words its upstreams are told."""

from datetime import UTC, datetime
from random import Random

import pytest

from edge.outlook.health import Healths
from edge.outlook.load import FADE_S, Calls, Peak, level, utilisation
from edge.routing.maintenance import Drain
from edge.routing.need import Need
from edge.routing.pool import Pool
from edge.routing.settings import MaintenanceSettings, Tier, UpstreamSettings
from edge.routing.upstream import Upstream
from index.entry import Instant, Timestamp

NOW = Instant(1000.0)
WALL = Timestamp(datetime(2026, 11, 1, 2, tzinfo=UTC).timestamp())
NEED = Need("m", 100)


def upstream(name: str, tier: Tier = "primary", connections: int = 512) -> Upstream:
    settings = UpstreamSettings(f"http://{name}/v1", name, tier=tier, connections_max=connections)
    one = Upstream(settings, name, frozenset())
    one.knee.most = 32  # what it bears is known
    return one


def pool(*upstreams: Upstream, maintenance: tuple[MaintenanceSettings, ...] = ()) -> Pool:
    return Pool(upstreams, Random(0), maintenance=maintenance)


def load(of: Pool, running: int = 0, waiting: int = 0, most: int | None = None) -> float | None:
    return utilisation(of, Calls(running, waiting, most), NOW, WALL)


def limited(one: Upstream) -> Upstream:
    one.begins(1, NEED, NOW)
    one.refused(NEED, NOW, NOW, 60.0)
    one.ends(1, NEED, "limited", NOW)
    return one


def down(one: Upstream) -> Upstream:
    for _ in range(5):
        one.breaker.failed(NOW, NOW)
    return one


def test_it_is_the_share_of_the_calls_that_may_be_made() -> None:
    of = pool(upstream("a"))
    assert load(of, 0, 0, 50) == 0
    assert load(of, 25, 0, 50) == 0.5
    assert load(of, 50, 25, 50) == 1.5


def test_without_a_limit_of_calls_it_is_what_the_upstreams_bear() -> None:
    a, b = upstream("a"), upstream("b")
    for call in range(16):
        a.begins(call, NEED, NOW)
    assert load(pool(a, b)) == 0.25
    assert load(pool(a, down(b))) == 0.5


def test_streams_take_connections_even_when_nobody_waits_for_a_first_token() -> None:
    one = upstream("a", connections=10)
    for call in range(5):
        one.begins(call, NEED, NOW)
        one.answers(call, NEED, 0.1, NOW, NOW)
    assert load(pool(one)) == 0.5


def test_an_upstream_that_stands_in_is_no_room_for_all() -> None:
    one, local = upstream("a"), upstream("b", "local")
    for call in range(16):
        one.begins(call, NEED, NOW)
    assert load(pool(one, local)) == 0.5
    assert load(pool(down(upstream("a")), local)) == 1.0
    assert load(pool(limited(upstream("a")), local)) == 1.0
    assert load(pool(local)) == 0  # where there is no other it is what is meant


def test_where_all_are_at_their_rate_limit_it_is_full() -> None:
    assert load(pool(limited(upstream("a")), down(upstream("b")))) == 1.0


def test_where_none_can_be_asked_there_is_no_load_to_tell() -> None:
    drained = pool(upstream("a"))
    drained.drain("a", Drain(WALL))
    assert [load(of) for of in (pool(), pool(down(upstream("a"))), drained)] == [None] * 3


@pytest.mark.parametrize(
    ("share", "word"),
    [
        (0.0, "idle"),
        (0.099, "idle"),
        (0.1, "normal"),
        (0.599, "normal"),
        (0.6, "busy"),
        (1.0, "busy"),
        (1.01, "overloaded"),
        (None, "unavailable"),
    ],
)
def test_the_level_is_a_word_for_it(share: float | None, word: str) -> None:
    assert level(share) == word


def test_a_peak_is_shown_at_once_and_fades() -> None:
    peak = Peak()
    peak.note(0.2, NOW)
    peak.note(0.8, NOW)
    assert peak.value == 0.8
    peak.note(0.2, Instant(NOW + FADE_S))
    assert peak.value == pytest.approx(0.8 / 2.71828, rel=1e-3)
    peak.note(0.2, Instant(NOW + 10 * FADE_S))
    assert peak.value == 0.2
    peak.note(None, Instant(NOW + 11 * FADE_S))
    assert peak.value is None


def words(healths: Healths, of: Pool, wall: Timestamp = WALL) -> list[tuple[str, str, float]]:
    found = healths.of(of.upstreams, of.resting(wall), NOW, wall)
    return [(one.name, one.word, one.since - WALL) for one in found]


def test_each_upstream_is_told_in_a_word() -> None:
    begins = datetime(2026, 11, 1, 1, tzinfo=UTC)
    work = MaintenanceSettings("e", begins, begins.replace(hour=3))
    slow = upstream("b")
    for call in range(20):
        slow.begins(call, NEED, NOW)
        slow.answers(call, NEED, 0.1 if call < 10 else 2.0, NOW, NOW)
    of = pool(
        upstream("a"), slow, limited(upstream("c")), down(upstream("d")), upstream("e"),
        upstream("f"), maintenance=(work,),
    )  # fmt: skip
    of.drain("f", Drain(Timestamp(WALL - 90)))
    assert words(Healths(named=True), of) == [
        ("a", "healthy", 0),
        ("b", "slow", 0),
        ("c", "limited", 0),
        ("d", "down", 0),
        ("e", "maintenance", -3600),
        ("f", "draining", -90),
    ]


def test_since_when_is_remembered_while_it_lasts() -> None:
    healths, of = Healths(named=True), pool(upstream("a"))
    later, last = Timestamp(WALL + 60), Timestamp(WALL + 120)
    assert words(healths, of) == words(healths, of, later) == [("a", "healthy", 0)]
    down(of.upstreams[0])
    assert words(healths, of, later) == words(healths, of, last) == [("a", "down", 60)]


def test_no_address_is_told_of_what_was_given_no_name() -> None:
    unnamed = Upstream(UpstreamSettings("http://10.0.0.7:8000/v1"), "10.0.0.7:8000", frozenset())
    of = pool(upstream("a"), unnamed)
    assert [name for name, _, _ in words(Healths(named=True), of)] == ["a", "upstream 2"]
    assert [name for name, _, _ in words(Healths(named=False), of)] == ["upstream 1", "upstream 2"]
