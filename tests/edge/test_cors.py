"""Cross-origin requests: nothing is allowed that was not allowed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.cors import Cors, CorsSettings

CHAT = "https://chat.example"
ONE = Cors(CorsSettings((CHAT,), max_age_s=5))
ANY = Cors(CorsSettings(("*",)))
NONE = Cors(CorsSettings())


def fields(cors: Cors, **headers: str) -> dict[str, str]:
    return dict(cors.fields({name.replace("_", "-"): value for name, value in headers.items()}))


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "https://chat.example.evil.example",
        "http://chat.example",
        "https://chat.example:444",
        "https://CHAT.example",
        "null",
        "*",
        "",
        f"{CHAT}, {CHAT}",
    ],
)
def test_other_origins_get_nothing_but_vary(origin: str) -> None:
    assert fields(ONE, origin=origin) == {"vary": "Origin"}
    assert dict(ONE.preflight({"origin": origin}, "POST")) == {"vary": "Origin"}


def test_an_allowed_origin_is_named_and_never_a_star() -> None:
    for cors in (ONE, ANY):
        assert fields(cors, origin=CHAT)["access-control-allow-origin"] == CHAT
    assert fields(ANY, origin="https://other.example")["access-control-allow-origin"] != "*"
    assert "access-control-allow-credentials" not in fields(ANY, origin=CHAT)


def test_without_an_origin_or_a_setting_there_is_only_vary() -> None:
    assert fields(ONE) == fields(ANY) == fields(NONE, origin=CHAT) == {"vary": "Origin"}


def test_row_5_what_a_page_may_read() -> None:
    exposed = fields(ONE, origin=CHAT)["access-control-expose-headers"].split(", ")
    assert {"cache-status", "age", "etag", "server-timing", "x-request-id"} <= set(exposed)
    assert {"retry-after", "ratelimit"} <= set(exposed)


def test_row_4_a_preflight() -> None:
    asked = {"origin": CHAT, "access-control-request-headers": "X-Stainless-OS, content-type"}
    got = dict(ONE.preflight(asked, "POST, OPTIONS"))
    assert got["access-control-allow-methods"] == "POST, OPTIONS"
    assert got["access-control-max-age"] == "5"
    allowed = got["access-control-allow-headers"].split(", ")
    assert {"authorization", "content-type", "prompt-cache", "x-stainless-os"} <= set(allowed)
    assert len(allowed) == len(set(allowed))


@given(st.text(st.characters(codec="latin-1"), max_size=200))
def test_what_is_asked_for_cannot_forge_a_field(asked: str) -> None:
    got = dict(ONE.preflight({"origin": CHAT, "access-control-request-headers": asked}, "POST"))
    value = got["access-control-allow-headers"]
    assert value.isascii()
    assert value.isprintable()


def test_not_more_names_than_a_field_can_hold() -> None:
    asked = ",".join(f"x-{n}-{'y' * 50}" for n in range(5000))
    got = dict(ANY.preflight({"origin": CHAT, "access-control-request-headers": asked}, "POST"))
    assert len(got["access-control-allow-headers"]) < 8000
