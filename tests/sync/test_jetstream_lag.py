"""How far behind a node is, told by canaries."""

import pytest

from index.entry import Timestamp
from sync.jetstream.lag import FORGOTTEN_S, Canary, Lag, parsed, written


def canary(at: float, **kept: int) -> Canary:
    return Canary(Timestamp(at), kept)


def heard(lag: Lag, said: Canary, now: float, **read: int) -> None:
    lag.heard("fra-1", said, read, Timestamp(now))


def seconds(lag: Lag, now: float, **read: int) -> float:
    return lag.seconds(read, Timestamp(now))["fra-1"]


def test_who_has_read_all_lags_by_the_way() -> None:
    lag = Lag()
    heard(lag, canary(100.0, fleet=7), 100.2, fleet=7)
    assert seconds(lag, 104.0, fleet=7) == pytest.approx(0.2)


def test_who_has_not_lags_since_what_it_lacks_was_kept() -> None:
    lag = Lag()
    heard(lag, canary(100.0, fleet=7), 100.2, fleet=6)
    heard(lag, canary(105.0, fleet=9), 105.2, fleet=6)
    assert seconds(lag, 106.0, fleet=6) == pytest.approx(6.0)
    assert seconds(lag, 106.0, fleet=7) == pytest.approx(0.0)  # until the next canary tells


def test_the_next_canary_tells_what_is_lacking_still() -> None:
    lag = Lag()
    heard(lag, canary(100.0, fleet=7), 100.2, fleet=6)
    heard(lag, canary(105.0, fleet=9), 105.2, fleet=7)
    assert seconds(lag, 107.0, fleet=7) == pytest.approx(2.0)
    heard(lag, canary(110.0, fleet=9), 110.2, fleet=9)
    assert seconds(lag, 112.0, fleet=9) == pytest.approx(0.2)


def test_what_is_not_read_here_does_not_count() -> None:
    lag = Lag()
    heard(lag, canary(100.0, **{"fleet": 7, "region.ap": 50}), 100.2, fleet=7)
    assert seconds(lag, 101.0, fleet=7) == pytest.approx(0.2)


def test_silence_counts_and_is_forgotten_after_a_day() -> None:
    lag = Lag()
    heard(lag, canary(100.0), 100.2)
    assert seconds(lag, 110.0) == pytest.approx(0.2)
    assert seconds(lag, 130.2) == pytest.approx(30.0)
    assert lag.seconds({}, Timestamp(100.2 + FORGOTTEN_S)) == {}


def test_a_clock_that_runs_ahead_makes_no_negative_lag() -> None:
    lag = Lag()
    heard(lag, canary(105.0), 100.0)
    assert seconds(lag, 101.0) == 0.0


def test_a_canary_is_what_was_written() -> None:
    said = canary(100.5, **{"purges": 3, "region.eu": 9})
    assert parsed(written(said)) == said


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"at": 1, "kept": {}}',
        b'{"at": 1.0, "kept": {"fleet": "7"}}',
        b'{"at": 1.0, "kept": {"fleet": true}}',
        b'{"at": NaN, "kept": {}}',
        b"[" * 4_000,
        b"x" * 5_000,
        b"\xff",
    ],
)
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="no canary"):
        parsed(data)
