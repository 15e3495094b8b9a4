"""The nouns that every part of promptedge shares. No behaviour lives here.

Two clocks, never mixed: a `Timestamp` may be written down and compared between machines,
an `Instant` only measures how long something took here.
"""

from dataclasses import dataclass
from typing import NewType

CacheKey = NewType("CacheKey", bytes)
"""32 bytes: keyed BLAKE2b of scope and canonical request. Never shown to a client."""

PartitionKey = NewType("PartitionKey", bytes)
"""32 bytes: as `CacheKey`, without the last user text, with the encoder."""

Scope = NewType("Scope", str)
"""Who may share an answer: `shared`, or `tenant:NAME`. A hard border, checked on the entry too."""

Timestamp = NewType("Timestamp", float)
"""Wall clock, seconds since the epoch: ages, expiry, what is stored."""

Instant = NewType("Instant", float)
"""Monotonic seconds: timers and durations in this process."""


@dataclass(frozen=True, slots=True)
class Question:
    """The part of a prompt that is compared by meaning, and the border it is compared within."""

    partition: PartitionKey
    text: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A complete upstream answer and what is needed to serve it again."""

    scope: Scope
    key: CacheKey
    model: str
    body: bytes
    """The JSON representation, byte for byte as first served; other forms derive from it."""
    stored_at: Timestamp
    """When the answer was generated, on whichever node: `Age` counts from here."""
    expires_at: Timestamp
    question: Question | None
    """None when the prompt may be matched exactly only."""
    tokens: int = 0
    """What a hit saves: tokens of prompt and answer as the upstream counted them; 0: not told."""


@dataclass(frozen=True, slots=True)
class Purge:
    """What to remove, now. Fields that are None do not narrow; all None is everything."""

    scope: Scope | None = None
    model: str | None = None
    key: CacheKey | None = None

    def covers(self, entry: Entry) -> bool:
        return (
            self.scope in (None, entry.scope)
            and self.model in (None, entry.model)
            and self.key in (None, entry.key)
        )
