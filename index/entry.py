"""The nouns that every part of promptedge shares. No behaviour lives here.

Two clocks, never mixed: a `Timestamp` may be written down and compared between machines,
an `Instant` only measures how long something took here.
"""

from collections.abc import Container
from dataclasses import dataclass
from typing import NewType

CacheKey = NewType("CacheKey", bytes)
"""32 bytes: keyed BLAKE2b of scope and canonical request. Never shown to a client."""

PartitionKey = NewType("PartitionKey", bytes)
"""32 bytes: as `CacheKey`, without the last user text."""

Scope = NewType("Scope", str)
"""Who may share an answer: `shared`, or `tenant:NAME`. A hard border, checked on the entry too."""

SHARED = Scope("shared")

NodeName = NewType("NodeName", str)
"""A node of a fleet: its name and the beginning of its key's hash, such as `fra-1.3f9c2a1b`."""

Version = NewType("Version", int)
"""A hybrid logical clock's reading: milliseconds since the epoch << 16 | counter."""

Seen = tuple[tuple[NodeName, Version], ...]
"""What a node knew of purges: for each node the last of its purges that was applied, by name."""

Reach = tuple[str, ...]
"""The regions that an answer may be kept in; empty: the node that fetched it alone."""

EVERYWHERE: Reach = ("*",)

Timestamp = NewType("Timestamp", float)
"""Wall clock, seconds since the epoch: ages, expiry, what is stored."""

Instant = NewType("Instant", float)
"""Monotonic seconds: timers and durations in this process."""

TTL_MAX_S = 30 * 86_400.0
"""No answer is kept longer, so that a purge need not be remembered for ever."""

LABELS_MAX = 64
"""What one answer may be purged by, as whoever stores it says."""
LABELS_TOLD_MAX = LABELS_MAX + 32
"""The same with the labels of the nodes that told it on, one after another."""
LABEL_CHARS_MAX = 128


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
    stored_by: NodeName = NodeName("")
    """The node that fetched it."""
    version: Version = Version(0)
    """Of two answers with one scope and key the higher (version, stored_by) wins."""
    seen: Seen = ()
    """The purges that its node had applied when the fetch began; any other that covers it kills."""
    reach: Reach = ()
    labels: tuple[str, ...] = ()
    """What it may be purged by, sorted, besides model and node (cache groups, RFC 9875)."""
    pinned: bool = False
    """Put here on purpose, by a warm-up job: kept until it expires."""

    def has(self, label: str) -> bool:
        """May it be purged by `label`? Every entry has that of its model and of its node."""
        return label in self.labels or label in (f"model:{self.model}", f"by:{self.stored_by}")


@dataclass(frozen=True, slots=True)
class Hint:
    """A question's vector as another node's encoder made it: for finding, not for believing."""

    encoder: str
    """Its fingerprint; of use to who has the same."""
    codes: bytes
    """One signed byte a dimension (`index.codes`)."""


@dataclass(frozen=True, slots=True)
class Purge:
    """What to remove, now. Fields that are None do not narrow; all None is everything."""

    scope: Scope | None = None
    label: str | None = None
    """One of the entry's own, `model:NAME`, or `by:NODE` for what that node fetched."""
    key: CacheKey | None = None

    def covers(self, entry: Entry) -> bool:
        return (
            self.scope in (None, entry.scope)
            and self.key in (None, entry.key)
            and (self.label is None or entry.has(self.label))
        )


@dataclass(frozen=True, slots=True)
class Purged:
    """One act of purging, as every node of a fleet may hear of it, in any order, any number of
    times."""

    purge: Purge
    by: NodeName
    version: Version
    """Of `by`'s clock: compared with purges of the same node only."""
    previous: Version = Version(0)
    """The purge of that node before this one; who has not seen it has a gap."""
    soft: bool = False
    """Mark stale rather than remove."""
    foreign_to: Container[NodeName] | None = None
    """The nodes of this fleet, if it is of another: they did not note it when fetching. What they
    fetched well after it, by the clocks, it does not cover."""

    def reaches(self, entry: Entry) -> bool:
        """Does it cover an entry whose node had not applied it when the fetch began?"""
        return self.purge.covers(entry) and self.version > dict(entry.seen).get(self.by, 0)
