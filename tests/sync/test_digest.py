"""A digest never denies what is held, and seldom claims what is not."""

from contextlib import suppress
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sync.digest
from index.entry import CacheKey
from sync.digest import Digest, DigestError, Hashes, Holdings

SECRET = b"the fleet's secret, 32 bytes of it"
SALT = b"salt one"


def keys(count: int, seed: int = 1) -> list[CacheKey]:
    random = Random(seed)
    return [CacheKey(random.randbytes(32)) for _ in range(count)]


def holdings(told: bytes, secret: bytes = SECRET) -> Holdings:
    made = Holdings(secret)
    made.hear(told)
    return made


@pytest.mark.parametrize("count", [0, 1, 10, 1_000, 50_000])
def test_it_never_denies_and_seldom_mistakes(count: int) -> None:
    held, others = keys(count), keys(50_000, seed=2)
    heard = holdings(Digest(held, SECRET, SALT).told())
    assert all(one in heard for one in held)
    mistaken = sum(one in heard for one in others) / len(others)
    assert mistaken < 0.011
    if count == 50_000:
        assert mistaken > 0.006, "ten bits a key are what they are"
        assert len(Digest(held, SECRET, SALT).told()) < 1.26 * count + 50


def test_another_salt_mistakes_others() -> None:
    held, others = keys(10_000), keys(20_000, seed=2)
    heard = [holdings(Digest(held, SECRET, salt).told()) for salt in (SALT, b"salt two")]
    both = sum(one in heard[0] and one in heard[1] for one in others)
    assert both < 20_000 * 0.001


def test_without_the_secret_it_says_nothing() -> None:
    held = keys(10_000)
    heard = holdings(Digest(held, SECRET, SALT).told(), secret=b"another")
    assert sum(one in heard for one in held) < 10_000 * 0.02


def test_what_came_later_is_told_alone() -> None:
    digest = Digest(keys(10_000), SECRET, SALT)
    heard = holdings(digest.told())
    for number, one in enumerate(later := keys(30, seed=3)):
        digest.add(one)
        if number % 10 == 9:
            more = digest.told(heard.salt, heard.added)
            assert len(more) < 17 + 8 * 11
            heard.hear(more)
    assert all(one in heard for one in later)
    newcomer = holdings(digest.told())
    assert all(one in newcomer for one in [*keys(10_000), *later])
    assert newcomer.added == heard.added == 30
    assert not digest.full


def test_nobody_tells_more_and_more_beside_a_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync.digest, "ADDED_MAX", 20)
    digest = Digest(keys(10), SECRET, SALT)
    heard = holdings(digest.told())
    for one in keys(20, seed=3):
        digest.add(one)
    heard.hear(digest.told(heard.salt, heard.added))
    digest.add(keys(1, seed=4)[0])
    with pytest.raises(DigestError):
        heard.hear(digest.told(heard.salt, heard.added))
    assert heard.added == 20


def test_who_has_another_is_told_all() -> None:
    heard = holdings(Digest(keys(10), SECRET, SALT).told())
    second = Digest(keys(10, seed=5), SECRET, b"salt two")
    heard.hear(second.told(heard.salt, heard.added))
    assert all(one in heard for one in keys(10, seed=5))
    assert not all(one in heard for one in keys(10))
    for one in keys(2_000, seed=6):
        second.add(one)
    assert second.full


def test_nothing_was_heard_nothing_is_held() -> None:
    assert keys(1)[0] not in Holdings(SECRET)


def test_one_and_all_are_hashed_alike() -> None:
    hashes, some = Hashes(SECRET, SALT), keys(100)
    one, two = hashes.of_all(np.frombuffer(b"".join(some), dtype=np.uint8).reshape(-1, 32))
    assert [hashes.of(key) for key in some] == list(zip(one.tolist(), two.tolist(), strict=True))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_digest_or_an_error(told: bytes) -> None:
    with suppress(DigestError):
        holdings(told)


@given(st.data())
def test_a_digest_changed_is_heard_or_refused_whole(
    data: st.DataObject,
) -> None:
    digest = Digest(keys(20), SECRET, SALT)
    heard = holdings(digest.told())
    digest.add(keys(1, seed=9)[0])
    more = bytearray(data.draw(st.sampled_from([digest.told(), digest.told(SALT, 0)])))
    more[data.draw(st.integers(0, 16))] ^= 1 << data.draw(st.integers(0, 7))
    before = heard.salt, heard.added
    try:
        heard.hear(bytes(more[: data.draw(st.integers(0, len(more)))]))
    except DigestError:
        assert (heard.salt, heard.added) == before
        assert all(one in heard for one in keys(20))
