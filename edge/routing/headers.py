"""What an upstream's header fields say of its limits, as providers really write them.

    retry-after: 20 | 1.5 | Wed, 21 Oct 2026 07:28:00 GMT      RFC 9110, 10.2.3; some send fractions
    retry-after-ms: 1500                                       Azure, OpenAI
    x-ratelimit-{limit,remaining,reset}-{requests,tokens}      OpenAI, Azure, Groq
    anthropic-ratelimit-{requests,…}-{limit,remaining,reset}   Anthropic

A reset is a duration (`6m0s`, `12ms`, `2m59.56s`), a bare number of seconds, a Unix time or an RFC
3339 time. Azure says -1 and 0 where it means nothing. What makes no sense is as if it had not been
said: nothing here raises.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime

import durationpy

from index.entry import Timestamp

RETRY_AFTER_S_MAX = 3600.0
"""Longer than any provider asks for in earnest; a mistake must not shut it out for good."""
RESET_S_MAX = 86_400.0
KINDS = ("requests", "tokens", "input-tokens", "output-tokens")
_UNIX_TIME_MIN, _UNIX_MS_MIN = 1e9, 1e12


@dataclass(frozen=True, slots=True)
class Allowance:
    """What is left of one kind."""

    kind: str
    remaining: float
    limit: float | None
    """What there is when nothing is spent, if it says so."""
    resets_in_s: float
    """Until there is as much again."""


@dataclass(frozen=True, slots=True)
class Told:
    """All that one answer's fields say."""

    retry_after_s: float | None = None
    allowances: tuple[Allowance, ...] = ()


def told(headers: Mapping[str, str], wall: Timestamp) -> Told:
    """`headers` is without regard to case; `wall` is the time now."""
    return Told(_retry_after(headers, wall), tuple(_allowances(headers, wall)))


def _retry_after(headers: Mapping[str, str], wall: Timestamp) -> float | None:
    milliseconds = _number(headers.get("retry-after-ms", ""))
    if milliseconds is not None and milliseconds >= 0:
        return min(milliseconds / 1000, RETRY_AFTER_S_MAX)
    text = headers.get("retry-after", "")
    seconds = _number(text)
    if seconds is None:
        # By the sender's own clock where it tells that too: ours may be wrong.
        then, now = _http_date(text), _http_date(headers.get("date", ""))
        seconds = None if then is None else max(0.0, then - (wall if now is None else now))
    if seconds is None or seconds < 0:
        return None
    return min(seconds, RETRY_AFTER_S_MAX)


def _allowances(headers: Mapping[str, str], wall: Timestamp) -> Iterator[Allowance]:
    for kind in KINDS:
        for name in (f"x-ratelimit-{{}}-{kind}", f"anthropic-ratelimit-{kind}-{{}}"):
            remaining = _number(headers.get(name.format("remaining"), ""))
            limit = _number(headers.get(name.format("limit"), ""))
            if remaining is None or remaining < 0 or (limit is not None and limit <= 0):
                continue
            if remaining == 0 and limit is None:  # Azure's way to say that it does not count
                continue
            resets_in_s = _until(headers.get(name.format("reset"), ""), wall)
            yield Allowance(kind, remaining, limit, 60.0 if resets_in_s is None else resets_in_s)


def _until(text: str, wall: Timestamp) -> float | None:
    """Seconds until a reset, however it is written."""
    number = _number(text)
    if number is not None:
        if number >= _UNIX_TIME_MIN:
            number = number / (1000 if number >= _UNIX_MS_MIN else 1) - wall
        return min(max(0.0, number), RESET_S_MAX)
    try:
        if text[:4].isdecimal() and text[4:5] == "-":
            moment = datetime.fromisoformat(text)
            return min(max(0.0, moment.timestamp() - wall), RESET_S_MAX)
        return min(max(0.0, durationpy.from_str(text.strip()).total_seconds()), RESET_S_MAX)
    except (ValueError, OverflowError):
        return None


def _number(text: str) -> float | None:
    """A decimal number; not `nan`, `1e9` or `1_000`, which Python would take."""
    text = text.strip()
    if not text.isascii() or not text.removeprefix("-").replace(".", "", 1).isdecimal():
        return None
    return float(text[:20])


def _http_date(text: str) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return None
