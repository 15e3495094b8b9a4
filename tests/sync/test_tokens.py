"""Tokens: what is printed is read again; what is not whole, or too old, is said to be so."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.entry import Timestamp
from sync.tokens import Token, TokenError, read, spell

NOW = Timestamp(1_790_000_000.0)
TOKEN = Token(
    address="fra.example:8444",
    host=b"h" * 16,
    authority=b"certificate" * 30,
    until=Timestamp(NOW + 3600),
    secret=b"s" * 16,
)


@given(
    st.builds(
        Token,
        address=st.text(max_size=60),
        host=st.binary(min_size=16, max_size=16),
        authority=st.binary(max_size=500),
        until=st.integers(int(NOW) + 1, 2**32 - 1).map(float).map(Timestamp),
        secret=st.binary(min_size=16, max_size=16),
    )
)
def test_a_token_is_read_as_it_was_made(token: Token) -> None:
    text = spell(token)
    assert read(f" {text}\n", NOW) == token
    assert text.isascii()
    assert set(text) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


def test_every_other_character_and_every_missing_end_is_noticed() -> None:
    text = spell(TOKEN)
    damaged = [text[:at] for at in range(len(text))]
    damaged += [f"{text[:at]}{'A' if text[at] != 'A' else 'B'}{text[at + 1 :]}" for at in range(4)]
    damaged += [
        f"{text[:at]}{'A' if text[at] != 'A' else 'Q'}{text[at + 1 :]}"
        for at in range(4, len(text))
    ]
    for one in damaged:
        with pytest.raises(TokenError):
            read(one, NOW)


@given(st.text() | st.text(alphabet="abcAB01-_=").map("pej_".__add__))
def test_any_text_is_a_token_or_an_error(text: str) -> None:
    with pytest.raises(TokenError):
        read(text, NOW)


@pytest.mark.parametrize(
    ("late_s", "said"), [(0, "ran out 0 s ago"), (90, "ran out 90 s ago"), (-1, "")]
)
def test_a_token_ends_when_it_was_said_to(late_s: int, said: str) -> None:
    now = Timestamp(TOKEN.until + late_s)
    if said:
        with pytest.raises(TokenError, match=f"{said}.*promptedge invite.*clock"):
            read(spell(TOKEN), now)
    else:
        assert read(spell(TOKEN), now) == TOKEN


def test_the_secret_is_not_shown() -> None:
    assert repr(b"s" * 16) not in repr(TOKEN)
    assert "secret" not in repr(dataclasses.replace(TOKEN))
