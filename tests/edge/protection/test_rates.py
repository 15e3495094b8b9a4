"""So many in so much time, for as many sources as there are."""

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from edge.admission.rate import Limit, Meter
from edge.admission.source import Source, source_of
from edge.protection.lockout import Lockout
from edge.protection.rates import Rates
from edge.protection.settings import ProtectionSettings
from index.entry import Instant

SOURCE = source_of("203.0.113.7")


@given(st.lists(st.floats(0, 5), max_size=100), st.integers(1, 100))
def test_a_source_has_what_a_meter_of_its_own_would_give_it(
    pauses: list[float], per_minute: int
) -> None:
    table, meter, now = Rates(per_minute), Meter(Limit(per_minute)), 1000.0
    for pause in pauses:
        now += pause
        wait_s = table.wait_s(SOURCE, now)
        assert wait_s == meter.wait_s(1, Instant(now))
        if not wait_s:
            table.spend(SOURCE, now)
            meter.spend(1, Instant(now))


def test_case_29_more_addresses_take_no_more_memory() -> None:
    most = 1000
    table = Rates(60, most)
    lockout = Lockout(ProtectionSettings(failed_keys_per_minute=1), most)

    def come(first: int, last: int) -> int:
        for number in range(first, last):
            source = Source(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
            if not table.wait_s(source, number / 1000):
                table.spend(source, number / 1000)
            lockout.failed(source, number / 1000)
            lockout.used(source, number)
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        full = come(0, 4 * most)
        assert come(4 * most, 20 * most) < full * 1.2
    finally:
        tracemalloc.stop()
    assert len(table) == len(lockout) == most


def test_who_was_heard_of_longest_ago_is_forgotten() -> None:
    table = Rates(1, 100)
    table.spend(SOURCE, 0.0)
    assert table.wait_s(SOURCE, 0.0) == 60.0
    for number in range(100):
        table.spend(Source(str(number)), 0.0)
    assert table.wait_s(SOURCE, 0.0) == 0.0
    assert table.wait_s(Source("7"), 0.0) == 60.0
