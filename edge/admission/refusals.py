"""What whoever is refused is told: whose limit it is, when to come back, and what to do.

429 says that a limit of the plan is reached, 503 that this node is busy. `Retry-After` is what the
meter or the queue foresees, times 1 to 1.5: were all told the same, all would come back at once.
`RateLimit` and `RateLimit-Policy` are those of draft-ietf-httpapi-ratelimit-headers-10, and
`x-ratelimit-*` is written as OpenAI writes it, as that is what clients read.
"""

from collections.abc import Iterator
from math import ceil, isfinite

from edge.admission.plans import Exceeded, Usage, What
from edge.admission.shares import SharedMeter
from edge.errors import Busy, OverQuota, after_s
from edge.request import Fields
from index.entry import Instant

NEVER = ("x-should-retry", "false")
"""The field that says that no waiting helps."""


def over_quota(exceeded: Exceeded, usage: Usage, draw: float, now: Instant) -> OverQuota:
    """`draw` is from [0, 1)."""
    plan = usage.plan.name
    fields = (*standard(usage, now, exceeded), *customary(usage, now, exceeded))
    if not isfinite(exceeded.wait_s):
        return OverQuota(
            f"This prompt has about {exceeded.asked:.0f} tokens, and the plan {plan!r} allows "
            f"{_amount(exceeded)}: it will never fit. Shorten it.",
            fields=(*fields, NEVER),
        )
    wait_s = after_s(exceeded.wait_s, draw)
    return OverQuota(
        f"The plan {plan!r} allows {_amount(exceeded)}, and {_lack(exceeded)}. "
        f"Try again in {wait_s} s{_ADVICE[exceeded.what]}.",
        code="concurrency_limit_exceeded" if exceeded.what == "concurrency" else None,
        retry_after_s=wait_s,
        fields=fields,
    )


def busy(why: str, drain_s: float, draw: float, usage: Usage | None, now: Instant) -> Busy:
    """`drain_s` is how long those who wait will take."""
    wait_s = after_s(drain_s, draw)
    return Busy(
        f"{why} Try again in {wait_s} s; answers that are stored are served all the same.",
        retry_after_s=wait_s,
        fields=customary(usage, now) if usage is not None else (),
    )


def standard(usage: Usage, now: Instant, exceeded: Exceeded) -> Fields:
    """`RateLimit-Policy` and `RateLimit`: structured fields, a list of named limits each."""
    policies, states = [], []
    for what, meter in _meters(usage):
        limit, left = meter.limit, _left(what, meter, now, exceeded)
        policies.append(f'"{_NAMES[what]}";q={limit.units:.0f};w={limit.window_s:.0f}')
        states.append(f'"{_NAMES[what]}";r={left};t={ceil(meter.reset_s(now))}')
    if not policies:
        return ()
    return ("ratelimit-policy", ", ".join(policies)), ("ratelimit", ", ".join(states))


def customary(usage: Usage, now: Instant, exceeded: Exceeded | None = None) -> Fields:
    """The fields that OpenAI's API has: limit, what remains, and when all is there again."""
    fields: list[tuple[str, str]] = []
    for what, meter in _meters(usage):
        if what != "tokens_day":
            fields += (
                (f"x-ratelimit-limit-{what}", f"{meter.limit.units:.0f}"),
                (f"x-ratelimit-remaining-{what}", str(_left(what, meter, now, exceeded))),
                (f"x-ratelimit-reset-{what}", duration(meter.reset_s(now))),
            )
    return tuple(fields)


def duration(seconds: float) -> str:
    """As Go writes it and OpenAI does: 120ms, 1.5s, 6m0s, 1h0m0s."""
    millis = ceil(seconds * 1000 - 1e-6)
    if millis < 1000:
        return f"{millis}ms"
    minutes, rest = divmod(millis, 60_000)
    hours, minutes = divmod(minutes, 60)
    whole = f"{rest / 1000:.3f}".rstrip("0").rstrip(".")
    if hours:
        return f"{hours}h{minutes}m{whole}s"
    return f"{minutes}m{whole}s" if minutes else f"{whole}s"


def _meters(usage: Usage) -> Iterator[tuple[What, SharedMeter]]:
    if usage.requests is not None:
        yield "requests", usage.requests
    if usage.tokens is not None:
        yield "tokens", usage.tokens
    if usage.day is not None:
        yield "tokens_day", usage.day


def _left(what: What, meter: SharedMeter, now: Instant, exceeded: Exceeded | None) -> int:
    """What remains. Of what is refused that is less than was asked for, though other nodes may have
    more: whoever reads that it would be enough asks again at once."""
    left = meter.left(now)
    if exceeded is None or exceeded.what != what:
        return left
    return min(left, ceil(exceeded.asked) - 1)


def _amount(exceeded: Exceeded) -> str:
    amount = f"{exceeded.limit:.0f} {_PER[exceeded.what]}"
    return amount.replace("requests", "request") if exceeded.limit == 1 else amount


def _lack(exceeded: Exceeded) -> str:
    """Why there is none for this one."""
    if exceeded.what == "concurrency":
        return "as many are under way"
    if exceeded.part:
        return "this node's part of that is used up"
    if exceeded.what == "requests":
        return "that is used up"
    return f"less is left than the about {exceeded.asked:.0f} that this one may take"


_NAMES = {"requests": "requests", "tokens": "tokens", "tokens_day": "tokens-per-day"}
_PER = {
    "requests": "requests per minute",
    "tokens": "tokens per minute",
    "tokens_day": "tokens per day",
    "concurrency": "requests at a time",
}
_ADVICE = {
    "requests": "",
    "tokens": ", or send a shorter prompt or a lower max_tokens; stored answers cost no tokens",
    "tokens_day": "; stored answers cost no tokens",
    "concurrency": "",
}
