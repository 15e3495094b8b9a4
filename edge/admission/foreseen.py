"""How long an answer will be, before it is there: as nine in ten of its route's last ones were."""

from bisect import insort
from collections import deque

LAST = 64
"""Answers that a route is judged by."""
UNKNOWN_TOKENS = 512
"""Taken for the length of a route's first answers."""
CHARS_A_TOKEN = 4
"""English, of most tokenizers."""
_PERCENTILE = 0.9


class Foreseen:
    """Lengths of answers in tokens, by route: the operator names those, so they are few."""

    def __init__(self) -> None:
        self._last: dict[str, deque[int]] = {}
        self._sorted: dict[str, list[int]] = {}

    def tokens(self, route: str, most: int | None) -> int:
        """Of the next answer, of which the client wants `most`; None: any number."""
        known = self._sorted.get(route)
        usual = known[int(_PERCENTILE * (len(known) - 1))] if known else UNKNOWN_TOKENS
        return usual if most is None else min(usual, most)

    def note(self, route: str, tokens: int) -> None:
        """An answer had so many."""
        last = self._last.setdefault(route, deque())
        ordered = self._sorted.setdefault(route, [])
        last.append(tokens)
        insort(ordered, tokens)
        if len(last) > LAST:
            ordered.remove(last.popleft())
