"""What providers write of their limits, as they really write it; and nothing else raises."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.routing.headers import KINDS, RESET_S_MAX, RETRY_AFTER_S_MAX, Told, told
from index.entry import Timestamp

NOW = Timestamp(1_790_000_000.0)  # Mon, 21 Sep 2026 14:13:20 GMT


def waits(**fields: str) -> float | None:
    return told({k.replace("_", "-"): v for k, v in fields.items()}, NOW).retry_after_s


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        *(("20", 20), ("0", 0), ("1.5", 1.5), (" 7 ", 7), ("99999999", RETRY_AFTER_S_MAX)),
        ("Mon, 21 Sep 2026 14:13:50 GMT", 30),
        ("Monday, 21-Sep-26 14:13:50 GMT", 30),
        ("Mon Sep 21 14:13:50 2026", 30),
        ("Mon, 21 Sep 2026 14:13:00 GMT", 0),
        ("Thu, 01 Jan 2099 00:00:00 GMT", RETRY_AFTER_S_MAX),
        *(("-1", None), ("soon", None), ("", None), ("nan", None), ("1e3", None), ("\u0663", None)),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str, seconds: float | None) -> None:
    assert waits(retry_after=value) == seconds


def test_a_date_is_read_by_the_clock_of_who_wrote_it() -> None:
    """An hour off, it still means half a minute."""
    then, now = "Mon, 21 Sep 2026 15:13:50 GMT", "Mon, 21 Sep 2026 15:13:20 GMT"
    assert waits(retry_after=then, date=now) == 30


def test_milliseconds_are_preferred_where_they_are_said() -> None:
    assert waits(retry_after_ms="1500", retry_after="2") == 1.5
    assert waits(retry_after_ms="-1", retry_after="2") == 2


def one(headers: dict[str, str]) -> Any:
    (allowance,) = told(headers, NOW).allowances
    return allowance.remaining, allowance.limit, allowance.resets_in_s


@pytest.mark.parametrize(
    ("reset", "seconds"),
    [
        *(("6m0s", 360), ("12ms", 0.012), ("1s", 1), ("2m59.56s", 179.56), ("1h0m1s", 3601)),
        *(("59.7s", 59.7), ("10", 10), ("0", 0), ("0s", 0), ("999999h", RESET_S_MAX)),
        *(("1790000030", 30), ("1790000030000", 30), ("1700000000", 0)),
        *(("2026-09-21T14:13:50Z", 30), ("2026-09-21T14:13:50+00:00", 30)),
        *(("", 60), ("soon", 60), ("6x", 60), ("2026-99-99T00:00:00Z", 60)),
    ],
)
def test_a_reset_is_a_duration_a_number_or_a_time(reset: str, seconds: float) -> None:
    fields = {
        "x-ratelimit-limit-requests": "100",
        "x-ratelimit-remaining-requests": "99",
        "x-ratelimit-reset-requests": reset,
    }
    assert one(fields) == (99, 100, pytest.approx(seconds))


def test_what_openai_says() -> None:
    fields = {
        "x-ratelimit-limit-requests": "10000",
        "x-ratelimit-limit-tokens": "2000000",
        "x-ratelimit-remaining-requests": "9999",
        "x-ratelimit-remaining-tokens": "1999984",
        "x-ratelimit-reset-requests": "6ms",
        "x-ratelimit-reset-tokens": "0s",
    }
    requests, tokens = told(fields, NOW).allowances
    assert (requests.kind, requests.remaining, requests.limit) == ("requests", 9999, 10_000)
    assert (tokens.kind, tokens.remaining, tokens.limit) == ("tokens", 1_999_984, 2_000_000)


def test_what_anthropic_says() -> None:
    fields = {}
    for kind, left in zip(KINDS, (49, 9_000, 8_000, 1_000), strict=True):
        fields[f"anthropic-ratelimit-{kind}-limit"] = "10000"
        fields[f"anthropic-ratelimit-{kind}-remaining"] = str(left)
        fields[f"anthropic-ratelimit-{kind}-reset"] = "2026-09-21T14:14:20Z"
    found = told(fields, NOW).allowances
    assert [(a.kind, a.remaining, a.resets_in_s) for a in found] == [
        ("requests", 49, 60),
        ("tokens", 9_000, 60),
        ("input-tokens", 8_000, 60),
        ("output-tokens", 1_000, 60),
    ]


@pytest.mark.parametrize(
    ("limit", "remaining"), [("-1", "-1"), ("0", "0"), ("-1", "5"), (None, "-1"), (None, "0")]
)
def test_what_azure_says_where_it_means_nothing(limit: str | None, remaining: str) -> None:
    fields = {"x-ratelimit-remaining-tokens": remaining}
    if limit is not None:
        fields["x-ratelimit-limit-tokens"] = limit
    assert told(fields, NOW) == Told()


def test_what_is_left_may_come_without_its_limit() -> None:
    assert one({"x-ratelimit-remaining-requests": "119"}) == (119, None, 60)


def test_a_server_that_says_nothing() -> None:
    assert told({}, NOW) == Told()


NAMES = ["retry-after", "retry-after-ms", "date"] + [
    name
    for kind in KINDS
    for field in ("limit", "remaining", "reset")
    for name in (f"x-ratelimit-{field}-{kind}", f"anthropic-ratelimit-{kind}-{field}")
]
VALUES = st.one_of(
    st.text(max_size=40),
    st.from_regex(r"[-+0-9.]{0,20}(ns|us|ms|s|m|h|d|y){0,3}", fullmatch=True),
    st.from_regex(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]{0,15}(Z|[-+][0-9:]{0,6})", fullmatch=True),
    st.from_regex(
        r"[A-Z][a-z]{2}, [0-9]{1,3} [A-Z][a-z]{2} [0-9]{1,6} [0-9:]+ \w+", fullmatch=True
    ),
)


@given(st.dictionaries(st.sampled_from(NAMES), VALUES))
def test_whatever_is_said_the_numbers_are_in_bounds(fields: dict[str, Any]) -> None:
    found = told(fields, NOW)
    assert found.retry_after_s is None or 0 <= found.retry_after_s <= RETRY_AFTER_S_MAX
    for allowance in found.allowances:
        assert allowance.remaining >= 0
        assert allowance.limit is None or allowance.limit > 0
        assert 0 <= allowance.resets_in_s <= RESET_S_MAX
