"""Names that tell nothing, values that open in one place only."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.regional.sealing import NONCE_BYTES, PREFIX, place
from index.entry import CacheKey, Scope

SECRET = b"s" * 32
KEY = CacheKey(b"k" * 32)
HERE = place(SECRET, "eu", Scope("tenant:a"), KEY)
NONCE = bytes(NONCE_BYTES)

regions = st.text(max_size=8)
scopes = st.text(min_size=1, max_size=8).map(Scope)
keys = st.binary(min_size=32, max_size=32).map(CacheKey)
frames = st.binary(min_size=1, max_size=200)


@given(regions, scopes, keys, frames, st.binary(min_size=NONCE_BYTES, max_size=NONCE_BYTES))
def test_what_is_sealed_opens_there(
    region: str, scope: Scope, key: CacheKey, frame: bytes, nonce: bytes
) -> None:
    at = place(SECRET, region, scope, key)
    assert at.opened(at.seal(frame, nonce)) == frame
    assert at == place(SECRET, region, scope, key)


@pytest.mark.parametrize(
    "other",
    [
        place(b"t" * 32, "eu", Scope("tenant:a"), KEY),
        place(SECRET, "us", Scope("tenant:a"), KEY),
        place(SECRET, "eu", Scope("tenant:b"), KEY),
        place(SECRET, "eu", Scope("tenant:a"), CacheKey(b"j" * 32)),
        place(SECRET, "eut", Scope("enant:a"), KEY),
    ],
    ids=["secret", "region", "tenant", "key", "where one part ends"],
)
def test_nothing_opens_in_another_place(other: object) -> None:
    assert isinstance(other, type(HERE))
    assert other.name != HERE.name
    assert other.opened(HERE.seal(b"an answer", NONCE)) is None


@given(st.binary(max_size=300))
def test_no_bytes_open_but_those_that_were_sealed(value: bytes) -> None:
    assert HERE.opened(value) is None


@given(st.data())
def test_a_changed_byte_is_noticed(data: st.DataObject) -> None:
    sealed = bytearray(HERE.seal(b"an answer", NONCE))
    sealed[data.draw(st.integers(0, len(sealed) - 1))] ^= data.draw(st.integers(1, 255))
    assert HERE.opened(bytes(sealed)) is None


def test_names_and_values_tell_nothing() -> None:
    sealed = HERE.seal(b"an answer", NONCE)
    assert HERE.name.startswith(PREFIX)
    for part in (b"tenant", b"eu:", KEY, b"answer"):
        assert part not in sealed
        assert part not in HERE.name.encode()
