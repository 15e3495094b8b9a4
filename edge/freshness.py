"""May a stored answer be served as it is now, fresh or expired?

The operator says how long after it expired an answer may be served, and why: while it is fetched
anew (stale-while-revalidate), or as there is no better one (stale-if-error; RFC 5861). Whoever asks
may narrow that (`max-age`, `max-stale`, `min-fresh`; RFC 9111, 5.2.1). Only the very request is
answered so, never one that means the same: that it still would is not known of what has expired.
"""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Executor

from edge.ask import Query
from index.answers import Answers
from index.entry import SHARED, CacheKey, Entry, Scope, Timestamp

CLOCK_SKEW_S = 60.0


def young_enough(query: Query, entry: Entry, now: Timestamp) -> bool:
    """Does the entry satisfy the request's own `max-age`, `min-fresh` and `max-stale`?

    One from the future was stored while the clock was wrong: nobody knows how old it is.
    """
    wishes = query.allowed
    age_s, left_s = now - entry.stored_at, entry.expires_at - now
    if age_s < -CLOCK_SKEW_S or (wishes.age_max_s is not None and age_s > wishes.age_max_s):
        return False
    return left_s >= wishes.fresh_min_s if left_s > 0 else -left_s <= wishes.stale_max_s


def places(query: Query) -> Iterator[tuple[Scope, CacheKey]]:
    """Where an answer to this very request may lie."""
    yield query.scope, query.key
    if query.shared_key is not None:
        yield SHARED, query.shared_key


class Expired:
    """Finds what has expired and was not purged."""

    def __init__(self, answers: Answers, reader: Executor, wall: Callable[[], Timestamp]) -> None:
        self._answers = answers
        self._reader = reader
        self._wall = wall

    async def find(self, query: Query, limit_s: float) -> Entry | None:
        """The answer to a request, if it is no longer expired than `limit_s` and than the request
        itself allows."""
        if not limit_s or not query.allowed.lookup:
            return None
        for scope, key in places(query):
            found = await asyncio.get_running_loop().run_in_executor(
                self._reader, self._answers.stale, scope, key
            )
            now = self._wall()
            if found and now - found.expires_at <= limit_s and young_enough(query, found, now):
                return found
        return None
