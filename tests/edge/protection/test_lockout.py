"""Who tried too many wrong keys."""

from edge.admission.source import source_of
from edge.protection.lockout import Lockout
from edge.protection.settings import ProtectionSettings

GUESSER, OTHER = source_of("203.0.113.7"), source_of("203.0.113.8")
NOW = 1000.0


def guess(lockout: Lockout, times: int, now: float) -> list[float]:
    return [lockout.failed(GUESSER, now) for _ in range(times)]


def test_ten_wrong_keys_in_a_minute_are_borne_and_the_next_locks_out() -> None:
    lockout = Lockout(ProtectionSettings())
    assert guess(lockout, 11, NOW) == [0.0] * 10 + [300.0]
    assert lockout.wait_s(GUESSER, NOW + 100) == 200.0
    assert lockout.wait_s(OTHER, NOW) == 0.0
    assert lockout.wait_s(GUESSER, NOW + 300) == 0.0


def test_wrong_keys_now_and_then_lock_nobody_out() -> None:
    lockout = Lockout(ProtectionSettings())
    assert not any(lockout.failed(GUESSER, NOW + 6 * n) for n in range(1000))


def test_who_goes_on_is_locked_out_twice_as_long_each_time() -> None:
    lockout = Lockout(ProtectionSettings(lockout_s=300, lockout_max_s=1500))
    now, locks = NOW, []
    for _ in range(5):
        locks.append(guess(lockout, 11, now)[-1])
        now += locks[-1]
    assert locks == [300.0, 600.0, 1200.0, 1500.0, 1500.0]
    assert guess(lockout, 11, now + 1500)[-1] == 300.0  # it had stopped for as long as that
    assert lockout.locked_out == 6


def test_a_large_ipv6_network_is_locked_out_as_a_whole() -> None:
    lockout = Lockout(ProtectionSettings())
    for n in range(81):  # eight times ten, from addresses of which none tries more than two
        lockout.failed(source_of(f"2001:db8:1:{n % 64:x}::1"), NOW)
    assert lockout.wait_s(source_of("2001:db8:1:ffff::1"), NOW) == 300.0
    assert lockout.wait_s(source_of("2001:db8:2::1"), NOW) == 0.0


def test_a_source_is_known_by_the_keys_that_it_used() -> None:
    lockout = Lockout(ProtectionSettings())
    lockout.used(GUESSER, 7)
    assert lockout.knows(GUESSER, 7)
    assert not lockout.knows(GUESSER, 8)
    assert not lockout.knows(OTHER, 7)
