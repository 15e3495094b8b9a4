"""So many in so much time, for as many sources as there are: GCRA, one number for each source.

Whoever was heard of longest ago is forgotten first. That gives back what they had used, which is
little: with as many others in between, they would have got most of it back by waiting.
"""

from collections import OrderedDict

from edge.admission.rate import Limit, late_s
from edge.admission.source import WIDER, Source

SOURCES_MAX = 100_000
"""Remembered by each table: some 20 MB."""


class Rates:
    def __init__(self, per_minute: int, sources_max: int = SOURCES_MAX) -> None:
        """0: no limit."""
        self._limits = {n: Limit(per_minute * n) for n in (1, WIDER)} if per_minute else {}
        self._sources_max = sources_max
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at)

    def wait_s(self, source: Source, now: float) -> float:
        """How long until there is one for `source`; 0: now."""
        longest_s = 0.0
        if self._limits:
            for name, share in source.shares:
                full_at = self._full_at.get(name, now)
                longest_s = max(longest_s, late_s(self._limits[share], full_at, 1, now))
        return longest_s

    def spend(self, source: Source, now: float, share: float = 0.0) -> None:
        """Use one up, or that share of what there is in a minute, whether or not it was there."""
        if not self._limits:
            return
        for name, wider in source.shares:
            limit = self._limits[wider]
            full_at = self._full_at.pop(name, now)
            used_s = share * limit.window_s or limit.interval_s
            self._full_at[name] = max(full_at, now) + used_s
        while len(self._full_at) > self._sources_max:
            self._full_at.popitem(last=False)
