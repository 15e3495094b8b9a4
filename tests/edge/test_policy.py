"""May memory answer, may it remember: operator and request, and the stricter one wins."""

from itertools import product
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import ClientError
from edge.policy import (
    Allowed,
    CacheSettings,
    Mode,
    RouteSettings,
    allowed,
    expired_served_s,
    kind_of,
    route,
)
from index.eligibility import PromptClass
from index.entry import Scope

MODES = [Mode.OFF, Mode.EXACT, Mode.SEMANTIC]


def asked(cache_control: str, ceiling: Mode = Mode.SEMANTIC) -> Allowed:
    return allowed({"cache-control": cache_control}, ceiling)


@pytest.mark.parametrize(("ceiling", "wish"), [*product(MODES, [None, *MODES])])
def test_a_request_may_tighten_and_never_loosen(ceiling: Mode, wish: Mode | None) -> None:
    headers = {} if wish is None else {"prompt-cache": wish.name.lower()}
    got = allowed(headers, ceiling)
    assert got.mode == (ceiling if wish is None else min(ceiling, wish))
    assert got.lookup == got.store == (got.mode > Mode.OFF)


@pytest.mark.parametrize("value", [" EXACT ", "Exact", "exact"])
def test_prompt_cache_is_read_kindly(value: str) -> None:
    assert allowed({"prompt-cache": value}, Mode.SEMANTIC).mode == Mode.EXACT


@pytest.mark.parametrize("value", ["", "on", "exact, semantic", "2", "no-store"])
def test_prompt_cache_that_is_not_understood_is_refused(value: str) -> None:
    with pytest.raises(ClientError) as refused:
        allowed({"prompt-cache": value}, Mode.SEMANTIC)
    assert refused.value.param == "Prompt-Cache"


@pytest.mark.parametrize(
    ("field", "lookup", "store"),
    [
        ("no-cache", False, True),
        ("NO-CACHE", False, True),
        ("no-store", False, False),
        ("no-cache, no-store", False, False),
        (" no-store , max-age=5", False, False),
        ("max-age=0", False, True),
        ("max-age", False, True),
        ("max-age=soon", False, True),
        ("max-age=-1", False, True),
        ("max-age=5", True, True),
        ('max-age="5"', True, True),
        ("min-fresh=5, x-unknown=1, ,", True, True),
        ("no-transform", True, True),
        ("", True, True),
    ],
)
def test_row_26_cache_control(field: str, lookup: bool, store: bool) -> None:
    got = asked(field)
    assert (got.lookup, got.store) == (lookup, store)
    off = asked(field, Mode.OFF)
    assert (off.lookup, off.store) == (False, False)


def test_max_age_is_the_oldest_answer_that_will_do() -> None:
    assert asked("max-age=60").age_max_s == 60
    assert asked("max-age=junk").age_max_s == 0
    assert asked("no-cache").age_max_s is None


@pytest.mark.parametrize("field", ["only-if-cached", "no-cache, only-if-cached"])
@pytest.mark.parametrize("ceiling", MODES)
def test_only_if_cached_is_heard_in_every_mode(field: str, ceiling: Mode) -> None:
    assert asked(field, ceiling).only_if_cached


def test_pragma_counts_where_there_is_no_cache_control() -> None:
    assert not allowed({"pragma": "no-cache"}, Mode.EXACT).lookup
    assert allowed({"pragma": "no-cache", "cache-control": "max-age=5"}, Mode.EXACT).lookup


@given(st.text(st.characters(codec="latin-1")), st.sampled_from(MODES))
def test_any_field_value_is_read(value: str, ceiling: Mode) -> None:
    got = allowed({"cache-control": value, "pragma": value}, ceiling)
    assert got.mode == ceiling
    assert got.age_max_s is None or got.age_max_s >= 0


ROUTES = (
    RouteSettings("gpt-4*", ttl_s=10),
    RouteSettings("gpt-?", mode="off"),
    RouteSettings("gpt-*", ttl_s=20, mode="exact"),
)


@pytest.mark.parametrize(
    ("cache_control", "fresh_min_s", "stale_max_s"),
    [
        ("", 0, inf),
        ("max-stale", 0, inf),
        ("max-stale=30", 0, 30),
        ("max-stale=soon", 0, 0),
        ("max-age=10", 0, 0),
        ("max-age=10, max-stale=30", 0, 30),
        ("min-fresh=20", 20, 0),
        ('MIN-FRESH="20", Max-Stale', 20, inf),
    ],
)
def test_how_fresh_and_how_stale(
    cache_control: str, fresh_min_s: float, stale_max_s: float
) -> None:
    made = asked(cache_control)
    assert (made.fresh_min_s, made.stale_max_s) == (fresh_min_s, stale_max_s)
    assert made.plain == (cache_control in ("", "max-stale"))


@pytest.mark.parametrize(
    ("model", "ttl_s", "mode"),
    [
        ("gpt-4o", 10, Mode.SEMANTIC),
        ("gpt-4", 10, Mode.SEMANTIC),
        ("gpt-5", 100, Mode.OFF),
        ("gpt-5-mini", 20, Mode.EXACT),
        ("GPT-4", 100, Mode.SEMANTIC),
        ("other", 100, Mode.SEMANTIC),
    ],
)
def test_the_first_route_that_matches_counts(model: str, ttl_s: float, mode: Mode) -> None:
    made = route(model, ROUTES, CacheSettings(ttl_s=100))
    assert (made.ttl_s, made.mode) == (ttl_s, mode)


def test_a_route_may_widen_what_the_default_is() -> None:
    made = route("m", (RouteSettings("m", mode="semantic"),), CacheSettings(mode="off"))
    assert made.mode == Mode.SEMANTIC


def test_a_routes_classes_count_over_those_of_all() -> None:
    cache = CacheSettings(classes={"personal": "semantic", "creative": "bypass"})
    routes = (RouteSettings("m", classes={"personal": "exact-only"}), RouteSettings("n"))
    assert route("m", routes, cache).classes == {
        "personal": PromptClass.EXACT_ONLY,
        "creative": PromptClass.BYPASS,
    }
    everybodys = {"personal": PromptClass.SEMANTIC, "creative": PromptClass.BYPASS}
    assert route("n", routes, cache).classes == route("other", routes, cache).classes == everybodys


def test_expired_answers_are_served_as_long_as_any_route_says() -> None:
    assert expired_served_s(CacheSettings(), ()) == 0
    default = CacheSettings(stale_if_error_s=60, stale_while_revalidate_s=90)
    assert expired_served_s(default, (RouteSettings("a"),)) == 90
    longer = RouteSettings("a", stale_if_error_s=86_400, stale_while_revalidate_s=0)
    assert expired_served_s(default, (longer, RouteSettings("b"))) == 86_400


def test_records_are_kept_apart_by_scope_route_and_class() -> None:
    rules = route("gpt-4o", ROUTES, CacheSettings())
    assert kind_of(Scope("tenant:a"), rules, PromptClass.SEMANTIC) == "tenant:a|gpt-4*|semantic"
    default = route("other", ROUTES, CacheSettings())
    assert kind_of(Scope("shared"), default, PromptClass.THREAD_SCOPED) == "shared|*|thread-scoped"
