"""Which upstream fails so much more than the others that it is left out for a while.

The breaker sees one that is down. One that fails a third of its requests never opens it, and each
failure costs a retry. Whether a share is too much only the others can tell: when all fail alike,
the fault is elsewhere, and leaving any out would only crowd the rest. At most half are left out.
"""

from collections.abc import Sequence
from statistics import median

from edge.routing.upstream import Upstream
from index.entry import Instant

REQUESTS_MIN = 20
"""Of the others, lately: what they did before a trouble began says nothing of whether they share
it."""
SHARE_MIN = 0.1
TIMES_OTHERS = 3.0
EJECTED_S = 30.0
EJECTED_S_MAX = 300.0
FORGIVEN_S = 600.0


def eject(one: Upstream, everybody: Sequence[Upstream], now: Instant) -> bool:
    """Leave `one` out if it is an outlier. Called after a failure of it."""
    if now < one.ejected_until:
        return False  # what was under way when it was left out
    if not (_fails_more(one, everybody, now) and _others_remain(one, everybody, now)):
        return False
    if now - one.ejected_until > FORGIVEN_S:
        one.ejections = 0
    one.ejections += 1
    one.ejected_until = Instant(now + min(EJECTED_S * one.ejections, EJECTED_S_MAX))
    one.breaker.recovered_at = one.ejected_until
    return True


def _fails_more(one: Upstream, everybody: Sequence[Upstream], now: Instant) -> bool:
    shares = [
        other.record.share_bad
        for other in everybody
        if other is not one and other.record.requests(now) >= REQUESTS_MIN
    ]
    if not shares:
        return False
    return one.record.share_bad > max(SHARE_MIN, TIMES_OTHERS * median(shares))


def _others_remain(one: Upstream, everybody: Sequence[Upstream], now: Instant) -> bool:
    out = [o for o in everybody if o is one or now < o.ejected_until or not o.breaker.closed]
    return 2 * len(out) <= len(everybody)
