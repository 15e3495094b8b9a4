"""Who tried too many wrong keys has to wait, twice as long each time.

A key that this node makes has 178 random bits and cannot be guessed. What is kept from guessers is
the keys that operators make up themselves, and the work of refusing.

Somebody else behind the same address must not be locked out with them. So while a source is locked
out, two kinds of keys open all the same: those that nobody can guess, and those that the source had
used before. Any other, right or wrong, gets the same refusal, so guessing on tells nothing.
"""

from collections import OrderedDict
from dataclasses import dataclass

from edge.admission.rate import Limit, late_s
from edge.admission.source import Source
from edge.protection.rates import SOURCES_MAX
from edge.protection.settings import ProtectionSettings


@dataclass(slots=True)
class _Tries:
    full_at: float
    """Of the failures that are allowed: the theoretical arrival time."""
    locked_until: float = float("-inf")
    lock_s: float = 0.0
    """How long it was locked out the last time."""


class Lockout:
    def __init__(self, settings: ProtectionSettings, sources_max: int = SOURCES_MAX) -> None:
        self._settings = settings
        self._sources_max = sources_max
        self._tries: OrderedDict[str, _Tries] = OrderedDict()
        self._used: OrderedDict[tuple[str, int], None] = OrderedDict()
        """Which keys a source has used, by their hashes."""
        self.locked_out = 0
        """How often somebody was."""

    def __len__(self) -> int:
        """Sources that are remembered."""
        return len(self._tries)

    def wait_s(self, source: Source, now: float) -> float:
        """How long `source` is locked out yet; 0: it is not."""
        return max(
            max(tries.locked_until - now, 0.0) if (tries := self._tries.get(name)) else 0.0
            for name, _ in source.shares
        )

    def failed(self, source: Source, now: float) -> float:
        """`source` brought a wrong key. For how long it is locked out by that; 0: it is not."""
        locked_s = 0.0
        for name, share in source.shares:
            tries = self._tries.pop(name, None) or _Tries(now)
            self._tries[name] = tries
            limit = Limit(self._settings.failed_keys_per_minute * share)
            if late_s(limit, tries.full_at, 1, now):
                locked_s = max(locked_s, self._lock(tries, now))
            else:
                tries.full_at = max(tries.full_at, now) + limit.interval_s
        while len(self._tries) > self._sources_max:
            self._tries.popitem(last=False)
        return locked_s

    def _lock(self, tries: _Tries, now: float) -> float:
        again = now < tries.locked_until + tries.lock_s
        lock_s = tries.lock_s * 2 if again else self._settings.lockout_s
        tries.lock_s = min(lock_s, self._settings.lockout_max_s)
        tries.full_at = tries.locked_until = now + tries.lock_s
        self.locked_out += 1
        return tries.lock_s

    def used(self, source: Source, key: int) -> None:
        """`source` brought a right key; `key` is its hash."""
        self._used.pop((source.name, key), None)
        self._used[source.name, key] = None
        if len(self._used) > self._sources_max:
            self._used.popitem(last=False)

    def knows(self, source: Source, key: int) -> bool:
        return (source.name, key) in self._used
