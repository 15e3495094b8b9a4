"""Who may tell whom what: decided by the roster, at the sender and at the receiver alike.

What refuses returns why, in words for a counter, and None when all is well.
"""

from dataclasses import replace
from typing import Final

from index.clock import AHEAD_MAX_S
from index.entry import Entry, NodeName, Purge, Reach, Scope, Timestamp
from sync.frames import Header
from sync.messages import Entries, Kind
from sync.roster import Enrolment, Roster, admits

TTL_MAX_S: Final = 30 * 86_400.0
PURGES_KEPT_S: Final = TTL_MAX_S + 86_400.0
"""Until all that they could cover has expired, and a day more for wrong clocks."""


def may_keep(node: Enrolment | None, scope: Scope, reach: Reach) -> bool:
    """May that node, if it is enrolled, keep others' answers of this scope and reach?"""
    return (
        node is not None and not node.revoked and admits(reach, node.region) and node.admits(scope)
    )


def frame_refused(header: Header, origin: Enrolment | None) -> str | None:
    """May this node say anything at all?

    The purges of one that was revoked still hold: it can no longer say them itself, and of those
    who pass them on some may have applied them before they heard that it was.
    """
    if origin is None:
        return "of a stranger"
    if origin.revoked and header.kind != Kind.PURGED:
        return "of a revoked node"
    return None


def entries_refused(told: Entries, origin: Enrolment, own: Enrolment | None) -> str | None:
    """May this node tell us answers of that scope and reach, and may we keep them?"""
    if not origin.may_publish:
        return "may not publish"
    if not origin.admits(told.scope):
        return "not of a scope it may tell"
    if own is None or not own.admits(told.scope):
        return "not of a scope kept here"
    if not admits(told.reach, own.region):
        return "not to be kept in this region"
    return None


def entry_refused(entry: Entry, header: Header, roster: Roster, wall: Timestamp) -> str | None:
    """Can it be true, and is it of somebody whose word counts?

    An entry's version is read after all that its node had seen, and before the frame that tells of
    it. Who claims to have seen purges of the future would make its answers immune to them.
    """
    by = roster.member(entry.stored_by)
    if by is None or not by.may_publish or not by.admits(entry.scope):
        return "fetched by one who may not publish it"
    if entry.version > header.version or latest(entry) >= entry.version:
        return "of an impossible version"
    if entry.stored_at > wall + AHEAD_MAX_S or entry.expires_at - entry.stored_at > TTL_MAX_S:
        return "of an impossible age"
    return None


def purge_refused(purge: Purge, by: Enrolment) -> str | None:
    """Only who may have a scope's answers may purge them."""
    return None if by.admits(purge.scope) else "a purge beyond its scopes"


def latest(entry: Entry) -> int:
    """The highest reading among the purges it has seen."""
    return max((version for _, version in entry.seen), default=0)


def tellable(entry: Entry, own: Enrolment, roster: Roster) -> Entry | None:
    """An answer as `own` tells it; None if nobody would take it.

    What nobody of this fleet fetched, as it came with a snapshot, or from before the node joined,
    `own` answers for as for what it fetched itself: whoever hears it purges it with either.
    """
    if not own.may_publish or not own.admits(entry.scope):
        return None
    by = roster.get(entry.stored_by)
    if by is None:
        labels = tuple(sorted({*entry.labels, f"by:{entry.stored_by}"}))
        return replace(entry, stored_by=own.name, labels=labels)
    return entry if not by.revoked and by.may_publish and by.admits(entry.scope) else None


def vouched(entry: Entry, by: NodeName) -> Entry:
    """An answer that another node than the one that fetched it tells: purged with either.

    Where there is no room for that label it has one too many, and no index takes it.
    """
    label = f"by:{by}"
    if entry.stored_by == by or label in entry.labels:
        return entry
    return replace(entry, labels=tuple(sorted((*entry.labels, label))))
