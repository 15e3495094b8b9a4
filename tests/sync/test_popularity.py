"""What is asked for often is told first, within what may be spent."""

from collections import Counter
from dataclasses import replace
from random import Random

import pytest

from index.clock import Now
from index.entry import EVERYWHERE, CacheKey, Entry, Hint, Instant, Version
from sync.popularity import (
    PUSHED_BYTES_MAX,
    WAITING_MAX,
    Popularity,
    Sketch,
    worth,
)
from sync.settings import SyncSettings
from tests.fakes import entries as fakes


def at(seconds: float) -> Now:
    return Now(fakes.NOW, Instant(seconds))


def key(random: Random) -> CacheKey:
    return CacheKey(random.randbytes(32))


def told(name: str | int, body_bytes: int = 1_000, **fields: object) -> Entry:
    made = replace(fakes.entry(name, bytes(body_bytes)), reach=EVERYWHERE, version=Version(1))
    return replace(made, **fields)  # type: ignore[arg-type]


def popularity(bytes_per_s: int = 256_000) -> Popularity:
    return Popularity(SyncSettings(bytes_per_s=bytes_per_s), at(0))


def test_counts_are_never_too_low_and_seldom_too_high() -> None:
    random, sketch = Random(1), Sketch()
    keys = [key(random) for _ in range(100_000)]
    asked = [keys[int(len(keys) * random.random() ** 3)] for _ in range(200_000)]
    truth = Counter(asked)
    for one in asked:
        sketch.add(one)
    assert all(sketch.count(one) >= min(truth[one], 255) for one in keys)
    assert sum(sketch.count(one) > truth[one] for one in keys) < len(keys) * 0.02
    assert sum(sketch.count(one) > truth[one] + 1 for one in keys) < len(keys) * 0.005


def test_adding_says_the_count_and_it_ends_at_255() -> None:
    sketch, one = Sketch(), key(Random(1))
    assert [sketch.add(one) for _ in range(300)] == [min(count, 255) for count in range(1, 301)]


def test_the_past_fades() -> None:
    random, sketch = Random(1), Sketch()
    one = key(random)
    for _ in range(200):
        sketch.add(one)
    sketch._added = 10 * (1 << 18) - 1  # rather than two million others
    sketch.add(key(random))
    assert sketch.count(one) == 100


def test_offered_at_three_and_once() -> None:
    popular, entry = popularity(), told(1)
    wanted = []
    for _ in range(5):
        if popular.wanted(entry, popular.asked(entry.key)):
            wanted.append(popular.asked(entry.key))
            popular.offer(entry, None, at(0))
    assert wanted == [4], "the third time, and counted once more here"
    assert popular.take(at(0)) == [(entry, None)]
    assert popular.take(at(0)) == []
    newer = replace(entry, version=Version(2))
    assert popular.wanted(newer, 5), "another answer is"


def test_what_is_pinned_does_not_wait_to_be_asked_for() -> None:
    assert popularity().wanted(told(1, pinned=True), 0)


@pytest.mark.parametrize("wrong", [{"reach": ()}, {"body": bytes(PUSHED_BYTES_MAX + 1)}])
def test_what_may_not_travel_or_is_too_large_is_not_offered(wrong: dict[str, object]) -> None:
    assert not popularity().wanted(told(1, **wrong), 100)  # type: ignore[arg-type]


def test_what_is_worth_most_for_its_bytes_goes_first_within_the_budget() -> None:
    popular = popularity(bytes_per_s=10_000)
    first = popular.take(at(0))
    assert first == []
    offers = [told(number, 20_000, tokens=number + 1) for number in range(100)]
    for one in Random(3).sample(offers, len(offers)):
        popular.offer(one, None, at(0))
    burst = [entry for entry, _ in popular.take(at(0))]
    assert burst == offers[::-1][: len(burst)]
    assert 25 <= len(burst) <= 27, "half a megabyte saved"
    assert popular.take(at(0)) == []
    spent_s = popular.wake_at()
    assert spent_s is not None
    assert 0 < spent_s <= 2.1
    later = [len(popular.take(at(second))) for second in range(3, 43)]
    assert 19 <= sum(later) <= 21, "20 kB every two seconds"


def test_what_nobody_has_budget_for_is_dropped_by_worth() -> None:
    popular = popularity(bytes_per_s=1)
    for number in range(2 * WAITING_MAX + 1):
        popular.offer(told(number, tokens=number + 1), Hint("x", bytes(8)), at(0))
    assert popular.waiting == WAITING_MAX
    assert popular.dropped == WAITING_MAX
    best = popular.take(at(0))[0][0]
    assert best.tokens == 2 * WAITING_MAX + 1


def test_worth_is_tokens_by_hits_by_life_for_each_byte() -> None:
    one = worth(told(1, tokens=100), 3, at(0))
    assert worth(told(1, tokens=200), 3, at(0)) == pytest.approx(2 * one)
    assert worth(told(1, tokens=100), 6, at(0)) == pytest.approx(2 * one)
    longer = told(1, tokens=100, expires_at=fakes.NOW + 2 * 86_400)
    assert worth(longer, 3, at(0)) == pytest.approx(2 * one)
    assert worth(told(1, 2_250, tokens=100), 3, at(0)) == pytest.approx(one / 2)
    assert worth(told(1, expires_at=fakes.NOW - 1), 3, at(0)) == 0
