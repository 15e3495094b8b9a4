"""API keys: every failure looks the same, and no key reaches another tenant's scope."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge.admission.keys import KEY_CHARS_MAX, KeyRing
from edge.config import ConfigError, KeySettings
from edge.errors import Unauthorized
from edge.preflight import key_ring
from index.entry import SHARED, Scope, Timestamp

NOW = Timestamp(1_800_000_000.0)
KEYS = {"key-of-acme": "acme", "another-of-acme": "acme", "key-of-beta": "beta"}
RING = KeyRing(KEYS)

BAD: dict[str, str | None] = {
    "none": None,
    "empty": "",
    "no scheme": "key-of-acme",
    "another scheme": "Basic key-of-acme",
    "no key": "Bearer ",
    "unknown": "Bearer key-of-nobody",
    "a prefix": "Bearer key-of-acm",
    "longer": "Bearer key-of-acme2",
    "another case": "Bearer KEY-OF-ACME",
    "two": "Bearer key-of-acme, Bearer key-of-beta",
    "sql": "Bearer ' OR 1=1--",
    "non-ascii": "Bearer ké\x80\xff",
    "long": "Bearer " + "k" * 100_000,
    "long and right": "Bearer " + "key-of-acme" + " " * KEY_CHARS_MAX,
    "nul": "Bearer key-of-acme\x00",
}


@pytest.mark.parametrize("name", BAD)
def test_case_17_every_failure_looks_the_same(name: str) -> None:
    with pytest.raises(Unauthorized) as refused:
        RING.caller(BAD[name], NOW)
    error = refused.value
    assert (error.status, error.code) == (401, "invalid_api_key")
    assert error.fields == (("www-authenticate", 'Bearer realm="edge"'),)
    with pytest.raises(Unauthorized) as other:
        RING.caller(None, NOW)
    assert error.message == other.value.message


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_a_key_gives_its_tenants_scope(scheme: str) -> None:
    assert RING.caller(f"{scheme} key-of-acme", NOW).scope == Scope("tenant:acme")
    assert RING.caller(f"{scheme} another-of-acme", NOW).scope == Scope("tenant:acme")
    assert RING.caller(f"{scheme} key-of-beta", NOW).scope == Scope("tenant:beta")


@given(st.none() | st.text())
def test_without_keys_everyone_shares(authorization: str | None) -> None:
    assert KeyRing({}).caller(authorization, NOW).scope == SHARED


@given(st.text())
@example("key-of-acme\ud800")
def test_no_other_key_is_let_in(key: str) -> None:
    if key.strip() in KEYS:
        return
    with pytest.raises(Unauthorized):
        RING.caller(f"Bearer {key}", NOW)


@given(st.dictionaries(st.text("abc", min_size=1, max_size=4), st.text("xy", min_size=1)))
def test_a_scope_names_one_tenant(keys: dict[str, str]) -> None:
    ring = KeyRing({"other": "zz", **keys})
    scopes = {ring.caller(f"Bearer {key}", NOW).scope: tenant for key, tenant in keys.items()}
    assert scopes == {Scope(f"tenant:{tenant}"): tenant for tenant in set(keys.values())}
    assert SHARED not in scopes


def test_a_ring_holds_no_key() -> None:
    state = repr(vars(RING)) + repr(RING)
    assert "key-of" not in state
    assert len(RING) == 3


@pytest.mark.parametrize(
    ("keys", "environ", "said"),
    [
        ((KeySettings("a"),), {}, "keys[0]: set one of"),
        ((KeySettings("a", key_env="K"),), {}, "keys[0].key_env: the variable 'K' is not set"),
        ((KeySettings("a", key_env="K"),), {"K": " "}, "keys[0]: a key is 1 to 512"),
        ((KeySettings("a", key_env="K"),), {"K": "a b"}, "keys[0]: a key is"),
        ((KeySettings("a", key_env="K"),), {"K": "é"}, "keys[0]: a key is"),
        ((KeySettings("a", key_env="K"),), {"K": "k" * 513}, "keys[0]: a key is"),
        (
            (KeySettings("a", key_env="K"), KeySettings("b", key_env="L")),
            {"K": "canary", "L": "canary"},
            "keys[1]: this key belongs to another tenant",
        ),
    ],
)
def test_keys_that_cannot_be_used_are_said_at_the_start_and_not_shown(
    keys: tuple[KeySettings, ...], environ: dict[str, str], said: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        key_ring(keys, environ)
    assert said in str(raised.value)
    assert "canary" not in str(raised.value)
