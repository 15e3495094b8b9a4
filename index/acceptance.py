"""What may be let in of what other nodes say they have fetched."""

from enum import Enum, auto
from math import isfinite

from index.entry import (
    LABEL_CHARS_MAX,
    LABELS_TOLD_MAX,
    TTL_MAX_S,
    Entry,
    NodeName,
    Timestamp,
    Version,
)

AHEAD_MAX_S = 60.0
"""An answer that claims to be made later than this from now was made by a wrong clock."""


class Accepted(Enum):
    """What became of an answer from another node."""

    STORED = auto()
    OLDER = auto()
    """The same answer or a newer one is here."""
    DEAD = auto()
    """It was purged."""
    EXPIRED = auto()
    """So it has, or it is stale by a soft purge."""
    UNFIT = auto()
    """No honest node says such a thing of an answer, or it is too large for this one."""


def fit(entry: Entry, now: Timestamp) -> bool:
    """May an answer say this of itself?"""
    life_s = entry.expires_at - entry.stored_at
    return (
        isfinite(life_s)
        and life_s <= TTL_MAX_S
        and entry.stored_at <= now + AHEAD_MAX_S
        and len(entry.labels) <= LABELS_TOLD_MAX
        and all(len(label) <= LABEL_CHARS_MAX for label in entry.labels)
    )


def order(entry: Entry) -> tuple[Version, NodeName]:
    """Of two answers with one scope and key, the last writer's wins."""
    return entry.version, entry.stored_by
