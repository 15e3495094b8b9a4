"""What happened, as the simulator knows it, and what must hold of it.

Nothing here asks a node what it believes: who knew of which purge when a fetch began, what an
answer's reach and life are, what was evicted where is written down as it happens. An answer is told
by its body, which is unique, so that no field that a node could get wrong is trusted.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from index.entry import CacheKey, Entry, NodeName, Purge, Purged, Reach, Scope, Version
from sync.roster import Enrolment

Name = tuple[Scope, CacheKey]
NEVER = float("-inf")


class Violation(AssertionError):  # noqa: N818  reads as what it is
    """What must not happen did."""


@dataclass(eq=False, slots=True)
class Act:
    """One purge."""

    purge: Purge
    by: NodeName
    version: Version
    soft: bool
    issued: float
    forgotten: bool = False
    """Its node started from a disk that did not hold it yet."""

    def __repr__(self) -> str:
        kind = "soft purge" if self.soft else "purge"
        what = ", ".join(str(one) for one in (self.purge.scope, self.purge.label) if one)
        return f"{kind} of {what or 'all'}{' by key' * bool(self.purge.key)} by {self.by}"


@dataclass(eq=False, slots=True)
class Fetch:
    """One answer that a node asked its upstream for."""

    number: int
    node: NodeName
    entry: Entry
    """As it was made; its body says which fetch it is of."""
    began: float
    knew: dict[Act, None]
    """What its node had applied when it began."""
    unreached: dict[Act, None] = field(default_factory=dict)
    """Acts that are known not to reach it, whatever is forgotten."""
    published_at: float = NEVER
    """When it was told to others, or was about to be until the power failed."""

    @property
    def name(self) -> Name:
        return self.entry.scope, self.entry.key

    @property
    def order(self) -> tuple[Version, NodeName]:
        return self.entry.version, self.node

    def covered(self, purge: Purge) -> bool:
        entry = self.entry
        labels = (*entry.labels, f"model:{entry.model}", f"by:{self.node}")
        return (
            purge.scope in (None, entry.scope)
            and purge.key in (None, entry.key)
            and (purge.label is None or purge.label in labels)
        )

    def ignorant_of(self, act: Act) -> bool:
        """Does the act reach it: was it asked for before its node knew?"""
        if act in self.unreached:
            return False
        # Who knew of a later one of the same node set out after this one, too.
        if not self.covered(act.purge) or any(
            one.by == act.by and one.version >= act.version for one in self.knew
        ):
            self.unreached[act] = None
            return False
        # An act that its own node has forgotten may be taken for known elsewhere, as a later one
        # of that node names an earlier one as the one before it. Then only real time counts.
        return not act.forgotten or self.began < act.issued


@dataclass(slots=True)
class Known:
    """What the simulator knows of one node."""

    enrolment: Enrolment
    acts: dict[Act, None] = field(default_factory=dict)
    """Applied, and remembered."""
    ever: dict[Act, None] = field(default_factory=dict)
    """Applied once, whatever became of its disk since."""
    revoked: dict[NodeName, None] = field(default_factory=dict)
    """Nodes that it was told are revoked."""
    shown: dict[Name, Fetch] = field(default_factory=dict)
    """What was last seen there, and did not leave since."""
    evicted: dict[Name, None] = field(default_factory=dict)
    regained: dict[bytes, None] = field(default_factory=dict)
    """Bodies of what came back with a restart: who joined meanwhile never had it."""
    log_lost_at: float = NEVER
    """When its log last lost what others had told it."""
    newest: dict[Name, Fetch] = field(default_factory=dict)
    """Held once, in place of what was older."""

    def may_keep(self, fetch: Fetch) -> bool:
        if fetch.node == self.enrolment.name:
            return True
        reach: Reach = fetch.entry.reach
        return ("*" in reach or self.enrolment.region in reach) and (
            "*" in self.enrolment.scopes or fetch.entry.scope in self.enrolment.scopes
        )


class Facts:
    def __init__(self) -> None:
        self.nodes: dict[NodeName, Known] = {}
        self.fetches: dict[bytes, Fetch] = {}
        """By body."""
        self.acts: dict[tuple[NodeName, Version, Purge, bool], Act] = {}
        self.revoked: dict[NodeName, None] = {}

    def know(self, enrolment: Enrolment) -> None:
        self.nodes[enrolment.name] = Known(enrolment)

    # What happens.

    def merged(self, node: NodeName, purged: Purged, now: float) -> Act:
        """A node applied a purge."""
        name = (purged.by, purged.version, purged.purge, purged.soft)
        act = self.acts.get(name)
        if act is None:
            if purged.by != node:
                raise Violation(f"{node} applied a purge that nobody made")
            act = Act(purged.purge, purged.by, purged.version, purged.soft, now)
            self.acts[name] = act
        for one in self.alike(act):
            if one.version <= act.version:  # the later one says it all
                self.nodes[node].acts[one] = self.nodes[node].ever[one] = None
        return act

    def alike(self, act: Act) -> Iterator[Act]:
        for other in self.acts.values():
            if (other.by, other.purge, other.soft) == (act.by, act.purge, act.soft):
                yield other

    def fetched(self, fetch: Fetch) -> None:
        self.fetches[fetch.entry.body] = fetch

    def stored(self, node: NodeName, name: Name, entry: Entry) -> None:
        """A node holds an answer in place of what it held."""
        fetch, newest = self.fetches.get(entry.body), self.nodes[node].newest
        if fetch is not None and (name not in newest or newest[name].order < fetch.order):
            newest[name] = fetch

    def left(self, node: NodeName, name: Name, *, evicted: bool) -> None:
        """An answer left a node: what comes next may be older."""
        known = self.nodes[node]
        known.shown.pop(name, None)
        if evicted:
            known.evicted[name] = None

    # What must hold at any time.

    def accepted(self, node: NodeName, entry: Entry) -> None:
        """A node keeps what another told it."""
        fetch = self.fetches.get(entry.body)
        if fetch is not None and fetch.node in self.nodes[node].revoked:
            raise Violation(f"{node} took {fetch.number} of a node that was revoked")

    def confirmed(self, act: Act, node: NodeName) -> None:
        """Whoever made a purge takes it for applied by a node."""
        if act not in self.nodes[node].ever and not act.forgotten:
            raise Violation(f"{node} confirmed the {act} {act.version} and has not applied it")

    def check(self, node: NodeName, name: Name, entry: Entry, wall: float) -> None:
        """This is what the node would answer now."""
        known = self.nodes[node]
        fetch = self.fetches.get(entry.body)
        if fetch is None:
            raise Violation(f"{node} holds an answer that nobody fetched")
        if fetch.name != name or (entry.scope, entry.key) != name:
            raise Violation(f"{node} answers {name} with what was fetched for {fetch.name}")
        if not known.may_keep(fetch):
            raise Violation(f"{node} holds an answer of reach {fetch.entry.reach} {fetch.name[0]}")
        made = fetch.entry
        if (entry.stored_at, entry.expires_at) != (made.stored_at, made.expires_at):
            raise Violation(f"{node} gave {fetch.number} another life")
        if made.expires_at <= wall:
            raise Violation(f"{node} holds {fetch.number}, which has expired")
        for act in known.acts:
            if fetch.ignorant_of(act):
                raise Violation(f"{node} holds {fetch.number} after the {act}")
        before = known.shown.get(name)
        there = before is not None and before.entry.expires_at > wall  # and not swept
        if before is not None and there and fetch.order < before.order:
            raise Violation(f"{node} went back from {before.number} to {fetch.number}")
        known.shown[name] = fetch
