"""What an upstream refused for the request's own sake, said again for some seconds (RFC 9111, 4.2.2
allows it): a prompt that is too long is so the next time as well, and clients in a loop ask often.

Kept is what follows from the request alone: 400, 404, 413 and 422, unless the words speak of the
account, of money or of now, and only while all upstreams that it could go to are well, as another
might have taken it (`Trip.unanimous`). It is kept for the tenant and the very bytes of the request,
in memory: what is in no key, as it changes no answer, may be what was refused. And any purge ends
all of it: nobody should have to wonder.
"""

import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b

from edge import status
from edge.ask import Query
from edge.errors import ClientError
from index.entry import CacheKey, Instant, Scope

KEPT_MAX = 4_096
CHARS_MAX = 2_000
"""Of a message; a longer one repeats the prompt."""
STATUSES = frozenset({400, 404, 413, 422})

_OF_SOMETHING_ELSE = re.compile(
    r"account|api.?key|authenti|balance|billing|capacity|credit|currently|loading|organi[sz]ation"
    r"|overload|permission|quota|rate.?limit|region|temporar|time.?out|try again|verif",
    re.IGNORECASE,
)
_Name = tuple[Scope, CacheKey, bool, tuple[str, ...] | None]


@dataclass(frozen=True, slots=True)
class _Kept:
    error: ClientError
    digest: bytes
    """Of the request's body."""
    since: Instant
    purges: int


def lasting(error: ClientError) -> bool:
    """Would an upstream say that of this request again?"""
    words = f"{error.code} {error.param} {error.message}"
    return (
        error.by_upstream
        and error.status in STATUSES
        and len(words) <= CHARS_MAX
        and not _OF_SOMETHING_ELSE.search(words)
    )


class Negative:
    def __init__(self, node: str, ttl_s: float, purges: Callable[[], int]) -> None:
        """`purges` grows with every purge."""
        self._node = node
        self._ttl_s = ttl_s
        self._purges = purges
        self._kept: OrderedDict[_Name, _Kept] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, query: Query, error: ClientError, now: Instant, purges: int) -> None:
        """An upstream refused a request; `purges` is how many there were when it was asked."""
        if self._ttl_s and query.allowed.store and lasting(error):
            self._kept[_name(query)] = _Kept(error, _digest(query), now, purges)
            self._kept.move_to_end(_name(query))
            if len(self._kept) > KEPT_MAX:
                self._kept.popitem(last=False)

    def find(self, query: Query, now: Instant) -> ClientError | None:
        """What was said of this very request, if that was a moment ago."""
        kept = self._kept.get(_name(query)) if query.allowed.lookup else None
        if kept is None:
            return None
        age_s, wishes = now - kept.since, query.allowed
        if age_s >= self._ttl_s or kept.purges != self._purges():
            del self._kept[_name(query)]
            return None
        if wishes.age_max_s is not None and age_s > wishes.age_max_s:
            return None
        if self._ttl_s - age_s < wishes.fresh_min_s or kept.digest != _digest(query):
            return None
        error = kept.error
        hit = status.hit(self._node, self._ttl_s - age_s, "negative")
        fields = (("cache-status", hit), ("age", str(int(age_s))))
        return ClientError(
            error.message, status=error.status, code=error.code, param=error.param, fields=fields
        )


def _name(query: Query) -> _Name:
    return query.scope, query.key, query.call.stream, query.regions


def digest(body: bytes) -> bytes:
    return blake2b(body, digest_size=16).digest()


def _digest(query: Query) -> bytes:
    return query.digest or digest(query.body)
